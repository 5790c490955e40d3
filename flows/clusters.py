"""Where batches are computed: in the flow's own process, or by the workers of a Dask or Ray cluster.

`STIPPLE_CLUSTER` says: nothing, `dask` or `ray` for a small one on this machine, or the address of a running one. It is
no setting of params.yaml, because the rows are the same wherever they are computed. A worker writes nothing: it sends
its rows back. It reads checkpoints, and so is started in the project's folder or a copy of it.
"""

from __future__ import annotations

import os
from importlib import import_module

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.errors import StippleError

VARIABLE = "STIPPLE_CLUSTER"
RUNNERS = {"dask": "DaskTaskRunner", "ray": "RayTaskRunner"}
SCHEMES = {"tcp://": "dask", "tls://": "dask", "ray://": "ray"}
LOCAL = {
    "dask": {"cluster_kwargs": {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}},
    "ray": {"init_kwargs": {"num_cpus": 2, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}},
}


def chosen() -> str | None:
    """The cluster that batches go to; None for the flow's own process."""
    return os.environ.get(VARIABLE) or None


def task_runner() -> TaskRunner:
    """Prefect's task runner for the chosen cluster."""
    if (cluster := chosen()) is None:
        return ThreadPoolTaskRunner()
    kind = cluster if cluster in LOCAL else SCHEMES.get(cluster[:6])
    if kind is None:
        raise StippleError(f"{VARIABLE} is {cluster!r}, but must be dask, ray, tcp://…, tls://… or ray://…")
    try:
        runner = getattr(import_module(f"prefect_{kind}"), RUNNERS[kind])
    except ModuleNotFoundError:
        raise StippleError(f"{VARIABLE} is {cluster!r}: run `pip install -e '.[{kind}]'` first") from None
    return runner(**LOCAL[kind]) if cluster in LOCAL else runner(address=cluster)
