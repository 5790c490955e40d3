"""Where the time of `make run` goes: the whole pipeline in a fresh clone, then again with nothing to do.

    python -m benchmarks.pipeline

Writes benchmarks/results/pipeline.json. The environment is installed already; installing it is not measured.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "pipeline.json"
STAGES = ("frames", "points", "captions", "summaries", "embeddings", "dataset", "train", "evaluate", "draw")
FINISHED = re.compile(r"Task run '(\w+)' - Finished in state (\w+)")


def measured(project: Path, environment: dict[str, str]) -> dict[str, float]:
    """Seconds of each stage of one `stipple run`, of its start (imports, server) and of the whole."""
    began = last = time.perf_counter()
    seconds: dict[str, float] = {}
    command = [str(Path(sys.executable).parent / "stipple"), "run"]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=project, env=environment, **pipe) as process:
        assert process.stdout is not None
        for line in process.stdout:
            now = time.perf_counter()
            if "Beginning flow run" in line and not seconds:
                seconds["start"], last = now - began, now
            elif (found := FINISHED.search(line)) and found[1] in STAGES:
                seconds[found[1]], last = now - last, now
    if process.returncode:
        raise SystemExit(f"`stipple run` ended with {process.returncode}")
    return {name: round(value, 1) for name, value in {**seconds, "all": time.perf_counter() - began}.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(project)], check=True)
        environment = os.environ | {"PREFECT_HOME": f"{folder}/prefect", "PYTHONPATH": str(project)}
        runs = {name: measured(project, environment) for name in ("first run", "nothing to do")}
    result = {
        "seconds": runs,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {name: version(name) for name in ("torch", "transformers", "prefect", "dvc")},
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    for name in ("start", *STAGES, "all"):
        print(f"{name:12}" + "".join(f"{run[name]:8.1f} s" for run in runs.values()))


if __name__ == "__main__":
    main()
