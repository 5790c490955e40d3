"""The velocity that a solver follows: a network under a condition, with or without classifier-free guidance.

Guidance goes past the conditional velocity v_c, away from the unconditional one v_∅: v_∅ + w (v_c - v_∅) (Ho and
Salimans, arXiv 2207.12598, eq. 6, for velocities). w = 1 is plain and costs one network call; any other w evaluates
both in one call of twice the batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fm._checks import one_of, require

Combine = Callable[[Tensor, Tensor, float], Tensor]


def plain(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """v_∅ + w (v_c - v_∅)."""
    return torch.lerp(unconditional, conditional, weight)


def rescaled(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Plain guidance, brought back to the standard deviation of v_c in each sample, against too strong contrast.

    Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv 2305.08891, eq. 15-16 at φ = 1.
    """
    v = plain(conditional, unconditional, weight)
    spread, wanted = (u.flatten(1).std(1).reshape(-1, *[1] * (u.ndim - 1)) for u in (v, conditional))
    return v * wanted / spread.clamp(min=1e-12)


def zero_star(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Guidance with v_∅ scaled to its least-squares best in each sample. Fan et al., "CFG-Zero*", arXiv 2503.18886.

    s = ⟨v_c, v_∅⟩ / |v_∅|², then s v_∅ + w (v_c - s v_∅). The paper also zeroes the first step; an interval from
    above 0 comes near to that.
    """
    a, b = conditional.flatten(1), unconditional.flatten(1)
    s = (a * b).sum(1) / b.square().sum(1).clamp(min=1e-12)
    return plain(conditional, unconditional * s.reshape(-1, *[1] * (unconditional.ndim - 1)), weight)


GUIDANCES: dict[str, Combine] = {"plain": plain, "rescaled": rescaled, "zero-star": zero_star}


def guided(
    network: nn.Module,
    condition: Tensor | None,
    guidance: float = 1.0,
    *,
    kind: str = "plain",
    interval: tuple[float, float] = (0.0, 1.0),
) -> Callable[[Tensor, Tensor], Tensor]:
    """The velocity x [B, N, D], t [B] → [B, N, D] of the network under a condition [B, C].

    Args:
        guidance: the weight w. 1 is no guidance, 0 is unconditional.
        kind: a key of `GUIDANCES`.
        interval: guidance holds for t inside it, both ends included; elsewhere w = 1 (Kynkäänniemi et al., "Applying
            Guidance in a Limited Interval", arXiv 2404.07724).
    """
    one_of("kind", kind, GUIDANCES)
    require(0 <= interval[0] <= interval[1] <= 1, "interval", interval, "two rising times in [0, 1]")
    if condition is None or guidance == 0:
        require(guidance in (0, 1), "guidance", guidance, "1 or 0 when there is no condition")
        return lambda x, t: network(x, t, None)
    if guidance == 1:
        return lambda x, t: network(x, t, condition)
    keep = torch.arange(2, device=condition.device).repeat_interleave(condition.shape[0]) == 0
    doubled = condition.repeat(2, *[1] * (condition.ndim - 1))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        inside = (t >= interval[0]) & (t <= interval[1])
        if not bool(inside.any()):
            return network(x, t, condition)
        conditional, unconditional = network(x.repeat(2, *[1] * (x.ndim - 1)), t.repeat(2), doubled, keep).chunk(2)
        v = GUIDANCES[kind](conditional, unconditional, guidance)
        return torch.where(inside.reshape(-1, *[1] * (x.ndim - 1)), v, conditional)

    return velocity
