"""Sampling: noise follows a network's velocity to the data, by a solver with fixed or adaptive steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fm._checks import cloud, require
from fm.adaptive import dopri5
from fm.guidance import guided
from fm.runge_kutta import METHODS, Solution, Tableau, Velocity, integrate, step
from fm.times import grid

__all__ = ["METHODS", "Solution", "Tableau", "Velocity", "dopri5", "guided", "integrate", "sample", "step"]


def sample(
    network: nn.Module,
    condition: Tensor | None,
    num_points: int,
    *,
    steps: int = 50,
    method: str = "euler",
    guidance: float = 1.0,
    guidance_kind: str = "plain",
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    shift: float = 1.0,
    generator: torch.Generator | None = None,
    x0: Tensor | None = None,
    trajectory: bool = False,
    differentiable: bool = False,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Solution:
    """Clouds drawn by the network: noise at t = 0 carried to t = 1.

    Args:
        condition: [B, C], one row for each cloud, or None for one unconditional cloud.
        num_points: N, points of each cloud.
        steps: of the solver; `method` says how many evaluations each takes (Euler 1, midpoint and Heun 2, RK4 4).
            Method "dopri5" chooses its own steps, to a tolerance of 1e-5, and keeps no trajectory.
        guidance: weight of classifier-free guidance; 1 is none. guidance_kind, guidance_interval: see `guided`.
        shift: factor of `fm.times.shift` on the time grid; 1 is equal steps.
        generator: decides the noise. x0: [B, N, D], the noise itself, in its place.
        trajectory: keep the points at every step, too. differentiable: keep the graph for gradients.

    Returns:
        `Solution`; `.x` holds the clouds [B, N, D] on the network's device.
    """
    require(steps >= 1, "steps", steps, "1 or more")
    require(num_points >= 1, "num_points", num_points, "1 or more")
    weight = next(network.parameters())
    if condition is not None:
        require(condition.ndim == 2, "the shape of condition", tuple(condition.shape), "[B, C], a row for each cloud")
        condition = condition.to(weight)
    shape = (1 if condition is None else condition.shape[0], num_points, network.dim)
    if x0 is None:
        x0 = torch.randn(shape, generator=generator, device=None if generator is None else generator.device)
    cloud("x0", x0)
    require(tuple(x0.shape) == shape, "the shape of x0", tuple(x0.shape), f"{list(shape)}")
    velocity = guided(network, condition, guidance, kind=guidance_kind, interval=guidance_interval)
    training = network.training
    network.eval()
    try:
        with torch.set_grad_enabled(differentiable):
            if method == "dopri5":
                require(not trajectory, "trajectory", trajectory, "False with dopri5, whose samples step apart")
                return dopri5(velocity, x0.to(weight))
            times = grid(steps, factor=shift)
            return integrate(velocity, x0.to(weight), times, method=method, trajectory=trajectory, on_step=on_step)
    finally:
        network.train(training)
