"""Processes that end with the one that started them, also when that was killed and could not see to it.

All descendants carry a mark in their environment. A watcher reads from a pipe whose other end the kernel closes when
the parent dies, and then ends whatever carries the mark: a Prefect server, a worker, its runs.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import psutil

MARK = "STIPPLE_PARENT"
PATIENCE = 20  # seconds to end by themselves


def end_with_parent() -> None:
    """Have every process that this one starts from now on end, at the latest, when this one does."""
    mark = uuid4().hex
    reading, _held_until_the_end = os.pipe()
    watcher, unseen = [sys.executable, "-m", "flows.local.children", mark], subprocess.DEVNULL
    subprocess.Popen(watcher, stdin=reading, stdout=unseen, stderr=unseen, start_new_session=True)
    os.close(reading)
    os.environ[MARK] = mark


def _descendants(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                yield process
        except psutil.Error:
            continue


def watch(mark: str) -> None:
    sys.stdin.buffer.read()
    orphans = list(_descendants(mark))
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in orphans:
            with suppress(psutil.NoSuchProcess):
                end(process)
        orphans = psutil.wait_procs(orphans, PATIENCE)[1]


if __name__ == "__main__":
    watch(sys.argv[1])
