"""Dormand-Prince 5(4): steps as long as the error allows, chosen for each sample by itself.

A batch that shares one step size goes at the pace of its hardest sample, and its result depends on who else is in the
batch. Here every sample has its own time and its own step; those that have arrived wait.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fm._checks import require
from fm.runge_kutta import Solution, Velocity

# Dormand and Prince, "A family of embedded Runge-Kutta formulae", J. Comp. Appl. Math. 6 (1980), table 2.
_NODES = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
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
    """Follow dx/dt = velocity(x, t) from x [B, …] at `start` to `end`, forward or backward.

    Args:
        rtol, atol: a step is taken when the root mean square of error / (atol + rtol |x|) over the sample is at most 1.
        first_step: length of the first try. max_steps: tries of one sample, refused ones included.

    Returns:
        `Solution`; `evaluations` is the largest number that one sample took; `times` are the two ends.

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
    slope = velocity(x, t)
    for _ in range(max_steps):
        left = (end - t).abs()
        going = left > 0
        length = torch.minimum(size, left)
        stuck = going & (t + direction * length == t)
        if bool(stuck.any()):
            where = float(t[stuck][0])
            raise RuntimeError(f"dopri5: the step vanishes at t = {where:.6g}, where the velocity blows up")
        there, error, next_slope = _attempt(velocity, x, t, direction * length, slope)
        counts += 6 * going
        scale = atol + rtol * torch.maximum(x.abs(), there.abs())
        ratio = (error / scale).detach().flatten(1).square().mean(1).sqrt()
        if not torch.isfinite(ratio).all():
            where = float(t[~torch.isfinite(ratio)][0])
            raise RuntimeError(f"dopri5: the velocity is not finite after t = {where:.6g}")
        taken = going & (ratio <= 1)
        chosen = taken.reshape(wide)
        x, slope = torch.where(chosen, there, x), torch.where(chosen, next_slope, slope)
        t = torch.where(taken, torch.where(length >= left, end, t + direction * length), t)
        factor = (_SAFETY * ratio.clamp(min=1e-10) ** -0.2).clamp(_SHRINK, _GROW)
        size = torch.where(going, length * torch.where(taken, factor, factor.clamp(max=1.0)), size)
        if bool((t == end).all()):
            return Solution(x, int(counts.max()), torch.tensor([start, end], dtype=torch.float64))
    raise RuntimeError(f"dopri5: not at t = {end} after {max_steps} steps; raise rtol and atol, or max_steps")


def _attempt(velocity: Velocity, x: Tensor, t: Tensor, dt: Tensor, first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The state after dt, its error estimate, and the slope there, which is the next step's first."""
    wide = dt.reshape(-1, *[1] * (x.ndim - 1))
    slopes = [first]
    for node, row in zip(_NODES[1:], _STAGES, strict=True):
        there = x + wide * sum(weight * slope for weight, slope in zip(row, slopes, strict=True) if weight)
        slopes.append(velocity(there, t + node * dt))
    error = wide * sum(weight * slope for weight, slope in zip(_ERROR, slopes, strict=True) if weight)
    return there, error, slopes[-1]
