"""Explicit Runge-Kutta methods of fixed steps for dx/dt = v(x, t).

An explicit Runge-Kutta method is a table of numbers (a Butcher tableau); one stepping routine serves them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fm._checks import one_of, require

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


def step(velocity: Velocity, x: Tensor, t: Tensor, dt: float, tableau: Tableau) -> Tensor:
    """One Runge-Kutta step from t [B] to t + dt."""

    def advanced(weights: tuple[float, ...]) -> Tensor:
        moved = x
        for weight, slope in zip(weights, slopes, strict=False):
            if weight:
                moved = torch.add(moved, slope, alpha=weight * dt)
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
    for i, dt in enumerate(gaps.tolist()):
        x = step(velocity, x, grid[i].expand(x.shape[0]), dt, tableau)
        if trajectory:
            visited.append(x)
        if on_step is not None:
            on_step(i + 1, x)
    return Solution(x, len(gaps) * len(tableau.weights), times, torch.stack(visited) if trajectory else None)
