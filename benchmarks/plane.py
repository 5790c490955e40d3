"""Sources and data in the plane as [SF]²M draws them (Tong et al., arXiv 2307.03672): points [n, 2] of a generator."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fm import toys

Draw = Callable[[int, torch.Generator], Tensor]
"""n, generator → points [n, 2]"""


def normal(n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, 2, generator=generator)


def half_circles(n: int, noise: float, generator: torch.Generator) -> Tensor:
    """scikit-learn's make_moons: two interleaving half circles, as many points at even angles on each."""
    angle = torch.linspace(0, math.pi, n // 2)
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    x = torch.cat([upper, torch.tensor([1.0, 0.5]) - upper])
    return x + noise * torch.randn(n, 2, generator=generator)


def moons(n: int, generator: torch.Generator) -> Tensor:
    return 2 * half_circles(n, 0.05, generator) - torch.tensor([1.0, 0.0])


def wide_moons(n: int, generator: torch.Generator) -> Tensor:
    """Standardized over both coordinates at once."""
    x = half_circles(n, 0.1, generator)
    return (x - x.mean()) / x.std() * 7


def ring(n: int, generator: torch.Generator) -> Tensor:
    """torchdyn's 8 gaussians: as many points of each."""
    eight = toys.gaussians(8)
    return eight.means.repeat_interleave(n // 8, dim=0) + torch.randn(n, 2, generator=generator)


PAIRS: dict[str, tuple[Draw, Draw]] = {
    "N→8 gaussians": (normal, ring),
    "8 gaussians→moons": (lambda n, g: toys.gaussians(8, radius=12.0, std=1.5)(n, g).x, wide_moons),
    "N→moons": (normal, moons),
    "N→s-curve": (normal, lambda n, g: toys.s_curve(n, g).x),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
