"""A batch that fails: what may pass is tried again, what will not costs the row that it belongs to and no other.

This is the one place that tries again, behind both doors. Prefect's own retries, which `dvc repro` does not have, would
repeat a whole batch and know nothing of what failed in it, so a batch's task has none.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import sleep
from typing import Any

from tasks.errors import Refused, StippleError

WAITS = (1.0, 4.0, 16.0)  # seconds before a batch, or what is left of it, is tried again
SYSTEMATIC = 8  # when this many rows fail and none succeeds, the fault is not the rows'
HICCUPS = {errno.EAGAIN, errno.EBUSY, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.ESTALE}
HICCUPS |= {errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ETIMEDOUT}

_fits: dict[str, int] = {}
"""How many rows of a stage this process has memory for, where it once had too little."""

log = logging.getLogger("stipple.batches")


@dataclass(frozen=True)
class Outcome:
    """A row's value, or the reason why there is none. A `passing` reason (memory, a driver) is not remembered."""

    value: bytes | None = None
    reason: str | None = None
    passing: bool = False


def attempt(stage: str, fn: Callable[[list[Any]], list[bytes | Refused]], batch: list[Any]) -> list[Outcome]:
    """One outcome for each row of `batch`, in order, whatever `fn` makes of some of them.

    Out of memory: again in halves, and `stage` gets no larger batch in this process. A time-out, a lost connection, a
    disk's hiccup: again after a wait, as long as the batch's waits last. Any other error, and these when the waits are
    spent: again in halves, until the row that fails is alone.
    """
    waits, todo, outcomes = iter(WAITS), [batch], []
    while todo:
        part = todo.pop()
        fits = _fits.get(stage, len(part))
        if len(part) > fits:
            todo += [part[fits:], part[:fits]]
            continue
        error = _call(fn, part, outcomes)
        if error is None:
            continue
        # Out here the failed call's frames, and with them its tensors, are gone.
        reason, memory = f"{type(error).__name__}: {' '.join(str(error).split())}", out_of_memory(error)
        half = len(part) // 2
        if memory and half:
            _fits[stage] = half
            log.warning("%s: no memory for %d rows at a time, so from here on %d (%s)", stage, len(part), half, reason)
            todo.append(part)
        elif (memory or may_pass(error)) and (wait := next(waits, None)) is not None:
            log.warning("%s: a batch of %d rows failed (%s); again in %g s", stage, len(part), reason, wait)
            sleep(wait)
            todo.append(part)
        elif half:
            log.warning("%s: a batch of %d rows failed (%s); going on with its halves", stage, len(part), reason)
            todo += [part[half:], part[:half]]
        else:
            refused = isinstance(error, Refused)
            outcomes.append(Outcome(reason=str(error) if refused else reason, passing=not refused))
    if len(outcomes) >= SYSTEMATIC and all(outcome.passing for outcome in outcomes):
        raise StippleError(f"all {len(outcomes)} rows of a batch failed, so it is not the rows: {outcomes[0].reason}")
    return outcomes


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or torch, on whatever device, had too little memory."""
    import torch  # only here: what fails has it already, and commands without a model start quicker

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: " in str(error)
    )


def may_pass(error: BaseException | None) -> bool:
    """Whether the same call may succeed in a moment: a time-out, a lost connection, a disk or network that hiccups.

    An HTTP client wraps these in errors of its own, so what an error came from counts too.
    """
    while error is not None:
        if isinstance(error, TimeoutError | ConnectionError) or getattr(error, "errno", None) in HICCUPS:
            return True
        error = error.__cause__ or error.__context__
    return False


def _call(fn: Callable[[list[Any]], list[Any]], part: list[Any], outcomes: list[Outcome]) -> Exception | None:
    try:
        results = fn(part)
        if len(results) != len(part):
            raise StippleError(f"{fn} returned {len(results)} rows for {len(part)}")
    except StippleError:
        raise
    except Exception as error:
        return error.with_traceback(None)
    outcomes += [Outcome(reason=str(r)) if isinstance(r, Refused) else Outcome(r) for r in results]
    return None
