"""Ctrl-C and SIGTERM end a command in one line, which says what the next run goes on from; a second one, at once."""

import atexit
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_came: list[int] = []
"""The signal that ends this process, if one came."""


def listen() -> None:
    """Raise KeyboardInterrupt where a signal finds the main thread, unless the command was started to ignore it."""
    atexit.register(_leave)  # the first of all, so that it comes last
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, _: FrameType | None) -> None:
    _came.append(number)
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, lambda again, _: os._exit(128 + again))
    raise KeyboardInterrupt


def _leave() -> None:
    """Python takes seconds to take a process with torch and Prefect apart; nobody who pressed Ctrl-C waits for that."""
    if _came:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code())


def end(stop: KeyboardInterrupt) -> NoReturn:
    """Say in one line where it stopped."""
    clear = "\r\033[K" if sys.stderr.isatty() else ""  # what the terminal shows for Ctrl-C
    print(f"{clear}stipple: {line(stop)}", file=sys.stderr)
    sys.exit(exit_code())


def exit_code() -> int:
    """What a shell expects of a command that a signal has ended."""
    return 128 + (_came or [signal.SIGINT])[0]


def line(stop: BaseException) -> str:
    """Where it stopped: `tasks.progress.noted` has put that on it, or on what it came from."""
    error: BaseException | None = stop
    notes: list[str] = []
    while error is not None:
        notes = getattr(error, "__notes__", notes)
        error = error.__context__
    return f"stopped {notes[0]}; what is done is kept, and the next run goes on from there" if notes else "stopped"
