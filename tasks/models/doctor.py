"""What this machine has, and which profiles fit it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tasks import settings
from tasks.settings import Needs

GB = 1e9


def look(root: Path) -> dict[str, Any]:
    """The machine in numbers, and of each profile why it does not fit (None: it does)."""
    machine = _machine()
    found = {}
    for name in settings.profiles(root):
        profile = settings.profile(name, root)
        found[name] = {
            "needs": profile.needs.model_dump(),
            "lacks": _lacks(profile.needs, machine),
        }
    return {"machine": machine, "profiles": found}


def page(found: dict[str, Any]) -> Iterator[str]:
    machine = found["machine"]
    gpus = ", ".join(f"{gpu['name']} with {gpu['memory_gb']:.0f} GB" for gpu in machine["gpus"]) or "no GPU"
    yield (
        f"This machine: {machine['cores']} cores, {machine['memory_gb']:.0f} GB of memory, {gpus}; "
        f"{machine['disk_gb']:.0f} GB free where models are kept"
    )
    for name, profile in found["profiles"].items():
        yield f"{name:12} {'fits' if profile['lacks'] is None else profile['lacks']}"


def _machine() -> dict[str, Any]:
    import torch
    from huggingface_hub import constants

    kept = Path(constants.HF_HUB_CACHE)
    while not kept.exists():
        kept = kept.parent
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / GB, 1),
        "gpus": [{"name": gpu.name, "memory_gb": round(gpu.total_memory / GB, 1)} for gpu in gpus],
        "disk_gb": round(shutil.disk_usage(kept).free / GB, 1),
    }


def _lacks(needs: Needs, machine: dict[str, Any]) -> str | None:
    largest = max((gpu["memory_gb"] for gpu in machine["gpus"]), default=0)
    for wanted, here, what in (
        (needs.gpu_gb, largest, "on a GPU"),
        (needs.memory_gb, machine["memory_gb"], "of memory"),
        (needs.disk_gb, machine["disk_gb"], "of disk"),
    ):
        if here < 0.95 * wanted:  # a card of 24 GB says 23.6
            return f"needs {wanted:g} GB {what}, here are {here:g}"
    return None
