"""Where batches are computed makes no difference to a byte: threads, a Dask and a Ray cluster of two workers.

`make clusters` installs what the clusters need; `make test` alone skips them.
"""

import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from flows import runners
from tasks.errors import StippleError
from tasks.pipeline import STAGES
from tests.support.projects import BIN, Environment, digests, edited

FLOW = "from flows.pipeline import dataset\nif __name__ == '__main__': dataset()"
Made = Callable[[str], tuple[dict[str, str], str]]


def needs(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not find_spec(f"prefect_{kind}"), reason=f"prefect-{kind} is not here: `make clusters`")


@pytest.fixture
def project(new_project: Callable[[int], Path]) -> Path:
    return with_small_batches(new_project(2))


def with_small_batches(project: Path) -> Path:
    """Batches so small that two clips make several."""
    with edited(project / "profiles" / "demo.yaml") as profile:
        for model in (profile["captioner"], profile["summarizer"], profile["embedder"]):
            model["batch_size"] = 4
    return project


def started(project: Path, environment: Environment, runner: str) -> subprocess.Popen[str]:
    """The `dataset` flow with a runner."""
    env = environment | {runners.VARIABLE: runner}
    return subprocess.Popen(
        [sys.executable, "-c", FLOW], cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def made(new_project: Callable[[int], Path], environment: Environment) -> Made:
    """The flow of a new project with a runner: the files that it makes, and what it says."""

    def made(runner: str) -> tuple[dict[str, str], str]:
        project = with_small_batches(new_project(2))
        flow = started(project, environment, runner)
        said = flow.communicate()[0]
        assert flow.returncode == 0, said
        return digests(project), said

    return made


@pytest.fixture(scope="module")
def here(made: Made) -> dict[str, str]:
    """The files that the flow makes in its own thread."""
    return made("")[0]


@pytest.mark.parametrize(
    "runner", ["threads", pytest.param("dask", marks=needs("dask")), pytest.param("ray", marks=needs("ray"))]
)
def test_every_runner_makes_the_same_bytes(made: Made, here: dict[str, str], runner: str) -> None:
    files, said = made(runner)
    assert {"dask": "new Dask cluster", "ray": "local Ray instance"}.get(runner, "") in said
    assert said.count("Starting temporary server") == 1
    assert files == here


@pytest.fixture
def cluster(project: Path, environment: Environment) -> Iterator[dict[str, subprocess.Popen]]:
    """A Dask scheduler and two workers of one thread, each a process of its own."""
    quiet = {"cwd": project, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = [f"{BIN}/dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = [f"{BIN}/dask", "worker", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    contact = ["--scheduler-file", str(project / "scheduler.json")]
    names = {"scheduler": scheduler, "worker": worker, "another worker": worker}
    processes = {name: subprocess.Popen(words + contact, **quiet) for name, words in names.items()}
    yield processes
    for process in processes.values():
        process.kill()
        process.wait()


def stored_captions(project: Path) -> int:
    """Read only, so that a look at a run at work never makes the store that the run is about to make."""
    try:
        with closing(sqlite3.connect(f"file:{project}/.stipple/rows.sqlite?mode=ro", uri=True)) as store:
            return store.execute("SELECT count(*) FROM rows WHERE stage = 'captions'").fetchone()[0]
    except sqlite3.OperationalError:  # no store yet
        return 0


@needs("dask")
@pytest.mark.parametrize("victim", ["worker", "scheduler"])
def test_what_is_killed_in_a_cluster_costs_no_stored_row(
    here: dict[str, str], project: Path, environment: Environment, cluster: dict[str, subprocess.Popen], victim: str
) -> None:
    while not (project / "scheduler.json").exists():
        assert cluster["scheduler"].poll() is None, "the scheduler ended by itself"
        time.sleep(0.1)
    flow = started(project, environment, json.loads((project / "scheduler.json").read_text())["address"])
    while flow.poll() is None and not (kept := stored_captions(project)):
        time.sleep(0.02)
    cluster[victim].kill()
    said = flow.communicate()[0]
    if victim == "scheduler":
        assert flow.returncode != 0
        assert "stored batches are kept" in said, said
        flow = started(project, environment, "")
        said = flow.communicate()[0]
        assert int(re.search(r"captions: .* computed, (\d+) reused", said)[1]) >= kept > 0
    assert flow.returncode == 0, said
    assert digests(project) == here


def test_batches_stay_in_the_flows_own_thread_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(runners.VARIABLE, raising=False)
    assert not runners.takes(STAGES["captions"])
    monkeypatch.setenv(runners.VARIABLE, "threads")
    assert runners.takes(STAGES["captions"]) and runners.takes(STAGES["frames"])
    monkeypatch.setenv(runners.VARIABLE, "tcp://127.0.0.1:8786")
    assert runners.takes(STAGES["captions"]) and not runners.takes(STAGES["frames"])


@pytest.mark.parametrize(
    "runner, says",
    [
        ("spark", "must be threads, dask, ray, tcp://"),
        ("http://127.0.0.1:8786", "must be threads, dask, ray, tcp://"),
        ("dask", r"pip install -e '\.\[dask\]'"),
        ("tcp://127.0.0.1:8786", r"pip install -e '\.\[dask\]'"),
        ("ray", r"pip install -e '\.\[ray\]'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, runner: str, says: str) -> None:
    for package in ("prefect_dask", "prefect_ray"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv(runners.VARIABLE, runner)
    with pytest.raises(StippleError, match=says) as error:
        runners.task_runner()
    assert "\n" not in str(error.value)
