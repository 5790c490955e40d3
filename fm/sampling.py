"""From noise to data: the velocity of a network under a condition, guided or not, and a solver that follows it.

Classifier-free guidance goes past the conditional velocity v_c, away from the unconditional one v_∅:
v_∅ + w (v_c - v_∅) (Ho and Salimans, arXiv 2207.12598, eq. 6, for velocities). w = 1 costs one network call; any other
w evaluates both in one call of twice the batch.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from fm import solvers, times
from fm._checks import require, require_one_of, require_samples
from fm._random import device_of


def sample(
    network: nn.Module,
    condition: Tensor | None,
    num_points: int | None = None,
    *,
    steps: int = 50,
    method: str = "euler",
    guidance: float = 1.0,
    guidance_kind: str = "plain",
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    shift: float = 1.0,
    diffusion: float | Callable[[Tensor], Tensor] | None = None,
    generator: torch.Generator | None = None,
    x0: Tensor | None = None,
    trajectory: bool = False,
    differentiable: bool = False,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> solvers.Solution:
    """Data drawn by the network: noise at t = 0 carried to t = 1.

    Args:
        condition: [B, …], one for each sample, or None.
        num_points: N, points of each cloud, which starts as noise: B clouds, or one without a condition.
        steps: of the solver; `method` says how many evaluations each takes (Euler 1, midpoint and Heun 2, RK4 4).
            Method "dopri5" chooses its own steps, to a tolerance of 1e-5, and has no trajectory, shift or on_step.
        guidance: weight of classifier-free guidance; 1 is none. guidance_kind, guidance_interval: see `guided`.
        shift: factor of `fm.times.shift` on the time grid; 1 is equal steps.
        diffusion: g of a stochastic equation, see `fm.solvers.stochastic`, for a network that gives a score as well.
        generator: decides the noise. x0: the noise itself, or other source data, in its place: clouds [B, N, D],
            vectors [B, D], or pictures [B, C, H, W]. It must be given for a network that has no `dim`.
        trajectory: keep the points at every step, too. differentiable: keep the graph for gradients.

    Returns:
        `fm.solvers.Solution`; `.x` has the shape of x0, and lies on the network's device.
    """
    require(steps >= 1, "steps", steps, "1 or more")
    require(num_points is None or num_points >= 1, "num_points", num_points, "1 or more")
    weight = next(network.parameters(), torch.empty(0) if x0 is None else x0)
    if condition is not None:  # labels stay integers
        condition = condition.to(weight.device, weight.dtype if condition.is_floating_point() else None)
    batch = len(condition) if condition is not None else 1 if x0 is None else len(x0)
    if x0 is None:
        dim = getattr(network, "dim", None)
        require(dim is not None, "x0", x0, "given for a network that has no `dim`")
        require(num_points is not None, "num_points", num_points, "given, or else x0")
        x0 = torch.randn(
            batch, cast("int", num_points), cast("int", dim), generator=generator, device=device_of(generator)
        )
    require_samples("x0", x0)
    shape = (batch, *x0.shape[1:]) if num_points is None else (batch, num_points, *x0.shape[2:])
    require(tuple(x0.shape) == shape, "the shape of x0", tuple(x0.shape), f"{list(shape)}")
    velocity = guided(network, condition, guidance, kind=guidance_kind, interval=guidance_interval)
    x0 = x0.to(weight.device, torch.promote_types(weight.dtype, torch.float32))
    training = network.training
    network.eval()
    try:
        with torch.set_grad_enabled(differentiable):
            if diffusion is not None:
                require(method == "euler", "method", method, "'euler' with diffusion")
                require(guidance == 1, "guidance", guidance, "1 with diffusion")
                return solvers.stochastic(
                    scored(network, condition), x0, times.grid(steps, factor=shift),
                    diffusion=diffusion, generator=generator, trajectory=trajectory, on_step=on_step,
                )  # fmt: skip
            if method == "dopri5":
                require(not trajectory, "trajectory", trajectory, "False with dopri5, whose samples step apart")
                require(on_step is None, "on_step", on_step, "None with dopri5, whose samples step apart")
                require(shift == 1, "shift", shift, "1 with dopri5, which chooses its own steps")
                return solvers.dopri5(velocity, x0)
            grid = times.grid(steps, factor=shift)
            return solvers.integrate(velocity, x0, grid, method=method, trajectory=trajectory, on_step=on_step)
    finally:
        network.train(training)


def guided(
    network: nn.Module,
    condition: Tensor | None,
    guidance: float = 1.0,
    *,
    kind: str = "plain",
    interval: tuple[float, float] = (0.0, 1.0),
) -> solvers.Velocity:
    """The velocity x [B, …], t [B] → [B, …] of the network under a condition [B, …].

    A network in half precision gets x in its own, and t as it is; x and t of a solver stay as precise as they are.

    Args:
        guidance: the weight w. 1 is no guidance, 0 is unconditional.
        kind: a key of `GUIDANCES`.
        interval: guidance holds for t inside it, both ends included; elsewhere w = 1 (Kynkäänniemi et al., "Applying
            Guidance in a Limited Interval", arXiv 2404.07724).
    """
    require_one_of("kind", kind, GUIDANCES)
    answer = _in_its_precision(network)

    def velocity_of(x: Tensor, t: Tensor, *given: Tensor) -> Tensor:
        said = answer(x, t, *given)
        return said[0] if isinstance(said, tuple) else said

    require(0 <= interval[0] <= interval[1] <= 1, "interval", interval, "two rising times in [0, 1]")
    require(condition is not None or guidance in (0, 1), "guidance", guidance, "1 or 0 when there is no condition")
    everywhere = tuple(interval) == (0, 1)
    if condition is None or (guidance == 0 and kind == "plain" and everywhere):
        return velocity_of
    with torch.inference_mode(False):  # a likelihood differentiates the velocity in any mode
        condition = condition.clone() if condition.is_inference() else condition
        keep = torch.arange(2, device=condition.device).repeat_interleave(condition.shape[0]) == 0
        doubled = condition.repeat(2, *[1] * (condition.ndim - 1))
    if guidance == 1:
        return lambda x, t: velocity_of(x, t, condition)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        inside = (t >= interval[0]) & (t <= interval[1])
        if not everywhere and not bool(inside.any()):
            return velocity_of(x, t, condition)
        conditional, unconditional = velocity_of(x.repeat(2, *[1] * (x.ndim - 1)), t.repeat(2), doubled, keep).chunk(2)
        v = GUIDANCES[kind](conditional, unconditional, guidance)
        if everywhere:
            return v
        return torch.where(inside.reshape(-1, *[1] * (x.ndim - 1)), v, conditional)

    return velocity


def scored(network: nn.Module, condition: Tensor | None) -> solvers.VelocityAndScore:
    """The velocity and the score, x [B, …], t [B] → [B, …] both, of a network that gives both."""
    answer, given = _in_its_precision(network), [] if condition is None else [condition]

    def both(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        said = answer(x, t, *given)
        if isinstance(said, tuple):
            return said
        raise ValueError("the network gives no score; train one that does, or see fm.conversions.with_score")

    return both


def _in_its_precision(network: Callable[..., Any]) -> Callable[..., Tensor | tuple[Tensor, Tensor]]:
    weight = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    if weight is None or weight.dtype not in (torch.bfloat16, torch.float16):
        return network

    def answer(x: Tensor, t: Tensor, *given: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, weight.dtype):  # a network may join x and t
            said = network(x.to(weight.dtype), t, *given)
        return tuple(v.to(x.dtype) for v in said) if isinstance(said, tuple) else said.to(x.dtype)

    return answer


def plain(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """v_∅ + w (v_c - v_∅)."""
    return torch.lerp(unconditional, conditional, weight)


def rescaled(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Plain guidance, brought back to the standard deviation of v_c in each sample, against too strong contrast.

    Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv 2305.08891, eq. 15-16 at φ = 1. A
    sample whose numbers are all the same, or that is a single one, has no contrast and stays as it is.
    """
    v = plain(conditional, unconditional, weight)
    if v[:1].numel() < 2:
        return v
    spread, wanted = (u.flatten(1).std(1).reshape(-1, *[1] * (u.ndim - 1)) for u in (v, conditional))
    level = spread <= 1e-6 * v.flatten(1).abs().amax(1).reshape_as(spread)
    return torch.where(level, v, v * wanted / spread.clamp(min=1e-12))


def zero_star(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Guidance with v_∅ scaled to its least-squares best in each sample. Fan et al., "CFG-Zero*", arXiv 2503.18886.

    s = ⟨v_c, v_∅⟩ / |v_∅|², then s v_∅ + w (v_c - s v_∅). The paper also zeroes the first step; an interval from
    above 0 comes near to that.
    """
    a, b = conditional.flatten(1), unconditional.flatten(1)
    s = (a * b).sum(1) / b.square().sum(1).clamp(min=1e-12)
    return plain(conditional, unconditional * s.reshape(-1, *[1] * (unconditional.ndim - 1)), weight)


Guidance = Callable[[Tensor, Tensor, float], Tensor]
"""v_c, v_∅ [B, …], w → the velocity to follow [B, …]"""
GUIDANCES: dict[str, Guidance] = {"plain": plain, "rescaled": rescaled, "zero-star": zero_star}
