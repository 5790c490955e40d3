"""One run at a time: a lock on the project that every way of running it takes.

It is an OS lock on `.stipple/lock`. The kernel drops it when its holder ends, however that ends, so a killed run leaves
nothing to clean up. What the file says is for people: who holds the lock, and since when.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path

from tasks.errors import StippleError

_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())
"""The locks of this chain of calls. Prefect hands the context on to the threads of a flow's tasks."""


@contextmanager
def hold(root: Path, holder: str, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Be the only run of the project in `root`; `holder` is what a second run is told.

    If another run holds the lock this is a `StippleError`, or with `on_wait` a call of it with one line and then a
    wait. Inside itself it does nothing.
    """
    path = (root / ".stipple" / "lock").resolve()
    if path in _held.get():
        yield
        return
    path.parent.mkdir(exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            at_work = f"{path.read_text() or 'a run that has just begun'} is at work in {path.parent.parent}"
            if on_wait is None:
                raise StippleError(f"{at_work}; let it end, or stop it, then run again") from None
            on_wait(f"{at_work}; this run starts when it ends")
            fcntl.flock(file, fcntl.LOCK_EX)
        token = _held.set(_held.get() | {path})
        try:
            file.truncate(0)
            file.write(f"`{holder}` (process {os.getpid()}, since {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z})")
            file.flush()
            yield
        finally:
            _held.reset(token)
            file.truncate(0)
            fcntl.flock(file, fcntl.LOCK_UN)
