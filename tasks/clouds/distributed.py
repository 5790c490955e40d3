"""A function in several processes of this machine, which Accelerate sees as one group."""

import logging
import os
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import distributed, multiprocessing

from tasks.errors import StippleError

Result = TypeVar("Result")


def run(number: int, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call `function(*arguments)` in `number` new processes, and return what the first of them returns.

    They talk over the loopback interface alone, and end when this process does, however it ends.
    """
    outcomes = multiprocessing.get_context("spawn").SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        given = (number, f"file://{folder}/meeting", outcomes, function, arguments)
        group = multiprocessing.spawn(_member, given, number, join=False)
        try:
            while not group.join():
                pass
        except (multiprocessing.ProcessRaisedException, multiprocessing.ProcessExitedException):
            if outcomes.empty():
                raise
        finally:
            for member in group.processes:
                member.terminate()
    outcome = outcomes.get()
    if isinstance(outcome, StippleError):
        raise outcome
    return outcome


def _member(rank: int, number: int, meeting: str, outcomes: Any, function: Callable, arguments: tuple) -> None:
    _speak()
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number)}
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=number)
    PartialState(cpu=backend == "gloo")  # without `cpu`, Accelerate takes each process on a CPU for the only one
    try:
        result = function(*arguments)
    except StippleError as error:
        outcomes.put(error)
        raise
    if rank == 0:
        outcomes.put(result)
    distributed.destroy_process_group()


def _speak() -> None:
    """A new process knows nothing of how its parent's log is shown."""
    log = logging.getLogger("stipple")
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler())
