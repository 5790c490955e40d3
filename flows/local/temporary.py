"""The Prefect server that a run brings along where there is none.

It is the one that Prefect would start, but Ctrl-C does not reach it, so that the run can still tell it of its end.
"""

import atexit
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from flows.local import address, children, services
from flows.local.address import HOST
from tasks.errors import StippleError

LOG = Path(".stipple/server.log")
PATIENCE = 180.0  # seconds until it answers; it makes its database first
GOODBYE = 5.0  # seconds to end by itself


@contextmanager
def reporting() -> Iterator[None]:
    """Have the flows inside report to the server that is named, the project's own, or a temporary one."""
    children.end_with_parent()
    if address.choose():
        yield
        return
    with socket.create_server((HOST, 0)) as listening:  # here, so that nobody else can take the port
        port = listening.getsockname()[1]
        server = _start(listening)
    from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings  # while the server starts

    if named := get_current_settings().api.url:  # in a profile of the user's
        services.end(server, patience=0)
        address.check(named)
        yield
        return
    _await(port)
    with temporary_settings({PREFECT_API_URL: f"http://{HOST}:{port}/api"}):
        yield


def _start(listening: socket.socket) -> subprocess.Popen[bytes]:
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("w") as log:
        file = listening.fileno()
        server = services.start(services.command("flows.local.temporary", str(file)), log, pass_fds=[file])
    atexit.register(services.end, server, GOODBYE)  # Prefect's threads have told it everything by then
    return server


def _await(port: int) -> None:
    connection = HTTPConnection(HOST, port, timeout=PATIENCE)
    try:
        connection.request("GET", "/api/health")
        connection.getresponse()
    except (OSError, HTTPException):
        raise StippleError(f"a temporary Prefect server did not start; the last lines of {LOG} say why") from None
    finally:
        connection.close()


def serve(listening: socket.socket) -> None:
    """Be that server."""
    import uvicorn
    from prefect.server.api.server import create_app

    os.environ["PREFECT_UI_ENABLED"] = "false"
    app = create_app(ephemeral=True, final=True)
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
