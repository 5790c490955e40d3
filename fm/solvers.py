"""Explicit Runge-Kutta methods for dx/dt = v(x, t): with fixed steps, and with steps that adapt to the error.

Such a method is a table of numbers (a Butcher tableau); one stepping routine serves all that have fixed steps. With the
score beside the velocity, `stochastic` follows a stochastic equation to the same end.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fm._checks import require, require_one_of
from fm._random import device_of

Velocity = Callable[[Tensor, Tensor], Tensor]
"""x [B, …], t [B] → dx/dt [B, …]"""
VelocityAndScore = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""x [B, …], t [B] → dx/dt and ∇ log p_t(x), [B, …] both"""


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


def step(velocity: Velocity, x: Tensor, t: Tensor, dt: float | Tensor, tableau: Tableau) -> Tensor:
    """One Runge-Kutta step from t [B] to t + dt, a number or a tensor [] that may require gradients."""

    def advanced(weights: tuple[float, ...]) -> Tensor:
        moved = x
        for weight, slope in zip(weights, slopes, strict=False):
            if weight:
                scale = weight * dt
                moved = moved + scale * slope if isinstance(scale, Tensor) else torch.add(moved, slope, alpha=scale)
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
        times: [S + 1], rising or falling; they may require gradients.
        method: a key of `METHODS`.
        on_step: called with the index of the time reached and x there.
    """
    require_one_of("method", method, METHODS)
    require(times.ndim == 1 and len(times) >= 2, "the shape of times", tuple(times.shape), "[S + 1] with S ≥ 1 steps")
    gaps = times.diff()
    require(bool((gaps > 0).all() or (gaps < 0).all()), "times", times.tolist(), "strictly rising or falling")
    tableau = METHODS[method]
    grid = times.to(device=x.device, dtype=x.dtype)
    visited = [x]
    for i, dt in enumerate(gaps.to(grid) if gaps.requires_grad else gaps.tolist()):
        x = step(velocity, x, grid[i].expand(x.shape[0]), dt, tableau)
        if trajectory:
            visited.append(x)
        if on_step is not None:
            on_step(i + 1, x)
    return Solution(x, len(gaps) * len(tableau.weights), times, torch.stack(visited) if trajectory else None)


def stochastic(
    velocity_and_score: VelocityAndScore,
    x: Tensor,
    times: Tensor,
    *,
    diffusion: float | Callable[[Tensor], Tensor],
    generator: torch.Generator | None = None,
    trajectory: bool = False,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Solution:
    """Follow dx = (v + g²/2 ∇ log p) dt + g dW by Euler and Maruyama's method, from x [B, …] at times[0].

    With the score of the densities that v makes, these are the densities at every time, whatever the diffusion g ≥ 0
    (Song et al., arXiv 2011.13456, appendix D, and Albergo et al., "Stochastic Interpolants", arXiv 2303.08797).

    Args:
        times: [S + 1], rising.
        diffusion: g, or t, a tensor without axes, → g. It should go to 0 where the score goes to infinity.
    """
    require(times.ndim == 1 and len(times) >= 2, "the shape of times", tuple(times.shape), "[S + 1] with S ≥ 1 steps")
    require(bool((times.diff() > 0).all()), "times", times.tolist(), "strictly rising")
    grid = times.to(device=x.device, dtype=x.dtype)
    visited = [x]
    for i, dt in enumerate(times.diff().tolist()):
        g = diffusion(grid[i]) if callable(diffusion) else diffusion
        velocity, score = velocity_and_score(x, grid[i].expand(x.shape[0]))
        noise = torch.randn(x.shape, generator=generator, device=device_of(generator), dtype=x.dtype).to(x.device)
        x = x + dt * (velocity + g**2 / 2 * score) + g * dt**0.5 * noise
        if trajectory:
            visited.append(x)
        if on_step is not None:
            on_step(i + 1, x)
    return Solution(x, len(times) - 1, times, torch.stack(visited) if trajectory else None)


# Dormand and Prince, "A family of embedded Runge-Kutta formulae", J. Comp. Appl. Math. 6 (1980), table 2.
_DOPRI5_NODES = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
_DOPRI5_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_DOPRI5_ERROR = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 5.0


def dopri5(
    velocity: Velocity,
    x: Tensor,
    start: float = 0.0,
    end: float = 1.0,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    first_step: float = 0.05,
    max_steps: int = 10_000,
) -> Solution:
    """Follow dx/dt = velocity(x, t) from x [B, …] at `start` to `end`, forward or backward, by Dormand-Prince 5(4).

    Steps are as long as the error allows. A batch that shares one step size goes at the pace of its hardest sample,
    and its result depends on who else is in the batch; here every sample has its own time and its own step, and those
    that have arrived wait.

    Args:
        rtol, atol: a step is taken when the root mean square of error / (atol + rtol |x|) over the sample is at most 1.
        first_step: length of the first try. max_steps: tries of one sample, refused ones included.

    Returns:
        `Solution`; `evaluations` is the largest number that one sample took; `times` are the two ends.

    A try that ends in no finite number is refused like one of too large an error, and the step shrinks.

    Raises:
        RuntimeError: a sample needs more than `max_steps`, or its velocity blows up or is not finite.
    """
    require(rtol >= 0 and atol >= 0 and rtol + atol > 0, "rtol, atol", (rtol, atol), "0 or more and not both 0")
    require(start != end, "end", end, "another time than start")
    require(first_step > 0, "first_step", first_step, "positive")
    direction = 1.0 if end > start else -1.0
    batch, wide = x.shape[0], (-1, *[1] * (x.ndim - 1))
    t = x.new_full((batch,), start)
    size = x.new_full((batch,), min(first_step, abs(end - start)))
    counts = torch.ones(batch, dtype=torch.long, device=x.device)
    broken = torch.zeros(batch, dtype=torch.bool, device=x.device)
    slope = velocity(x, t)
    for _ in range(max_steps):
        left = (end - t).abs()
        going = left > 0
        length = torch.minimum(size, left)
        stuck = going & (t + direction * length == t)
        if bool(stuck.any()):
            where = float(t[stuck][0])
            if bool(broken[stuck][0]):
                raise RuntimeError(f"dopri5: the velocity is not finite after t = {where:.6g}")
            raise RuntimeError(f"dopri5: the step vanishes at t = {where:.6g}, where the velocity blows up")
        there, error, next_slope = _attempt(velocity, x, t, direction * length, slope)
        counts += 6 * going
        scale = atol + rtol * torch.maximum(x.abs(), there.abs())
        ratio = (error / scale).detach().flatten(1).square().mean(1).sqrt()
        broken = going & ~torch.isfinite(ratio)
        if bool(broken.any()):  # all of it again, as a graph that holds such numbers has no gradient
            size = torch.where(broken, length * _SHRINK, size)
            continue
        taken = going & (ratio <= 1)
        chosen = taken.reshape(wide)
        x, slope = torch.where(chosen, there, x), torch.where(chosen, next_slope, slope)
        t = torch.where(taken, torch.where(length >= left, end, t + direction * length), t)
        factor = (_SAFETY * ratio.clamp(min=1e-10) ** -0.2).clamp(_SHRINK, _GROW)
        size = torch.where(going, length * torch.where(taken, factor, factor.clamp(max=1.0)), size)
        if bool((t == end).all()):
            return Solution(x, max(counts.tolist(), default=0), torch.tensor([start, end], dtype=torch.float64))
    raise RuntimeError(f"dopri5: not at t = {end} after {max_steps} steps; raise rtol and atol, or max_steps")


def _attempt(velocity: Velocity, x: Tensor, t: Tensor, dt: Tensor, first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The state after dt, its error estimate, and the slope there, which is the next step's first."""
    wide = dt.reshape(-1, *[1] * (x.ndim - 1))
    slopes = [first]
    for node, row in zip(_DOPRI5_NODES[1:], _DOPRI5_STAGES, strict=True):
        there = x + wide * sum(weight * slope for weight, slope in zip(row, slopes, strict=True) if weight)
        slopes.append(velocity(there, t + node * dt))
    error = wide * sum(weight * slope for weight, slope in zip(_DOPRI5_ERROR, slopes, strict=True) if weight)
    return there, error, slopes[-1]
