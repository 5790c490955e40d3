"""How the time t of each training pair is drawn: t [n] in [0, 1], decided by a `torch.Generator`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fm.checks import require

Times = Callable[[int, torch.Generator | None], Tensor]


def uniform(n: int, generator: torch.Generator | None = None) -> Tensor:
    """n independent times, uniform in [0, 1)."""
    require(n >= 1, "n", n, "1 or more")
    return torch.rand(n, generator=generator)


def stratified(n: int, generator: torch.Generator | None = None) -> Tensor:
    """n uniform times, one in each of n equal intervals, in random order.

    Each is uniform by itself; together they cover [0, 1] evenly, so the loss of a batch varies less.
    """
    order = torch.randperm(n, generator=generator) if n > 1 else torch.zeros(1)
    return ((order + uniform(n, generator)) / n).clamp(max=1 - 2**-24)


def logit_normal(
    n: int, generator: torch.Generator | None = None, *, mean: float = 0.0, std: float = 1.0, base: Times = stratified
) -> Tensor:
    """t = sigmoid(mean + std · z), z ~ N(0, 1): more weight in the middle. Esser et al., arXiv 2403.03206, eq. 19.

    `base` draws the uniforms that are turned into z, so that these times can be stratified too.
    """
    require(std > 0, "std", std, "positive")
    u = base(n, generator).clamp(1e-6, 1 - 1e-6)
    return torch.sigmoid(mean + std * torch.special.ndtri(u))


TIMES: dict[str, Times] = {"uniform": uniform, "stratified": stratified, "logit-normal": logit_normal}
