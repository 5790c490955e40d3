"""How far a stage is: a bar in a terminal, elsewhere a line of the log every few seconds, and fewer as time goes on."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from tqdm import tqdm

EVERY = 5.0  # seconds between two lines, at least
SHARE = 0.02  # and this share of the time that it has taken so far

log = logging.getLogger("stipple.progress")


class Progress:
    """How many of `total` there are; 0 where nobody knows."""

    def __init__(self, what: str, total: int, unit: str, shown: bool) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, 0
        in_terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total or None, desc=what, unit=unit, leave=False) if shown and in_terminal else None
        self._log = shown and not in_terminal
        self._free = 0
        self._began = self._said = time.monotonic()

    def skip(self, number: int) -> None:
        """So many were there already: they tell nothing about the time that the others take."""
        self._free += number
        if self._bar is not None:
            self._bar.initial += number
        self.advance(number)

    def advance(self, number: int = 1, said: str = "") -> None:
        """So many more are done; `said` is what else there is to say at this moment."""
        self.done += number
        if self._bar is not None:
            self._bar.set_postfix_str(said, refresh=False)
            self._bar.update(number)
        now = time.monotonic()
        if self._log and now - self._said >= max(EVERY, SHARE * (now - self._began)) and self.done < self.total:
            self._said = now
            left = (now - self._began) * (self.total - self.done) / max(self.done - self._free, 1)
            values = (str(self), said, f"{duration(round(left))} left")
            log.info("%s: %s", self.what, ", ".join(filter(None, values)))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def __str__(self) -> str:
        of = f" of {self.total:,}" if self.total else ""
        return f"{self.done:,}{of} {self.unit}s"


@contextmanager
def progress(what: str, total: int, unit: str, *, kept: bool = False, shown: bool = True) -> Iterator[Progress]:
    """Show how far `what` is. If a signal ends it, the exception gets a note of what is `kept` for the next run."""
    bar = Progress(what, total, unit, shown)
    try:
        with noted(lambda: f"in {what} at {bar}") if kept else nullcontext():
            yield bar
    finally:
        bar.close()


@contextmanager
def noted(where: Callable[[], str]) -> Iterator[None]:
    """If a signal ends this, the exception gets a note of `where`, unless it has one."""
    try:
        yield
    except Exception:
        raise
    except BaseException as stop:
        if not hasattr(stop, "__notes__"):
            stop.add_note(where())
        raise


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
