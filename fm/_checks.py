"""Refusals of bad arguments: which argument, what it was, what is allowed."""

from collections.abc import Iterable

import torch
from torch import Tensor


def require(holds: bool, argument: str, value: object, allowed: str) -> None:
    """Raise `ValueError` naming the argument, its value and what is allowed, unless `holds`."""
    if not holds:
        raise ValueError(f"{argument} is {value!r}, but must be {allowed}")


def require_one_of(argument: str, value: str, allowed: Iterable[str]) -> None:
    names = sorted(allowed)
    require(value in names, argument, value, "one of " + ", ".join(names))


def require_samples(argument: str, value: Tensor) -> None:
    """A batch of any shape [B, …]: floating, not empty, without NaN or infinity."""
    shape = tuple(value.shape)
    require(value.ndim >= 2 and value.numel() > 0, f"the shape of {argument}", shape, "[B, …], none of it 0")
    require(value.is_floating_point(), f"the dtype of {argument}", value.dtype, "floating point")
    require_finite(argument, value)


def require_clouds(argument: str, value: Tensor) -> None:
    """A batch of clouds: a floating tensor [B, N, D] with at least one point, without NaN or infinity."""
    shape = tuple(value.shape)
    require(value.ndim == 3, f"the shape of {argument}", shape, "[B, N, D]: clouds, points, coordinates")
    require(value.numel() > 0, f"the shape of {argument}", shape, "at least one cloud of one point")
    require_samples(argument, value)


def require_finite(argument: str, value: Tensor) -> None:
    if not torch.isfinite(value).all():
        index = int((~torch.isfinite(value.reshape(value.shape[0], -1)).all(dim=1)).nonzero()[0])
        raise ValueError(f"{argument}[{index}] holds NaN or infinity, but every number must be finite")


def require_same_shape(**tensors: Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    require(len(set(shapes.values())) == 1, " and ".join(shapes), list(shapes.values()), "of one shape")


def require_unit_interval(argument: str, t: Tensor) -> None:
    if t.numel():
        low, high = (float(end) for end in t.detach().aminmax())
        require(low >= 0 and high <= 1, argument, [low, high], "in [0, 1]")
