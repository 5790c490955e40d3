"""Where batches are computed: in the flow's own thread, in threads beside it, or by the workers of a cluster.

`STIPPLE_RUNNER` says it: nothing, `threads`, `dask` or `ray` for two workers on this machine or one for each of its
GPUs (see `tasks.models.devices`), or the address of a Dask cluster. It is no setting of params.yaml, because the rows
are the same wherever they are computed. Rows travel as data: a worker of a cluster reads checkpoints, writes nothing,
and reports to the server of the flow run.
"""

import os
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.errors import StippleError
from tasks.pipeline import Stage

VARIABLE = "STIPPLE_RUNNER"
CLUSTERS = {"dask": "DaskTaskRunner", "ray": "RayTaskRunner"}
RAY = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # where clusters of several machines are switched off, it is on 127.0.0.1
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # tasks that ask for no GPU see them all the same
}


def chosen() -> str | None:
    """What `STIPPLE_RUNNER` says; None for the flow's own thread."""
    return os.environ.get(VARIABLE) or None


def takes(stage: Stage) -> bool:
    """Whether the batches of `stage` go to the task runner."""
    return chosen() == "threads" or (chosen() is not None and not stage.needs_disk)


def task_runner() -> TaskRunner[Any]:
    """Prefect's task runner for what is chosen."""
    where = chosen()
    if where in (None, "threads"):
        return ThreadPoolTaskRunner(max_workers=os.cpu_count())
    kind = "dask" if where.startswith(("tcp://", "tls://")) else where
    if kind not in CLUSTERS:
        raise StippleError(f"{VARIABLE} is {where!r}, but must be threads, dask, ray, tcp://… or tls://…")
    if where == "ray":
        os.environ |= RAY
    try:
        runner = getattr(import_module(f"prefect_{kind}"), CLUSTERS[kind])
    except ModuleNotFoundError:
        raise StippleError(f"{VARIABLE} is {where!r}: run `pip install -e '.[{kind}]'` first") from None
    return runner(**_local(kind)) if where == kind else runner(address=where)


def _local(kind: str) -> dict[str, Any]:
    from torch import cuda

    workers = cuda.device_count() or 2
    if kind == "ray":
        return {"init_kwargs": {"num_cpus": workers, "include_dashboard": False}}
    security = True  # TLS, made for the run
    return {"cluster_kwargs": {"n_workers": workers, "threads_per_worker": 1, "security": security}}


def reporting_here() -> AbstractContextManager:
    """Have what is submitted inside report to the flow run's server; else each worker would start a temporary one."""
    run = FlowRunContext.get()
    assert run is not None, "there is no flow run here"
    return temporary_settings({PREFECT_API_URL: str(run.client.api_url)})
