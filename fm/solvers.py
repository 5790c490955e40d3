"""ODE solvers for dx/dt = v(x, t), and sampling with them.

An explicit Runge-Kutta method is a table of numbers (a Butcher tableau); one stepping routine serves them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fm.checks import cloud, one_of, require

Velocity = Callable[[Tensor, Tensor], Tensor]
"""x [B, …], t [B] → dx/dt [B, …]"""


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method.

    Attributes:
        order: the error after a fixed time falls as (step size)**order.
        nodes: c, the stages' times in units of the step.
        stages: a, row i weighs the slopes before stage i + 1.
        weights: b, of the slopes in the step.
    """

    order: int
    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


EULER = Tableau(order=1, nodes=(0,), stages=(), weights=(1,))
MIDPOINT = Tableau(order=2, nodes=(0, 1 / 2), stages=((1 / 2,),), weights=(0, 1))
HEUN = Tableau(order=2, nodes=(0, 1), stages=((1,),), weights=(1 / 2, 1 / 2))
"""Also: explicit trapezoid, improved Euler. Not Heun's method of third order."""
RK4 = Tableau(
    order=4,
    nodes=(0, 1 / 2, 1 / 2, 1),
    stages=((1 / 2,), (0, 1 / 2), (0, 0, 1)),
    weights=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
)
METHODS: dict[str, Tableau] = {"euler": EULER, "midpoint": MIDPOINT, "heun": HEUN, "rk4": RK4}


@dataclass(frozen=True)
class Solution:
    """Where an integration ended.

    Attributes:
        x: [B, …] at the last time.
        evaluations: how often the velocity was evaluated.
        times: [S + 1], the time grid.
        trajectory: [S + 1, B, …], x at each of those times, when asked for.
    """

    x: Tensor
    evaluations: int
    times: Tensor
    trajectory: Tensor | None = None


def step(velocity: Velocity, x: Tensor, t: Tensor, dt: Tensor, tableau: Tableau) -> Tensor:
    """One Runge-Kutta step from t [B] to t + dt."""

    def advanced(weights: tuple[float, ...]) -> Tensor:
        moved = x
        for weight, slope in zip(weights, slopes, strict=False):
            if weight:
                moved = moved + (weight * dt).reshape(-1, *[1] * (x.ndim - 1)) * slope
        return moved

    slopes = [velocity(x, t)]
    for node, row in zip(tableau.nodes[1:], tableau.stages, strict=True):
        slopes.append(velocity(advanced(row), t + node * dt))
    return advanced(tableau.weights)


def integrate(
    velocity: Velocity,
    x: Tensor,
    times: Tensor,
    *,
    method: str = "euler",
    trajectory: bool = False,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Solution:
    """Follow dx/dt = velocity(x, t) from x at times[0] through every time of the grid.

    Args:
        x: [B, …].
        times: [S + 1], rising or falling.
        method: a key of `METHODS`.
        on_step: called with the index of the time reached and x there.
    """
    one_of("method", method, METHODS)
    require(times.ndim == 1 and len(times) >= 2, "the shape of times", tuple(times.shape), "[S + 1] with S ≥ 1 steps")
    gaps = times.diff()
    require(bool((gaps > 0).all() or (gaps < 0).all()), "times", times.tolist(), "strictly rising or falling")
    tableau = METHODS[method]
    grid = times.to(device=x.device, dtype=x.dtype)
    visited = [x]
    for i in range(len(grid) - 1):
        t, dt = grid[i].expand(x.shape[0]), (grid[i + 1] - grid[i]).expand(x.shape[0])
        x = step(velocity, x, t, dt, tableau)
        if trajectory:
            visited.append(x)
        if on_step is not None:
            on_step(i + 1, x)
    return Solution(x, len(gaps) * len(tableau.weights), times, torch.stack(visited) if trajectory else None)


def guided(network: nn.Module, condition: Tensor | None, guidance: float = 1.0) -> Velocity:
    """The network's velocity under a condition with classifier-free guidance: v_∅ + w (v_c - v_∅).

    Ho and Salimans, arXiv 2207.12598, eq. 6, for velocities; w = 1 is the plain conditional velocity and costs one
    network call, w = 0 the unconditional one; any other w evaluates both in one call of twice the batch.
    """
    if condition is None or guidance == 0:
        require(guidance in (0, 1), "guidance", guidance, "1 or 0 when there is no condition")
        return lambda x, t: network(x, t, None)
    if guidance == 1:
        return lambda x, t: network(x, t, condition)

    keep = torch.arange(2, device=condition.device).repeat_interleave(condition.shape[0]) == 0
    doubled = condition.repeat(2, *[1] * (condition.ndim - 1))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        conditional, unconditional = network(x.repeat(2, 1, 1), t.repeat(2), doubled, keep).chunk(2)
        return torch.lerp(unconditional, conditional, guidance)

    return velocity


@torch.no_grad()
def sample(
    network: nn.Module,
    condition: Tensor | None,
    num_points: int,
    *,
    steps: int = 50,
    method: str = "euler",
    guidance: float = 1.0,
    generator: torch.Generator | None = None,
    x0: Tensor | None = None,
    trajectory: bool = False,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Solution:
    """Clouds drawn by the network: noise at t = 0 carried to t = 1 in equal steps.

    Args:
        condition: [B, C], one row for each cloud, or None for one unconditional cloud.
        num_points: N, points of each cloud.
        steps: of the solver; `method` says how many evaluations each takes (Euler 1, midpoint and Heun 2, RK4 4).
        guidance: weight of classifier-free guidance; 1 is none.
        generator: decides the noise. x0: [B, N, D], the noise itself, in its place.
        trajectory: keep the points at every step, too.

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
    training = network.training
    network.eval()
    try:
        return integrate(
            guided(network, condition, guidance),
            x0.to(weight),
            torch.linspace(0, 1, steps + 1),
            method=method,
            trajectory=trajectory,
            on_step=on_step,
        )
    finally:
        network.train(training)
