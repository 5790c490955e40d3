"""What a run says: the project's own lines, at every door, and of Prefect's what its states do not show anyway."""

import logging
import sys
from typing import TextIO

from tqdm import tqdm

from tasks.errors import StippleError

OURS = logging.getLogger("stipple")
STATES = tuple(logging.getLogger(f"prefect.{name}") for name in ("engine", "flow_runs", "task_runs"))
"""Where Prefect tells how runs begin and end."""


class _Lines(logging.StreamHandler[TextIO]):
    """Lines above the bars of a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


def on_console() -> None:
    """Show the project's lines, and not Prefect's states: what ends a command is told by its last line."""
    said, warned = _Lines(sys.stdout), _Lines(sys.stderr)
    said.addFilter(lambda record: record.levelno < logging.WARNING)
    warned.setLevel(logging.WARNING)
    warned.setFormatter(logging.Formatter("warning: %(message)s"))
    OURS.setLevel(logging.INFO)
    OURS.propagate = False
    for handler in (said, warned):
        OURS.addHandler(handler)
    for log in STATES:
        log.propagate = False
        log.addHandler(logging.NullHandler())


def in_flows() -> None:
    """Have the project's lines in the log of a flow's run, which prefect.toml asks for, and few others."""
    OURS.setLevel(logging.INFO)
    for log in STATES:
        log.addFilter(_is_wanted)


def _is_wanted(record: logging.LogRecord) -> bool:
    """No line for the end of each task, and no traceback where the message names the cause and the remedy."""
    if record.exc_info and isinstance(record.exc_info[1], StippleError):
        record.exc_info = None
    return record.name != "prefect.task_runs" or record.levelno > logging.INFO
