"""Where batches are computed makes no difference to a byte: threads, a Dask and a Ray cluster, a worker that is killed.

`make clusters` installs what the clusters need; `make test` alone skips them.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from flows import runners
from tasks.errors import StippleError
from tests.test_end_to_end import BIN, ROOT, computed, digests, make_project

FLOW = "from flows.pipeline import dataset\nif __name__ == '__main__': dataset()"
Start = Callable[..., tuple[Path, subprocess.Popen]]


def needs(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not find_spec(f"prefect_{kind}"), reason=f"prefect-{kind} is not here: `make clusters`")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start the `dataset` flow of a new project, or of an old one, with a runner."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "DVC_", "STIPPLE_"))}
    kept |= {"PATH": f"{BIN}:{kept['PATH']}", "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect"))}
    kept |= {"DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}

    def init(folder: Path, *words: str) -> None:
        subprocess.run(words, cwd=folder, env=kept, check=True)

    def start(runner: str, project: Path | None = None) -> tuple[Path, subprocess.Popen]:
        if project is None:
            project = make_project(tmp_path_factory.mktemp("project"), init, clips=2)
            profile = project / "profiles" / "demo.yaml"
            profile.write_text(re.sub(r"batch_size: \d+", "batch_size: 2", profile.read_text()))
        said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return project, subprocess.Popen(
            [sys.executable, "-c", FLOW], cwd=project, env=kept | {runners.VARIABLE: runner}, **said
        )

    return start


@pytest.fixture(scope="module")
def here(start: Start) -> dict[str, str]:
    """The files that the flow makes in its own thread."""
    project, run = start("")
    said = run.communicate()[0]
    assert run.returncode == 0, said
    return digests(project)


@pytest.mark.parametrize(
    "runner", ["threads", pytest.param("dask", marks=needs("dask")), pytest.param("ray", marks=needs("ray"))]
)
def test_every_runner_makes_the_same_bytes(start: Start, here: dict[str, str], runner: str) -> None:
    project, run = start(runner)
    said = run.communicate()[0]
    assert run.returncode == 0, said
    assert {"dask": "new Dask cluster", "ray": "local Ray instance"}.get(runner, "") in said
    assert said.count("Starting temporary server") == 1
    assert digests(project) == here


@needs("dask")
def test_a_run_goes_on_when_a_worker_is_killed(
    start: Start, here: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client, LocalCluster

    monkeypatch.chdir(ROOT)
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster) as client:
        process = client.run(os.getpid)
        project, run = start(cluster.scheduler_address)
        busy: list[str] = []
        while not busy or not (project / "data" / "points.parquet").exists():  # until a worker writes captions
            assert run.poll() is None
            time.sleep(0.01)
            busy = [worker for worker, tasks in client.processing().items() if tasks]
        os.kill(process[busy[0]], signal.SIGKILL)
        said = run.communicate()[0]
        assert run.returncode == 0, said
        assert process.keys() != client.run(os.getpid).keys()
        loads = client.run(lambda: sys.modules["tasks.models"]._loaded.cache_info().misses)
        assert max(loads.values()) == 3  # each model once, whatever the number of batches
    assert computed(said)["captions"] == 14
    assert digests(project) == here


def test_batches_stay_in_the_flows_own_thread_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(runners.VARIABLE, raising=False)
    assert not runners.takes("captions")
    monkeypatch.setenv(runners.VARIABLE, "threads")
    assert runners.takes("captions") and runners.takes("frames")
    monkeypatch.setenv(runners.VARIABLE, "tcp://127.0.0.1:8786")
    assert runners.takes("captions") and not runners.takes("frames")


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
