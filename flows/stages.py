"""A pipeline stage as a Prefect task, and its batches as tasks inside it."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.states import Completed, State

from flows import runners
from tasks import pipeline, settings
from tasks.errors import StippleError
from tasks.pipeline import STAGES
from tasks.project import dvc, reproduction
from tasks.project.accounts import Account

ROOT = Path()
IN_FLIGHT = 16  # batches that a task runner has at a time; their rows are held in memory

log = logging.getLogger("stipple.run")


@task(task_run_name="{name}", cache_policy=NO_CACHE)
def stage(name: str) -> State:
    """Bring one stage up to date. Ends Cached if DVC already holds the result for today's inputs and parameters."""
    began, summary = time.monotonic(), dict[str, Any]()
    map_batches = partial(by_runner if runners.takes(STAGES[name]) else as_tasks, name)

    def compute() -> None:
        chosen = settings.load(ROOT)
        summary.update(pipeline.compute(name, chosen, ROOT, previous=dvc.previous, map_batches=map_batches))

    outcome = reproduction.reproduce(name, compute)
    account = Account(name, outcome, time.monotonic() - began, summary)
    log.info(account)
    cached = outcome is not reproduction.Outcome.COMPUTED
    return Completed(name="Cached" if cached else None, message=str(account), data=account)


def as_tasks(name: str, fn: Callable[[Any], Any], batches: Iterable[Any]) -> Iterator[Any]:
    """`map`, with every call a Prefect task of its own, seen in the UI. Retries are `tasks.store.retry`' part."""
    batch = batch_task(name)
    for number, rows in enumerate(batches, start=1):
        yield batch(number, partial(fn, rows))


def by_runner(name: str, fn: Callable[[Any], Any], batches: Iterable[Any]) -> Iterator[Any]:
    """`as_tasks`, with the calls made side by side by the flow's task runner. Results keep their order."""
    batch = batch_task(name)
    sent: deque[PrefectFuture[Any]] = deque()
    for number, rows in enumerate(batches, start=1):
        with runners.reporting_here():
            sent.append(batch.submit(number, partial(fn, rows)))
        if len(sent) == IN_FLIGHT:
            yield result(sent.popleft(), name)
    while sent:
        yield result(sent.popleft(), name)


def batch_task(name: str) -> Task[[int, Callable[[], Any]], Any]:
    @task(name=name, task_run_name=name + " {number}", cache_policy=NO_CACHE)
    def batch(number: int, work: Callable[[], Any]) -> Any:
        return work()

    return batch


def result(future: PrefectFuture[Any], name: str) -> Any:
    """What a batch returned. What fails inside a batch is settled there, so any other error is the cluster's."""
    try:
        return future.result()
    except StippleError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise StippleError(
            f"{name}: a batch was lost on its way ({reason}); see to {runners.VARIABLE}={runners.chosen()} and run "
            "again: stored batches are kept"
        ) from error
