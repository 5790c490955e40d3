"""Real processes that want the same lock."""

import contextvars
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.errors import StippleError
from tasks.project import lock
from tests.support import ROOT

HOLD = """
import sys
from pathlib import Path
from tasks.project import lock
from tests.support import ROOT
with lock.hold(Path(sys.argv[1]), "the other"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """A process that holds the lock of `tmp_path` until it reads a line."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_ends_in_one_line_that_names_the_first(tmp_path: Path, other: subprocess.Popen) -> None:
    line = rf"`the other` \(process {other.pid}, since 2.*\) is at work"
    with pytest.raises(StippleError, match=line) as caught, lock.hold(tmp_path, "this"):
        pass
    assert "\n" not in str(caught.value)


def test_a_run_that_ended_leaves_the_lock_free(tmp_path: Path, other: subprocess.Popen) -> None:
    other.communicate("\n")
    with lock.hold(tmp_path, "this"):
        pass


def test_a_killed_run_leaves_the_lock_free(tmp_path: Path, other: subprocess.Popen) -> None:
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    with lock.hold(tmp_path, "this"):
        pass


def test_a_failed_run_leaves_the_lock_free(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), lock.hold(tmp_path, "this"):
        raise RuntimeError
    with lock.hold(tmp_path, "this"):
        pass


def test_a_waiting_run_says_for_whom_and_starts_when_that_one_ends(tmp_path: Path, other: subprocess.Popen) -> None:
    said = []

    def free(line: str) -> None:
        said.append(line)
        other.stdin.write("\n")
        other.stdin.flush()

    with lock.hold(tmp_path, "this", on_wait=free):
        assert other.wait(10) == 0
    assert f"process {other.pid}" in said[0]


def test_a_run_inside_a_run_goes_through_also_in_its_threads(tmp_path: Path) -> None:
    inside = []

    def work() -> None:
        with lock.hold(tmp_path, "part"):
            inside.append(True)

    with lock.hold(tmp_path, "whole"):
        work()
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        thread.start()
        thread.join()
        with pytest.raises(StippleError, match="whole"):
            contextvars.Context().run(work)
    assert inside == [True, True]


def test_projects_do_not_hinder_each_other(tmp_path: Path, other: subprocess.Popen) -> None:
    (tmp_path / "second").mkdir()
    with lock.hold(tmp_path / "second", "this"):
        pass
