"""Ctrl-C and SIGTERM while a network is trained: they wait for the end of a step, so that no step is lost."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from types import FrameType
from typing import Any


@contextmanager
def held() -> Iterator[Callable[[], None]]:
    """Hold a signal back until the function that this gives is called, or this ends. A second one goes through.

    Not in one of several processes that train together: the others are on their way through the next step.
    """
    before: dict[int, Any] = {}
    came: list[int] = []

    def release() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hold(number: int, _: FrameType | None) -> None:
        release()
        came.append(number)

    def let_through() -> None:
        if came:
            signal.raise_signal(came.pop())

    if threading.current_thread() is threading.main_thread() and parent_process() is None:
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                before[number] = handler
                signal.signal(number, hold)
    try:
        yield let_through
    finally:
        release()
        let_through()
