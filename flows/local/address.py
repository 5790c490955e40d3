"""The Prefect server that a run reports to: the one that is named, the project's own, or a temporary one."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from tasks.errors import StippleError

HOST = "127.0.0.1"
OWN = Path(".stipple/server")
"""Where `stipple serve-local` leaves its server's address while it is up."""
VARIABLE = "PREFECT_API_URL"


def choose() -> bool:
    """Have this process report to the server that PREFECT_API_URL names, else to the project's own if that is up.

    False if there is neither.
    """
    if named := os.environ.get(VARIABLE):
        check(named)
    elif OWN.is_file() and answers(own := OWN.read_text()):
        os.environ[VARIABLE] = own
    return bool(os.environ.get(VARIABLE))


def check(named: str) -> None:
    """A `StippleError` if nobody answers at the address that the user named."""
    if not answers(named):
        raise StippleError(f"{VARIABLE} is {named}, but nobody answers there; start that server, or unset it")


def answers(url: str) -> bool:
    """Whether somebody listens at the host and port of `url`."""
    place = urlsplit(url)
    try:
        port = place.port or {"https": 443}.get(place.scheme, 80)
        socket.create_connection((place.hostname or HOST, port), timeout=2).close()
    except (OSError, ValueError):
        return False
    return True
