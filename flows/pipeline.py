"""The whole pipeline, in order. A stage whose inputs and parameters are unchanged is not run again."""

import logging
from contextlib import AbstractContextManager

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows import runners
from flows.parameters import NO_OVERRIDES, DatasetOverrides, TrainingOverrides
from flows.stages import ROOT, stage
from tasks.errors import StippleError
from tasks.pipeline import STAGES
from tasks.project import lock


def _one_line(log: logging.LogRecord) -> bool:
    """No traceback where the message already names the cause and the remedy."""
    if log.exc_info and isinstance(log.exc_info[1], StippleError):
        log.exc_info = None
    return True


def project_lock() -> AbstractContextManager[None]:
    """The project's lock for the flow run this is called in. Nobody sits beside it, so it waits for its turn."""
    for source in ("flow_runs", "task_runs", "engine"):
        logging.getLogger(f"prefect.{source}").addFilter(_one_line)
    return lock.hold(ROOT, f"flow run {flow_run.name}", on_wait=get_run_logger().info)


def run_stages(trains: bool) -> None:
    """The stages that make the data set, or those of the training, in their order."""
    for name, known in STAGES.items():
        if known.trains == trains:
            stage(name)


@flow(task_runner=runners.task_runner())
def dataset(overrides: DatasetOverrides = NO_OVERRIDES) -> None:
    """Clips in, training data out."""
    with project_lock():
        overrides.apply()
        run_stages(trains=False)


@flow
def training(overrides: TrainingOverrides = NO_OVERRIDES) -> None:
    """Train the model on the data set, measure it on held-out clips, and draw the prompts with it."""
    with project_lock():
        overrides.apply()
        run_stages(trains=True)


@flow
def pipeline() -> None:
    """From clips to a model that draws text."""
    with project_lock():
        dataset()
        training()
