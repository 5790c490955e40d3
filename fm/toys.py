"""Data in the plane to learn flow matching on, and mixtures whose true velocity is known in closed form.

Every toy is a function (n, generator) → `Labelled`: points [n, 2] and the class [n] of each.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fm import conversions, paths
from fm._checks import require, require_same_shape


class Labelled(NamedTuple):
    x: Tensor
    label: Tensor


@dataclass(frozen=True)
class Mixture:
    """A mixture of isotropic Gaussians: density, score and the velocity of any path are known exactly.

    Attributes:
        means: [K, D]. std: [K]. weights: [K], which sum to 1.
    """

    means: Tensor
    std: Tensor
    weights: Tensor

    def __call__(self, n: int, generator: torch.Generator | None = None) -> Labelled:
        label = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return Labelled(self.means[label] + self.std[label].unsqueeze(1) * noise, label)

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x) of x [..., D]: [...]."""
        return self._joint(x, self.means, self.std.square()).logsumexp(-1)

    def velocity(self, path: paths.Path, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """The marginal velocity E[u_t | x_t = x] under independent coupling with x0 ~ N(0, I).

        Args:
            x: [B, …, D]. t: [B]. label: [B], the velocity given the component instead of the whole mixture's.

        Given component k, x_t is N(b μ, b² σ² + γ²) with the schedule of `fm.conversions`; data and noise are then
        jointly Gaussian with it, and the components are weighed by how likely they made x.
        """
        b, gamma, db, dgamma = (c.reshape(-1, *[1] * (x.ndim - 1)) for c in conversions.schedule(path, t.to(x.dtype)))
        means, variance = self.means.to(x), self.std.to(x).square()
        spread = b.square() * variance + gamma.square()  # [B, …, K]
        centred = x.unsqueeze(-2) - b.unsqueeze(-1) * means  # [B, …, K, D]
        slope = (db * b * variance + dgamma * gamma) / spread
        each = db.unsqueeze(-1) * means + slope.unsqueeze(-1) * centred
        if label is not None:
            index = label.reshape(-1, *[1] * (x.ndim - 1), 1).expand(*x.shape[:-1], 1, x.shape[-1])
            return each.gather(-2, index).squeeze(-2)
        responsibility = self._joint(x, b.unsqueeze(-1) * means, spread).softmax(-1)
        return (responsibility.unsqueeze(-1) * each).sum(-2)

    def _joint(self, x: Tensor, means: Tensor, variance: Tensor) -> Tensor:
        """log of weight · density of each component at x [..., D]: [..., K]."""
        distance = (x.unsqueeze(-2) - means.to(x)).square().sum(-1)
        variance, dim = variance.to(x), x.shape[-1]
        return self.weights.to(x).log() - distance / (2 * variance) - dim / 2 * (2 * math.pi * variance).log()


def gaussians(count: int = 8, *, radius: float = 5.0, std: float = 1.0) -> Mixture:
    """`count` equal Gaussians on a ring; [SF]²M's 8 gaussians have radius 5 and standard deviation 1."""
    require(count >= 1, "count", count, "1 or more")
    require(std > 0, "std", std, "positive")
    angle = torch.arange(count) * (2 * math.pi / count)
    means = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    return Mixture(means, torch.full((count,), std), torch.full((count,), 1 / count))


def moons(n: int, generator: torch.Generator | None = None, *, noise: float = 0.05) -> Labelled:
    """Two interleaving half circles (the make_moons of scikit-learn) ×2, moved by -1, as [SF]²M has them."""
    label = torch.randint(2, (n,), generator=generator)
    angle = math.pi * torch.rand(n, generator=generator)
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
    x = torch.where(label.unsqueeze(1) == 0, upper, lower)
    return Labelled(2 * (x + noise * torch.randn(n, 2, generator=generator)) - 1, label)


def s_curve(n: int, generator: torch.Generator | None = None, *, noise: float = 0.05) -> Labelled:
    """The S of scikit-learn's make_s_curve seen from the side, ×1.5; the classes are its two bows."""
    angle = 3 * math.pi * (torch.rand(n, generator=generator) - 0.5)
    x = torch.stack([angle.sin(), angle.sign() * (angle.cos() - 1)], dim=1)
    return Labelled(1.5 * (x + noise * torch.randn(n, 2, generator=generator)), (angle > 0).long())


def checkerboard(n: int, generator: torch.Generator | None = None, *, cells: int = 4) -> Labelled:
    """The dark fields of a board on [-4, 4]²; the class is the field, column by column from below."""
    require(cells >= 2 and cells % 2 == 0, "cells", cells, "an even number from 2")
    column = torch.randint(cells, (n,), generator=generator)
    height = torch.randint(cells // 2, (n,), generator=generator)
    x = torch.stack([column, 2 * height + column % 2], dim=1) + torch.rand(n, 2, generator=generator)
    return Labelled(x * (8 / cells) - 4, column * (cells // 2) + height)


@dataclass(frozen=True)
class Picture:
    """A picture as a density: `weights` [H, W] ≥ 0 say how much ink each pixel gets.

    Points lie as the picture does, the longer side over [-3, 3], x to the right and y up.
    """

    weights: Tensor

    def __post_init__(self) -> None:
        require(self.weights.ndim == 2, "the shape of weights", tuple(self.weights.shape), "[H, W]")
        total = float(self.weights.sum()) if bool((self.weights >= 0).all()) else float("nan")
        require(total > 0, "the sum of weights", total, "positive, of numbers that are 0 or more")

    def __call__(self, n: int, generator: torch.Generator | None = None) -> Labelled:
        height, width = self.weights.shape
        mass = self.weights.flatten().double().cumsum(0)
        drawn = torch.rand(n, generator=generator, dtype=torch.float64) * mass[-1]
        pixel = torch.searchsorted(mass, drawn, right=True).clamp(max=height * width - 1)
        corner = torch.stack([pixel % width, height - 1 - pixel // width], dim=1)
        x = corner + torch.rand(n, 2, generator=generator) - torch.tensor([width / 2, height / 2])
        return Labelled((x * (6 / max(height, width))).float(), torch.zeros(n, dtype=torch.long))


Toy = Callable[[int, torch.Generator | None], Labelled]
TOYS: dict[str, Toy] = {
    "checkerboard": checkerboard,
    "4-gaussians": gaussians(4),
    "8-gaussians": gaussians(8),
    "moons": moons,
    "s-curve": s_curve,
}


CLASSES = {"checkerboard": 8, "4-gaussians": 4, "8-gaussians": 8, "moons": 2, "s-curve": 2}


def by_class(toy: Toy, classes: int, n: int, generator: torch.Generator | None = None) -> Tensor:
    """n points of each of the toy's classes: [classes, n, D]. Their one-hot conditions are `torch.eye(classes)`."""
    x, label = toy(2 * classes * n, generator)
    for _ in range(1000):
        if int(label.bincount(minlength=classes).min()) >= n:
            return torch.stack([x[label == k][:n] for k in range(classes)])
        more = toy(2 * classes * n, generator)
        x, label = torch.cat([x, more.x]), torch.cat([label, more.label])
    raise ValueError(
        f"classes is {classes!r}, but must be at most the number of the toy's classes, {len(label.unique())}"
    )


def velocity_error(predicted: Tensor, true: Tensor) -> float:
    """Root mean square of the difference of velocities [..., D], in units of the true one's root mean square."""
    require_same_shape(predicted=predicted, true=true)
    return float((predicted - true).square().sum(-1).mean().sqrt() / true.square().sum(-1).mean().sqrt())
