"""A Prefect server with the project's deployments and a worker, on this machine, for as long as one command runs."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from prefect.states import Crashed

from flows.local import address, children, services
from flows.local.address import HOST
from tasks.errors import StippleError

POOL = "stipple"
"""The work pool that prefect.yaml names."""
LOG = Path(".stipple/serve-local.log")
"""What Prefect's server and worker say."""


def serve() -> None:
    """Start a server, deploy what prefect.yaml describes, run a worker, and stop them all on Ctrl-C or SIGTERM."""
    port = get_current_settings().server.api.port
    api = f"http://{HOST}:{port}/api"
    if address.answers(api):
        raise StippleError(
            f"port {port} of {HOST} is taken, perhaps by a Prefect server that runs already; stop that one, or set "
            f"PREFECT_SERVER_API_PORT to a free port"
        )
    children.end_with_parent()
    os.environ[address.VARIABLE] = api
    LOG.parent.mkdir(exist_ok=True)
    print(f"Starting a server, the deployments of prefect.yaml and a worker; what they say goes to {LOG}.", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a shell's background job ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    try:
        with LOG.open("w") as log, _service(log, "server", "start", "--host", HOST) as server:
            while not address.answers(api):
                _check(server)
            address.OWN.write_text(api)
            _end_lost_runs(api)
            subprocess.run(_command("work-pool", "create", POOL, "--type", "process"), stdout=log, stderr=log)
            subprocess.run(_command("deploy", "--all"), check=True, stdout=log, stderr=log)
            try:
                with _service(log, "worker", "start", "--pool", POOL) as worker:
                    print(
                        f"http://{HOST}:{port} shows the deployments, Ctrl-C stops everything. To start a run from "
                        f"another terminal:\n\n    export PREFECT_API_URL={api}\n"
                        f"    prefect deployment run retrain/retrain --watch\n",
                        flush=True,
                    )
                    while True:
                        _check(server)
                        _check(worker)
            except KeyboardInterrupt:
                _end_lost_runs(api)
                raise
    except KeyboardInterrupt:
        print("Stopped.")
    except subprocess.CalledProcessError as error:
        raise StippleError(f"`{' '.join(error.cmd[2:])}` failed; the last lines of {LOG} say why") from None
    finally:
        address.OWN.unlink(missing_ok=True)


def _end_lost_runs(api: str) -> None:
    """Tell Prefect that the runs which it believes to be at work are not: there is no worker now."""
    at_work = FlowRunFilter.model_validate({"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}})
    ours = WorkPoolFilter.model_validate({"name": {"any_": [POOL]}})
    with temporary_settings({PREFECT_API_URL: api}), get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=at_work, work_pool_filter=ours):
            client.set_flow_run_state(run.id, Crashed(message="`stipple serve-local`, whose run this was, has ended."))


def _command(*words: str) -> list[str]:
    """A command of Prefect's that asks nothing, wherever it runs."""
    return services.command("prefect", "--no-prompt", *words)


@contextmanager
def _service(log: IO[str], *words: str) -> Iterator[subprocess.Popen]:
    """A long-running Prefect command, which ends in its turn."""
    process = services.start(_command(*words), log)
    try:
        yield process
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        services.end(process, patience=60)


def _check(service: subprocess.Popen) -> None:
    time.sleep(0.2)
    if service.poll() is not None:
        assert isinstance(service.args, list)  # of words, as `_command` made it
        raise StippleError(f"`{' '.join(map(str, service.args[2:]))}` ended by itself; the last lines of {LOG} say why")
