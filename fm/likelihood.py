"""The density that a flow gives to data: log p(x1) = log p(x0) - ∫ ∇·v dt along the path that ends in x1.

Chen et al., "Neural Ordinary Differential Equations", arXiv 1806.07366, theorem 1. The last axis of x is the vector
whose density is meant; vectors must not see each other, as with a pointwise network, where each point has its own. Of
pictures, and all else of more than three axes, the whole sample is that vector.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fm import solvers, times
from fm._checks import require, require_finite, require_one_of
from fm._random import device_of

TRACES = ("exact", "hutchinson")


def standard_normal(x: Tensor) -> Tensor:
    """log N(x | 0, I) of x [..., D]: [...]."""
    return -0.5 * (x.square() + math.log(2 * math.pi)).sum(-1)


def divergence(velocity: solvers.Velocity, x: Tensor, t: Tensor, probe: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """v(x, t) and its divergence [...] over the last axis of x [B, …, D].

    Exact, by one backward pass for each of the D coordinates; or with a `probe` of x's shape, of mean 0 and covariance
    I, Hutchinson's estimate probeᵀ (∂v/∂x) probe by a single one (Grathwohl et al., arXiv 1810.01367). Both keep a
    graph where x has one.
    """
    kept = torch.is_grad_enabled() and x.requires_grad
    with torch.inference_mode(False), torch.enable_grad():
        if not kept:  # cloned, as no graph takes a tensor of inference mode
            x, t = x.detach().clone().requires_grad_(True), t.clone()
        v = velocity(x, t) + 0 * x  # a velocity constant in x has no graph of its own
        if probe is not None:
            (pulled,) = torch.autograd.grad(v, x, probe, create_graph=kept)
            return v if kept else v.detach(), (pulled * probe).sum(-1)
        total = torch.zeros_like(x[..., 0])
        for i in range(x.shape[-1]):
            (row,) = torch.autograd.grad(v[..., i].sum(), x, retain_graph=True, create_graph=kept)
            total = total + row[..., i]
    return v if kept else v.detach(), total


def log_likelihood(
    velocity: solvers.Velocity,
    x: Tensor,
    *,
    steps: int = 100,
    method: str = "rk4",
    trace: str = "exact",
    probes: int = 1,
    generator: torch.Generator | None = None,
    log_source: Callable[[Tensor], Tensor] = standard_normal,
) -> Tensor:
    """log p(x) in nats of data x: a number for each vector [B, D] or point [B, N, D], or each sample of more axes.

    Where x requires gradients the result has them for all that it depends on, and keeps the graph of every evaluation;
    where it does not, the result has none for the velocity's weights either.

    Args:
        steps, method: of the solver, which goes back from t = 1 to 0.
        trace: "exact", or "hutchinson" for large D, whose noise is that of `probes` random signs a vector.
        log_source: log density of x0.
    """
    require_one_of("trace", trace, TRACES)
    require(probes >= 1, "probes", probes, "1 or more")
    require_finite("x", x)
    if x.ndim > 3:
        of_samples, shape = velocity, x.shape[1:]

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return of_samples(x.unflatten(1, shape), t).flatten(1)

        x = x.flatten(1)
    if trace == "exact":
        return _solve(velocity, x, None, steps, method, log_source)
    estimates = []
    for _ in range(probes):
        signs = torch.randint(2, x.shape, generator=generator, device=device_of(generator)).to(x) * 2 - 1
        estimates.append(_solve(velocity, x, signs, steps, method, log_source))
    return torch.stack(estimates).mean(0)


def _solve(
    velocity: solvers.Velocity,
    x: Tensor,
    probe: Tensor | None,
    steps: int,
    method: str,
    log_source: Callable[[Tensor], Tensor],
) -> Tensor:
    def joint(state: Tensor, t: Tensor) -> Tensor:
        v, growth = divergence(velocity, state[..., :-1], t, probe)
        return torch.cat([v, growth.unsqueeze(-1)], dim=-1)

    start = torch.cat([x, torch.zeros_like(x[..., :1])], dim=-1)
    end = solvers.integrate(joint, start, times.grid(steps).flip(0), method=method).x
    return log_source(end[..., :-1]) + end[..., -1]


def bits_per_dimension(log_likelihoods: Tensor, dim: int) -> Tensor:
    """-log₂ p / D of log likelihoods in nats."""
    require(dim >= 1, "dim", dim, "1 or more")
    return -log_likelihoods / (dim * math.log(2))
