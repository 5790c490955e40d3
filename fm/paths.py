"""Conditional probability paths: how a sample x0 of the source becomes a sample x1 of the data.

Every path here is x_t = a(t) x0 + b(t) x1 + s(t) ε with ε ~ N(0, I), and its velocity given the three is the
derivative u_t = a'(t) x0 + b'(t) x1 + s'(t) ε. A path is its six coefficients; one routine draws them all.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fm._checks import require, require_same_shape, require_unit_interval
from fm._random import device_of


class Coefficients(NamedTuple):
    """The weights of x0, x1 and ε at time t and their derivatives: of t's shape, or a number where all are equal."""

    a: Tensor | float
    b: Tensor | float
    s: Tensor | float
    da: Tensor | float
    db: Tensor | float
    ds: Tensor | float


class Point(NamedTuple):
    """A point on the path and the velocity there, both of x1's shape."""

    x: Tensor
    velocity: Tensor


@dataclass(frozen=True)
class Path:
    """A conditional probability path.

    Attributes:
        name: the paper's name.
        coefficients: t, any shape, in [0, 1] → `Coefficients`.
        sigma: the path's noise level; 0 where x_t is determined by x0 and x1.
    """

    name: str
    coefficients: Callable[[Tensor], Coefficients]
    sigma: float = 0.0

    def __call__(
        self, x0: Tensor, x1: Tensor, t: Tensor, noise: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Point:
        """x_t and u_t for pairs (x0, x1).

        Args:
            x0, x1: [B, …], paired.
            t: [B] in [0, 1], one time for each pair.
            noise: ε of x1's shape; drawn from `generator` when a path needs it and it is not given.
        """
        require_same_shape(x0=x0, x1=x1)
        require(t.shape == x1.shape[:1], "the shape of t", tuple(t.shape), f"[{x1.shape[0]}], one time for each pair")
        require_unit_interval("t", t)
        wide = (-1, *[1] * (x1.ndim - 1))
        a, b, s, da, db, ds = (c.reshape(wide) if isinstance(c, Tensor) else c for c in self.coefficients(t))
        noise = self.noise(x1, generator) if noise is None else noise
        return Point(_sum((b, x1), (a, x0), (s, noise)), _sum((db, x1), (da, x0), (ds, noise)))

    def noise(self, x1: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        """ε for data x1, of its shape; None where the path has none."""
        if self.sigma == 0:
            return None
        device = device_of(generator) or x1.device
        return torch.randn(x1.shape, generator=generator, dtype=x1.dtype, device=device).to(x1.device)

    def spread(self, t: Tensor) -> Tensor:
        """s(t), the standard deviation of the path's noise at times t, of t's shape.

        Given x0 and x1 the score at x_t is -ε / s(t). [SF]²M (Tong et al., arXiv 2307.03672) weighs the error of a
        learned score by it: their λ(t) = 2 s(t) / σ² is this weight for a network that gives σ²/2 times the score.
        """
        return torch.as_tensor(self.coefficients(t).s).to(t).expand_as(t)


def _sum(first: tuple[Tensor | float, Tensor], *others: tuple[Tensor | float, Tensor | None]) -> Tensor:
    """Σ weight · x, in few operations where weights are numbers: a small training step spends its time here."""
    weight, total = first
    if isinstance(weight, Tensor) or weight != 1:
        total = weight * total
    for weight, x in others:
        if isinstance(weight, Tensor) or weight != 0:
            assert x is not None, "sigma is 0, but the coefficient of the noise is not"
            total = total + weight * x if isinstance(weight, Tensor) else torch.add(total, x, alpha=weight)
    return total


def linear(sigma: float = 0.0) -> Path:
    """Independent (and OT) conditional flow matching: N(x_t | (1-t) x0 + t x1, σ²), u = x1 - x0.

    Tong et al., "Improving and generalizing flow-based generative models", arXiv 2302.00482, eq. 14-15; rectified
    flow at σ = 0. At σ > 0 both ends keep the noise σ.
    """
    require(sigma >= 0, "sigma", sigma, "0 or more")

    def coefficients(t: Tensor) -> Coefficients:
        return Coefficients(1 - t, t, sigma, -1, 1, 0)

    return Path("linear", coefficients, sigma)


def lipman(sigma_min: float = 0.0) -> Path:
    """Gaussian path from noise x0 ~ N(0, I): N(x_t | t x1, (1-(1-σ)t)²), u = x1 - (1-σ) x0.

    Lipman et al., "Flow Matching for Generative Modeling", arXiv 2210.02747, eq. 20-23. With x_t in place of x0 the
    same velocity reads (x1 - (1-σ) x_t) / (1 - (1-σ) t).
    """
    require(0 <= sigma_min < 1, "sigma_min", sigma_min, "in [0, 1)")

    def coefficients(t: Tensor) -> Coefficients:
        return Coefficients(1 - (1 - sigma_min) * t, t, 0, sigma_min - 1, 1, 0)

    return Path("lipman", coefficients)


def bridge(sigma: float = 1.0) -> Path:
    """Schrödinger bridge: σ_t = σ √(t(1-t)) around the line, u = (1-2t) / (2t(1-t)) (x_t - μ_t) + x1 - x0.

    Tong et al., arXiv 2302.00482, eq. 20-21, to be paired by entropic OT with regularisation 2σ². At t = 0 and 1,
    where x_t = μ_t and the first term is 0/0, its conditional mean 0 stands.
    """
    require(sigma > 0, "sigma", sigma, "positive; linear(0) is the bridge without noise")

    def coefficients(t: Tensor) -> Coefficients:
        variance = t * (1 - t)
        inside = variance > 0  # at the ends the root's slope is infinite, and no gradient is better than NaN
        root = sigma * torch.where(inside, variance, 1.0).sqrt()
        s, ds = torch.where(inside, root, 0.0), torch.where(inside, sigma**2 * (1 - 2 * t) / (2 * root), 0.0)
        return Coefficients(1 - t, t, s, -1, 1, ds)

    return Path("bridge", coefficients, sigma)


def variance_preserving() -> Path:
    """Trigonometric interpolant cos(πt/2) x0 + sin(πt/2) x1, which keeps the variance of uncorrelated ends.

    Albergo and Vanden-Eijnden, "Building Normalizing Flows with Stochastic Interpolants", arXiv 2209.15571, eq. 5.
    The ends are exact: x0 at t = 0 and x1 at t = 1.
    """

    def coefficients(t: Tensor) -> Coefficients:
        angle = math.pi / 2 * t
        a, b = angle.cos(), angle.sin()
        a = a - torch.where(t == 1, a.detach(), 0.0)
        return Coefficients(a, b, 0, -math.pi / 2 * b, math.pi / 2 * a, 0)

    return Path("variance-preserving", coefficients)


PATHS: dict[str, Callable[..., Path]] = {
    "linear": linear,
    "lipman": lipman,
    "bridge": bridge,
    "variance-preserving": variance_preserving,
}
