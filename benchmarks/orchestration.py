"""What Prefect and DVC cost: on top of the stages, a batch, and when there is nothing to do.

    python -m benchmarks.orchestration

The demo in a fresh clone, with a training of 300 steps instead of 3,000: the overhead is the same, its share is larger.
Writes benchmarks/results/orchestration.json. `python -m benchmarks.ordinary` compares with plain Prefect.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import harness
from tasks.project import overrides

SMALLER = {"train.recipes.latent.steps": 300, "evaluate.baseline_steps": 100}
BATCHES = 500
DEPLOYMENTS = ("dataset/dataset", "training/train", "retrain/retrain")


def bare() -> None:
    """The stage functions, one after the other."""
    from tasks import pipeline, settings

    for name in pipeline.STAGES:
        pipeline.compute(name, settings.load(), Path())


def with_dvc() -> None:
    """The same, recorded in DVC."""
    from tasks import pipeline, settings
    from tasks.project import reproduction

    for name in pipeline.STAGES:
        reproduction.reproduce(name, lambda name=name: pipeline.compute(name, settings.load(), Path()))


def with_prefect() -> None:
    """The same, recorded in DVC, as a Prefect flow: what `stipple run` does."""
    from flows.pipeline import pipeline

    pipeline()


def batches() -> dict[str, float]:
    """Milliseconds for a batch that costs nothing, as a Prefect task inside a stage's, and by the bare `map`."""
    from prefect import flow, task

    from flows.stages import as_tasks

    ways: dict[str, Callable] = {"map": map, "prefect": partial(as_tasks, "batch")}
    seconds: dict[str, float] = {}

    def nothing(rows: list[int]) -> list[int]:
        return rows

    @task
    def stage(name: str) -> None:
        done, seconds[name], _ = harness.timed(list, ways[name](nothing, ([n] for n in range(BATCHES))))
        assert len(done) == BATCHES

    @flow
    def stages() -> None:
        for name in ways:
            stage(name)

    stages()
    return {name: round(1000 * took / BATCHES, 3) for name, took in seconds.items()}


def measure(work: str) -> dict[str, Any]:
    found, wall, _ = harness.timed(globals()[work])
    return {"result": found, "seconds": round(wall, 1)}


def child(work: str, project: Path, environment: dict[str, str]) -> dict[str, Any]:
    """`measure` in a process of its own, and the seconds of the whole process."""
    found, wall, _ = harness.timed(harness.child, "benchmarks.orchestration", work, cwd=project, env=environment)
    return found | {"process_s": round(wall, 1)}


def seconds_of(project: Path, environment: dict[str, str], *words: str) -> float:
    _, wall, _ = harness.timed(subprocess.run, words, cwd=project, env=environment, check=True, capture_output=True)
    return round(wall, 1)


@contextmanager
def served(project: Path, environment: dict[str, str]) -> Iterator[str]:
    """`stipple serve-local`; the address of its API."""
    api = f"http://127.0.0.1:{environment['PREFECT_SERVER_API_PORT']}/api"
    log = project.parent / "serve-local.log"
    with log.open("w") as out, subprocess.Popen(
        ["stipple", "serve-local"], cwd=project, env=environment, stdout=out, stderr=out
    ) as process:  # fmt: skip
        try:
            while "Ctrl-C stops" not in log.read_text():
                time.sleep(0.5)
                assert process.poll() is None, log.read_text()
            yield api
        finally:
            process.send_signal(signal.SIGINT)


def deployment_run(api: str, name: str, project: Path, environment: dict[str, str]) -> dict[str, float]:
    """Seconds that a run waited for the worker, took to start, worked, and from the worker's claim to the end."""
    environment = environment | {"PREFECT_API_URL": api}
    done = subprocess.run(
        ["prefect", "deployment", "run", name, "--watch"],
        cwd=project, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    run = done.stdout.partition("UUID: ")[2].split()[0]
    times = {
        state["name"]: datetime.fromisoformat(state["timestamp"])
        for state in json.load(urllib.request.urlopen(f"{api}/flow_run_states/?flow_run_id={run}"))
    }

    def seconds(first: str, last: str) -> float:
        return round((times[last] - times[first]).total_seconds(), 1)

    return {
        "waited": seconds("Scheduled", "Pending"),
        "started": seconds("Pending", "Running"),
        "worked": seconds("Running", "Completed"),
        "claim to end": seconds("Pending", "Completed"),
    }


def main() -> None:
    result: dict[str, Any] = {}

    def keep(name: str, found: Any) -> None:
        result[name] = found
        print(name, json.dumps(found), flush=True)
        harness.write("orchestration", result, "prefect", "dvc")

    with tempfile.TemporaryDirectory() as folder:
        project, fresh = Path(folder) / "clone", harness.clone(Path(folder) / "fresh")
        port = str(harness.free_port())
        environment = harness.prefect_environment(Path(folder) / "prefect", project, PREFECT_SERVER_API_PORT=port)
        overrides.write(fresh, SMALLER)
        runs = {}
        for work in (bare, with_dvc, with_prefect):
            shutil.rmtree(project, ignore_errors=True)
            shutil.copytree(fresh, project)
            runs[work.__name__] = child(work.__name__, project, environment)
        share = {
            name: {f"{work}_over_bare": round(runs[work][name] / runs["bare"][name], 3) for work in runs}
            for name in ("seconds", "process_s")
        }
        keep("demo with a short training", runs | {"share": share})
        keep("milliseconds a batch", child("batches", project, environment)["result"])
        commands: dict[str, Callable[[], float]] = {
            "dvc repro": lambda: seconds_of(project, environment, "dvc", "repro"),
            "stipple run": lambda: seconds_of(project, environment, "stipple", "run"),
        }
        seconds_of(project, environment, "stipple", "retrain")
        nothing: dict[str, Any] = {name: [command() for _ in range(3)] for name, command in commands.items()}
        with served(project, environment) as api:
            for name in DEPLOYMENTS:
                nothing[name] = [deployment_run(api, name, project, environment) for _ in range(3)]
        keep("seconds with nothing to do", nothing)


if __name__ == "__main__":
    harness.start(main, measure)
