"""Prefect's long-running processes, in sessions of their own: a terminal's Ctrl-C does not reach them."""

import subprocess
import sys
from collections.abc import Sequence
from typing import IO


def command(*words: str) -> list[str]:
    """A Python module and its arguments, as a command of this environment's."""
    return [sys.executable, "-m", *words]


def start(command: Sequence[str], log: IO[str], pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Run `command` in the background; what it says goes to `log`."""
    return subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log, pass_fds=pass_fds)


def end(process: subprocess.Popen[bytes], patience: float) -> None:
    """SIGTERM, and SIGKILL after `patience` seconds."""
    process.terminate()
    try:
        process.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
