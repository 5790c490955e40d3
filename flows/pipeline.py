"""The whole pipeline, in order. A stage whose inputs and parameters are unchanged is not run again."""

from contextlib import AbstractContextManager
from datetime import datetime

from prefect import flow
from prefect.runtime import flow_run

from flows import logs, runners
from flows.parameters import NO_OVERRIDES, DatasetOverrides, TrainingOverrides
from flows.stages import ROOT, log, stage
from tasks.pipeline import STAGES
from tasks.project import accounts, lock
from tasks.project.accounts import Account


def run_name() -> str:
    """What a flow's run is called, in place of two words by chance."""
    return f"{flow_run.flow_name}, {datetime.now():%Y-%m-%d %H:%M}"


def project_lock() -> AbstractContextManager[None]:
    """The project's lock for the flow run this is called in. Nobody sits beside it, so it waits for its turn."""
    logs.in_flows()
    return lock.hold(ROOT, f"flow run {flow_run.name}", on_wait=log.info)


def run_stages(trains: bool) -> list[Account]:
    """The stages that make the data set, or those of the training, in their order."""
    return told([stage(name).result() for name, known in STAGES.items() if known.trains == trains])


def told(done: list[Account]) -> list[Account]:
    """Tell what came of stages, unless a flow around this one will tell of them and of more."""
    if flow_run.parent_flow_run_id is None:
        for line in accounts.closing(done, ROOT):
            log.info(line)
    return done


@flow(flow_run_name=run_name, task_runner=runners.task_runner())
def dataset(overrides: DatasetOverrides = NO_OVERRIDES) -> list[Account]:
    """Clips in, training data out."""
    with project_lock():
        overrides.apply()
        return run_stages(trains=False)


@flow(flow_run_name=run_name)
def training(overrides: TrainingOverrides = NO_OVERRIDES) -> list[Account]:
    """Train the model on the data set, measure it on held-out clips, and draw the prompts with it."""
    with project_lock():
        overrides.apply()
        return run_stages(trains=True)


@flow(flow_run_name=run_name)
def pipeline() -> None:
    """From clips to a model that draws text."""
    with project_lock():
        told(dataset() + training())
