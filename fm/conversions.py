"""One prediction seen four ways: velocity, data, noise and score of a path whose source is Gaussian.

With x0 ~ N(0, I) independent of x1, every path x_t = a x0 + b x1 + s ε is x_t = b x1 + γ n with n ~ N(0, I) and
γ² = a² + s². Given x_t, the mean data d = E[x1 | x_t] and the mean noise e = E[n | x_t] then obey

    x_t = b d + γ e,    v = b' d + γ' e,    ∇ log p_t(x_t) = -e / γ,

so any one of velocity v, data d, noise e and score gives the others (Albergo et al., "Stochastic Interpolants",
arXiv 2303.08797, section 2.3). Under an OT coupling the first two equations still hold for paths without ε, but the
noise is then no longer independent of the data, and the score is not.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fm import paths, solvers
from fm._checks import require, require_one_of, require_same_shape, require_unit_interval

PREDICTIONS = ("velocity", "data", "noise", "score")


class Schedule(NamedTuple):
    """Weight of the data b, standard deviation of the noise γ, and their derivatives, at times t."""

    b: Tensor
    gamma: Tensor
    db: Tensor
    dgamma: Tensor


def schedule(path: paths.Path, t: Tensor) -> Schedule:
    """b, γ, b', γ' of a path at t, each of t's shape."""
    a, b, s, da, db, ds = (torch.as_tensor(c).to(t).expand_as(t) for c in path.coefficients(t))
    gamma = (a.square() + s.square()).sqrt()
    slope = torch.where(gamma > 0, (a * da + s * ds) / gamma.clamp(min=torch.finfo(t.dtype).tiny), da)
    return Schedule(b, gamma, db, slope)


def convert(value: Tensor, x: Tensor, t: Tensor, path: paths.Path, *, given: str, wanted: str) -> Tensor:
    """The `wanted` prediction at x_t [B, …], t [B], from the `given` one; both are members of `PREDICTIONS`.

    Raises:
        ValueError: t is where the given prediction does not determine the wanted one: data says nothing of the noise
            where γ = 0 (mostly t = 1), noise and score say nothing of the data where b = 0 (t = 0), and the score is
            infinite where γ = 0.
    """
    require_one_of("given", given, PREDICTIONS)
    require_one_of("wanted", wanted, PREDICTIONS)
    require_same_shape(value=value, x=x)
    require(t.shape == x.shape[:1], "the shape of t", tuple(t.shape), f"[{x.shape[0]}]")
    require_unit_interval("t", t)
    if given == wanted:
        return value
    b, gamma, db, dgamma = (c.reshape(-1, *[1] * (x.ndim - 1)) for c in schedule(path, t))
    if given == "velocity":
        determinant = b * dgamma - db * gamma
        _nonzero(determinant, t, given, wanted)
        data, noise = (dgamma * x - gamma * value) / determinant, (b * value - db * x) / determinant
    elif given == "data":
        _nonzero(gamma, t, given, wanted)
        data, noise = value, (x - b * value) / gamma
    else:
        noise = value if given == "noise" else -gamma * value
        if wanted in ("velocity", "data"):
            _nonzero(b, t, given, wanted)
            data = (x - gamma * noise) / b
    if wanted == "velocity":
        return db * data + dgamma * noise
    if wanted == "score":
        _nonzero(gamma, t, given, wanted)
        return -noise / gamma
    return data if wanted == "data" else noise


def with_score(velocity: solvers.Velocity, path: paths.Path) -> solvers.VelocityAndScore:
    """The velocity and its score at x [B, …], t [B], for `fm.solvers.stochastic`, by the closed form above.

    For a source N(0, I) independent of the data. At t = 1 most paths have no score.
    """

    def both(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        v = velocity(x, t)
        return v, convert(v, x, t, path, given="velocity", wanted="score")

    return both


def _nonzero(divisor: Tensor, t: Tensor, given: str, wanted: str) -> None:
    bad = (divisor == 0).flatten()
    if bad.any():
        raise ValueError(f"t is {float(t[bad][0])}, where the {given} does not determine the {wanted}")
