"""A command in a terminal, as a person has it: it is the foreground job there, and Ctrl-C is a key."""

from __future__ import annotations

import fcntl
import os
import re
import select
import subprocess
import termios
import time
from pathlib import Path

PATIENCE = 300  # seconds that a test waits for what has to come; a busy machine takes its time
CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Terminal:
    """`words`, running in `project` and a pseudo-terminal of 24 lines of 120 characters."""

    def __init__(self, project: Path, environment: dict[str, str], *words: str) -> None:
        self._own, terminal = os.openpty()
        termios.tcsetwinsize(terminal, (24, 120))
        self.process = subprocess.Popen(
            words, cwd=project, env=environment, stdin=terminal, stdout=terminal, stderr=terminal,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(terminal)
        self.shown = ""

    def _read(self) -> bool:
        if not select.select([self._own], [], [], 1)[0]:
            return True
        try:
            self.shown += os.read(self._own, 1 << 16).decode(errors="replace")
        except OSError:  # the last process that had it has ended
            return False
        return True

    def until(self, pattern: str) -> None:
        """Wait until the terminal has shown `pattern`."""
        end = time.monotonic() + PATIENCE
        while not re.search(pattern, self.shown):
            assert self._read() and time.monotonic() < end, self.shown

    def press_ctrl_c(self) -> None:
        self.shown = ""
        os.write(self._own, b"\x03")

    def end(self) -> tuple[int, list[str]]:
        """Wait for the end: the exit code, and the lines that are left of what was shown since the last key."""
        end = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < end, self.shown
        os.close(self._own)
        shown = CONTROL.sub("", self.shown).replace("\r\n", "\n")
        lines = [line.rpartition("\r")[2].strip() for line in shown.split("\n")]
        return self.process.wait(), [line for line in lines if line]
