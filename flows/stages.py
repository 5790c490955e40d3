"""A pipeline stage as a Prefect task, and its batches as tasks inside it."""

from __future__ import annotations

import importlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Completed, State

from flows import runners
from tasks import settings
from tasks.project import reproduction
from tasks.errors import Damaged, StippleError

ROOT = Path()
IN_FLIGHT = 16  # batches that a task runner has at a time; their rows are held in memory
log = logging.getLogger("stipple.stages")

MODULES = {
    "frames": "tasks.frames",
    "points": "tasks.points",
    "captions": "tasks.captions",
    "summaries": "tasks.summaries",
    "embeddings": "tasks.embeddings",
    "dataset": "tasks.dataset",
    "train": "tasks.training",
    "evaluate": "tasks.evaluation",
    "draw": "tasks.drawings",
}
"""The module whose `run` does each stage of dvc.yaml; imported only when a stage has work to do."""


def compute(name: str, map_batches: Callable = map) -> dict[str, Any]:
    """Do the work of stage `name`, whether or not it is stale, and return its summary."""
    if name not in MODULES:
        raise StippleError(f"there is no stage {name!r}; the stages are {', '.join(MODULES)}")
    options = {} if name in ("dataset", "train", "evaluate", "draw") else {"map_batches": map_batches}
    module = importlib.import_module(MODULES[name])
    run = partial(module.run, settings.load(ROOT), ROOT, previous=reproduction.previous, **options)
    try:
        return run()
    except Damaged as damaged:
        log.warning("%s; %s begins again by itself", damaged, name)
        return run()


@task(task_run_name="{name}", cache_policy=NO_CACHE)
def stage(name: str) -> State:
    """Bring one stage up to date. Ends Cached if DVC already holds the result for today's inputs and parameters."""
    summary: dict[str, Any] = {}
    logger = get_run_logger()
    map_batches = by_runner if runners.takes(name) else as_tasks
    outcome = reproduction.reproduce(name, lambda: summary.update(compute(name, map_batches)))
    if outcome is not reproduction.Outcome.COMPUTED:
        return Completed(name="Cached", message=outcome.value)
    logger.info("%s: %s", name, ", ".join(f"{value} {key}" for key, value in summary.items()))
    return Completed(message=outcome.value)


def as_tasks(fn: Callable[[Any], Any], batches: Iterable[Any]) -> Iterator[Any]:
    """`map`, with every call a Prefect task of its own, seen in the UI. Retries are `tasks.store.retry`' part."""
    batch = batch_task(fn)
    for number, rows in enumerate(batches, start=1):
        yield batch(number, partial(fn, rows))


def by_runner(fn: Callable[[Any], Any], batches: Iterable[Any]) -> Iterator[Any]:
    """`as_tasks`, with the calls made side by side by the flow's task runner. Results keep their order."""
    batch = batch_task(fn)
    sent: deque[PrefectFuture[Any]] = deque()
    for number, rows in enumerate(batches, start=1):
        with runners.reporting_here():
            sent.append(batch.submit(number, partial(fn, rows)))
        if len(sent) == IN_FLIGHT:
            yield result(sent.popleft(), batch.name)
    while sent:
        yield result(sent.popleft(), batch.name)


def batch_task(fn: Callable[[Any], Any]) -> Task[[int, Callable[[], Any]], Any]:
    name = getattr(fn, "__name__", None) or fn.func.__name__

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
