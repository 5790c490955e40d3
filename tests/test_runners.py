"""Where batches are computed makes no difference to a byte: threads, a Dask and a Ray cluster of two workers.

`make clusters` installs what the clusters need; `make test` alone skips them.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from flows import runners
from tasks.errors import StippleError
from tests.test_end_to_end import BIN, digests, make_project

FLOW = "from flows.pipeline import dataset\nif __name__ == '__main__': dataset()"
Run = Callable[[str], tuple[dict[str, str], str]]


def needs(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not find_spec(f"prefect_{kind}"), reason=f"prefect-{kind} is not here: `make clusters`")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The `dataset` flow of a new project with a runner: the files that it makes, and what it says."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "DVC_", "STIPPLE_"))}
    kept |= {"PATH": f"{BIN}:{kept['PATH']}", "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect"))}
    kept |= {"DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}

    def init(folder: Path, *words: str) -> None:
        subprocess.run(words, cwd=folder, env=kept, check=True)

    def run(runner: str) -> tuple[dict[str, str], str]:
        project = make_project(tmp_path_factory.mktemp("project"), init, clips=2)
        profile = project / "profiles" / "demo.yaml"
        profile.write_text(re.sub(r"batch_size: \d+", "batch_size: 4", profile.read_text()))
        env = kept | {runners.VARIABLE: runner}
        done = subprocess.run([sys.executable, "-c", FLOW], cwd=project, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return digests(project), done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def here(run: Run) -> dict[str, str]:
    """The files that the flow makes in its own thread."""
    return run("")[0]


@pytest.mark.parametrize(
    "runner", ["threads", pytest.param("dask", marks=needs("dask")), pytest.param("ray", marks=needs("ray"))]
)
def test_every_runner_makes_the_same_bytes(run: Run, here: dict[str, str], runner: str) -> None:
    files, said = run(runner)
    assert {"dask": "new Dask cluster", "ray": "local Ray instance"}.get(runner, "") in said
    assert said.count("Starting temporary server") == 1
    assert files == here


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
