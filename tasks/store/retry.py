"""A batch that fails: what may pass is tried again, what will not costs the row that it belongs to and no other.

This is the one place that tries again, behind both doors. Prefect's own retries, which `dvc repro` does not have, would
repeat a whole batch and know nothing of what failed in it, so a batch's task has none.
"""

import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import sleep
from typing import Any

from tasks.errors import Refused, StippleError, Unanswered

BACKOFF = (1.0, 4.0, 16.0)  # seconds before a batch, or what is left of it, is tried again
SYSTEMATIC = 8  # when this many rows fail and none succeeds, the fault is not the rows'
TRANSIENT = {errno.EAGAIN, errno.EBUSY, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.ESTALE}
TRANSIENT |= {errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ETIMEDOUT}

_fits: dict[str, int] = {}
"""How many rows of a stage this process has memory for, where it once had too little."""

log = logging.getLogger("stipple.batches")


@dataclass(frozen=True)
class RowResult:
    """A row's value, or the reason why there is none. A `transient` reason (memory, a driver) is not remembered."""

    value: bytes | None = None
    reason: str | None = None
    transient: bool = False


def attempt(stage: str, fn: Callable[[list[Any]], list[bytes | Refused]], batch: list[Any]) -> list[RowResult]:
    """One outcome for each row of `batch`, in order, whatever `fn` makes of some of them.

    Out of memory: again in halves, and `stage` gets no larger batch in this process. A time-out, a lost connection, a
    disk's hiccup: again after a wait, as long as the batch's waits last. Any other error, and these when the waits are
    spent: again in halves, until the row that fails is alone.
    """
    waits, todo = iter(BACKOFF), [batch]
    results: list[RowResult] = []
    while todo:
        part = todo.pop()
        fits = _fits.get(stage, len(part))
        if len(part) > fits:
            todo += [part[fits:], part[:fits]]
            continue
        error = _call(fn, part, results)
        if error is None:
            continue
        # Out here the failed call's frames, and with them its tensors, are gone.
        reason, memory = f"{type(error).__name__}: {' '.join(str(error).split())}", out_of_memory(error)
        half = len(part) // 2
        if memory and half:
            _fits[stage] = half
            log.warning("%s: no memory for %d rows at a time, so from here on %d (%s)", stage, len(part), half, reason)
            todo.append(part)
        elif (memory or is_transient(error)) and (wait := next(waits, None)) is not None:
            log.warning("%s: a batch of %d rows failed (%s); again in %g s", stage, len(part), reason, wait)
            sleep(wait)
            todo.append(part)
        elif half:
            log.warning("%s: a batch of %d rows failed (%s); going on with its halves", stage, len(part), reason)
            todo += [part[half:], part[:half]]
        else:
            refused = isinstance(error, Refused)
            results.append(RowResult(reason=str(error) if refused else reason, transient=not refused))
    if len(results) >= SYSTEMATIC and all(result.transient for result in results):
        raise StippleError(f"all {len(results)} rows of a batch failed, so it is not the rows: {results[0].reason}")
    return results


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or torch, on whatever device, had too little memory."""
    import torch  # only here: what fails has it already, and commands without a model start quicker

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: " in str(error)
    )


def is_transient(error: BaseException | None) -> bool:
    """Whether the same call may succeed in a moment: a time-out, a lost connection, a disk or network that hiccups.

    An HTTP client wraps these in errors of its own, so what an error came from counts too.
    """
    while error is not None:
        if isinstance(error, TimeoutError | ConnectionError) or getattr(error, "errno", None) in TRANSIENT:
            return True
        error = error.__cause__ or error.__context__
    return False


def _call(fn: Callable[[list[Any]], list[Any]], part: list[Any], results: list[RowResult]) -> Exception | None:
    try:
        values = fn(part)
        if len(values) != len(part):
            raise StippleError(f"{fn} returned {len(values)} rows for {len(part)}")
    except StippleError:
        raise
    except Exception as error:
        return error.with_traceback(None)
    results += map(_result, values)
    return None


def _result(value: bytes | Refused) -> RowResult:
    if isinstance(value, Refused):
        return RowResult(reason=str(value), transient=isinstance(value, Unanswered))
    return RowResult(value)
