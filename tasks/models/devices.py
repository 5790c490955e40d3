"""What a process computes on: an accelerator that no other process here has, if there is one."""

import fcntl
import os
import tempfile
from functools import cache
from pathlib import Path

import torch


def accelerated() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def device() -> torch.device:
    """The accelerator of this process, else the CPU."""
    if torch.cuda.is_available():
        rank = os.environ.get("LOCAL_RANK")  # of a training by several processes, which were told
        return torch.device("cuda", int(rank) if rank else claim(_names()))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@cache
def _names() -> tuple[str, ...]:
    return tuple(str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count()))


@cache
def claim(names: tuple[str, ...]) -> int:
    """Which of `names` no other process of this user has: the first of them, until this process ends.

    If all are taken it is the first one, to be shared. The kernel drops a claim with its process, however that ends.
    """
    if len(names) > 1:
        folder = Path(tempfile.gettempdir(), f"stipple-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        for index, name in enumerate(names):
            file = os.open(folder / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
            else:
                return index
    return 0
