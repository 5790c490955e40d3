"""Where the time of `make run` goes: the whole pipeline in a fresh clone, then again with nothing to do.

    python -m benchmarks.pipeline

Writes benchmarks/results/pipeline.json. The environment is installed already; installing it is not measured.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks import harness
from tasks.pipeline import STAGES

FINISHED = re.compile(r"Task run '(\w+)' - Finished in state (\w+)")


def measured(project: Path, environment: dict[str, str]) -> dict[str, float]:
    """Seconds of each stage of one `stipple run`, of its start (imports, server) and of the whole."""
    began = last = time.perf_counter()
    seconds: dict[str, float] = {}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(["stipple", "run"], cwd=project, env=environment, **pipe) as process:
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
        project = harness.clone(Path(folder) / "clone")
        environment = harness.prefect_environment(Path(folder) / "prefect", project)
        runs = {name: measured(project, environment) for name in ("first run", "nothing to do")}
    harness.write("pipeline", {"seconds": runs}, "transformers", "prefect", "dvc")
    for name in ("start", *STAGES, "all"):
        print(f"{name:12}" + "".join(f"{run[name]:8.1f} s" for run in runs.values()))


if __name__ == "__main__":
    main()
