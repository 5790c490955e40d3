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

FINISHED = re.compile(r"(\w+): .*?(?:(\d+) min )?([\d.]+) s$")


def measured(project: Path, environment: dict[str, str]) -> dict[str, float]:
    """Seconds of each stage of one `stipple run`, of the whole, and of the rest: start and end (imports, server)."""
    began = time.perf_counter()
    seconds: dict[str, float] = {}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(["stipple", "run"], cwd=project, env=environment, **pipe) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if (found := FINISHED.match(line.strip())) and found[1] in STAGES:
                seconds[found[1]] = 60 * int(found[2] or 0) + float(found[3])
    if process.returncode:
        raise SystemExit(f"`stipple run` ended with {process.returncode}")
    took = time.perf_counter() - began
    whole = {"start": took - sum(seconds.values()), **seconds, "all": took}
    return {name: round(value, 1) for name, value in whole.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = harness.clone(Path(folder) / "clone")
        environment = harness.prefect_environment(Path(folder) / "prefect", project)
        runs = {name: measured(project, environment) for name in ("first run", "nothing to do")}
    harness.write("pipeline", {"seconds": runs}, "transformers", "prefect", "dvc")
    for name in ("start", *STAGES, "all"):
        print(f"{name:12}" + "".join(f"{run.get(name, 0):8.1f} s" for run in runs.values()))


if __name__ == "__main__":
    main()
