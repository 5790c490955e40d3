"""Accelerate, for a run whose precision is its own."""

import copy

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, is_initialized


def of_precision(wanted: str) -> Accelerator:
    """Accelerate keeps one precision for all of a process; this one has its own, and leaves others theirs."""
    precision = _precision(wanted)
    others = AcceleratorState().mixed_precision if is_initialized() else precision
    if is_initialized():
        AcceleratorState()._mixed_precision = precision
    # a batch need not reach every weight: without a condition, say, or without dropping any
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(mixed_precision=precision, kwargs_handlers=[unused])
    accelerator.state = copy.copy(accelerator.state)
    AcceleratorState()._mixed_precision = others
    return accelerator


def _precision(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"
