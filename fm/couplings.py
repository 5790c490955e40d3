"""Who is paired with whom: a coupling reorders the source so that x0[…, i, :] goes with x1[…, i, :].

The last two axes are a set of N vectors; an axis before them counts separate problems. A batch of clouds [B, N, D] is
thus paired point by point inside each cloud, which is optimal transport *inside each condition*: pairing across clouds
would mix their conditions, and what is learned then is the wrong joint distribution for good. For the same reason
`exact_ot` and `sinkhorn_ot` pair vectors [N, D] that have a condition each inside each condition only. `across_batch`
pairs samples of any shape, such as pictures, as vectors along the batch.

A coupling is a function (x0, x1, *, condition, generator) → x0; settle its other arguments with `functools.partial`.
"""

from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from fm import _sinkhorn
from fm._assignment import assign, each, squared_distances
from fm._checks import require, require_finite, require_same_shape
from fm._random import device_of


class Coupling(Protocol):
    """x0, x1 [..., N, D], the condition of each cloud or vector where there is one → x0 [..., N, D]."""

    def __call__(
        self, x0: Tensor, x1: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor: ...


def independent(
    x0: Tensor, x1: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """x0 as it was drawn."""
    require_same_shape(x0=x0, x1=x1)
    return x0


def exact_ot(
    x0: Tensor,
    x1: Tensor,
    *,
    block: int | None = 64,
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """x0 [..., N, D] reordered by optimal transport under squared distance to x1 [..., N, D].

    Args:
        block: solve in consecutive blocks of this many vectors instead of all N at once: the plan is then optimal
            inside each block only, and the cost grows as N · block² instead of N³. None: one block. For vectors in
            random order, as fresh samples of a cloud are, blocks are as random as any.
        condition: [N] or [N, …] of vectors [N, D], which are then paired with those of equal condition. Clouds
            [B, N, D] are apart anyway.

    Pooladian et al., "Multisample Flow Matching", arXiv 2304.14772; Tong et al., arXiv 2302.00482, section 4.
    """
    if condition is not None and x1.ndim == 2:
        return inside_condition(x0, x1, condition=condition, coupling=partial(exact_ot, block=block))
    return _take(x0, assignment(x0, x1, block=block))


def condition_weighted_ot(
    x0: Tensor,
    x1: Tensor,
    *,
    condition: Tensor | None = None,
    weight: float = 1.0,
    block: int | None = 64,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Optimal transport under |x0 - x1|² + weight · |c0 - c1|², for conditions of real numbers.

    Each x0 [..., N, D] carries the condition of the x1 it was drawn with. At weight 0 transport ignores conditions and
    learns the wrong joint; a growing weight goes over into transport among equal conditions. Cheng and Schwing, "The
    Curse of Conditions", arXiv 2503.10636.
    """
    require(weight >= 0, "weight", weight, "0 or more")
    condition = _per_vector(condition, x1)
    tail = condition.detach().cpu().double() * weight**0.5
    marked = (torch.cat([x.detach().cpu(), tail], dim=-1) for x in (x0, x1))
    return _take(x0, assignment(*marked, block=block))


def inside_condition(
    x0: Tensor,
    x1: Tensor,
    *,
    condition: Tensor | None = None,
    coupling: Coupling = exact_ot,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`coupling` among the vectors of equal condition (labels [..., N], or equal rows [..., N, …]) only."""
    _require_sets(x0, x1)
    condition = _per_vector(condition, x1)
    rows = condition.reshape(-1, *condition.shape[x1.ndim - 2 :])
    sources, targets = (v.reshape(-1, *v.shape[-2:]) for v in (x0, x1))
    paired = sources.clone()
    for i, labels in enumerate(rows):
        _, group, sizes = torch.unique(labels, dim=0, return_inverse=True, return_counts=True)
        for k in (sizes > 1).nonzero().flatten():
            members = (group == k).nonzero().flatten()
            paired[i, members] = coupling(sources[i, members], targets[i, members], generator=generator)
    return paired.reshape(x0.shape)


def sinkhorn_ot(
    x0: Tensor,
    x1: Tensor,
    *,
    regularization: float,
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Each x1 gets an x0 drawn from its part of the entropic plan; an x0 may serve twice. Cuturi, arXiv 1306.0895.

    A Schrödinger bridge of noise σ wants `regularization` 2σ² (Tong et al., arXiv 2302.00482, section 3.2). Conditions
    are what they are for `exact_ot`.
    """
    if condition is not None and x1.ndim == 2:
        among = partial(sinkhorn_ot, regularization=regularization)
        return inside_condition(x0, x1, condition=condition, coupling=among, generator=generator)
    require(regularization > 0, "regularization", regularization, "positive")
    drawn = torch.rand(x1.shape[:-1], generator=generator, device=device_of(generator))
    return _take(x0, each(partial(_sinkhorn.draw, regularization=regularization), _costs(x1, x0), drawn))


def mixed(
    x0: Tensor,
    x1: Tensor,
    *,
    share: float,
    coupling: Coupling = exact_ot,
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A convex mix: `coupling` among a random `share` of the pairs, the others independent."""
    require(0 <= share <= 1, "share", share, "in [0, 1]")
    _require_sets(x0, x1)
    n = x0.shape[-2]
    chosen = torch.randperm(n, generator=generator, device=device_of(generator))[: round(share * n)].to(x0.device)
    if len(chosen) < 2:
        return x0
    among = condition
    if condition is not None and condition.shape[: x1.ndim - 1] == x1.shape[:-1]:  # labels, or rows, of each vector
        among = condition.index_select(x1.ndim - 2, chosen.to(condition.device))
    paired = coupling(x0[..., chosen, :], x1[..., chosen, :], condition=among, generator=generator)
    return x0.index_copy(-2, chosen, paired)


def across_batch(
    x0: Tensor,
    x1: Tensor,
    *,
    coupling: Coupling = exact_ot,
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`coupling` along the batch: each sample [B, …] is one vector, with its own condition [B, …]."""
    require_same_shape(x0=x0, x1=x1)
    paired = coupling(x0.flatten(1), x1.flatten(1), condition=condition, generator=generator)
    return paired.reshape(x0.shape)


def assignment(x0: Tensor, x1: Tensor, *, block: int | None = None) -> Tensor:
    """The optimal plan as indices [..., N]: x1[…, i, :] gets x0[…, assignment[…, i], :]. See `exact_ot`."""
    _require_sets(x0, x1)
    n = x0.shape[-2]
    require(x0.ndim == 2 or n >= 2, "the number of vectors of x0", n, "2 or more, or there is nothing to pair")
    require(block is None or block >= 2, "block", block, "2 or more, or None")
    size = n if block is None else min(block, n)
    whole = n - n % size
    blocks = (v[..., :whole, :].unflatten(-2, (-1, size)) for v in (x0, x1))
    order = (_solve(*blocks) + torch.arange(0, whole, size).unsqueeze(-1)).flatten(-2)
    if whole < n:
        order = torch.cat([order, _solve(x0[..., whole:, :], x1[..., whole:, :]) + whole], dim=-1)
    return order


def sinkhorn_plan(x0: Tensor, x1: Tensor, *, regularization: float) -> Tensor:
    """The entropic plan [..., N, M] between uniform weights under squared distance, in double precision.

    Each vector of x0 has its whole weight 1/N; of 1/M the vectors of x1 are 1e-9 off in all.
    """
    require(regularization > 0, "regularization", regularization, "positive")
    return each(partial(_sinkhorn.plan, regularization=regularization), _costs(x0, x1))


def _costs(x0: Tensor, x1: Tensor) -> Tensor:
    _require_sets(x0, x1, alike=False)
    distances, size = squared_distances(x0, x1)
    return distances.mul_(size)


def _solve(x0: Tensor, x1: Tensor) -> Tensor:
    """[..., m, D] twice → [..., m], the row of x0 that each row of x1 gets."""
    return assign(squared_distances(x1, x0)[0])


def _require_sets(x0: Tensor, x1: Tensor, *, alike: bool = True) -> None:
    """Sets of vectors, which pictures are not: what would be paired in each channel are their rows of pixels."""
    if alike:
        require_same_shape(x0=x0, x1=x1)
    for name, x in (("x0", x0), ("x1", x1)):
        shape = tuple(x.shape)
        allowed = "[N, D] or [B, N, D], none of them 0; `across_batch` pairs samples of any shape along the batch"
        require(x.ndim in (2, 3) and x.numel() > 0, f"the shape of {name}", shape, allowed)
        require_finite(name, x)


def _take(x0: Tensor, order: Tensor) -> Tensor:
    return x0.gather(-2, order.to(x0.device).unsqueeze(-1).expand(*order.shape, x0.shape[-1]))


def _per_vector(condition: Tensor | None, x1: Tensor) -> Tensor:
    """The condition of each vector, [..., N, C], from labels [..., N] or rows [..., N, …]."""
    shape = None if condition is None else tuple(condition.shape)
    wanted = tuple(x1.shape[:-1])
    require(shape is not None and shape[: len(wanted)] == wanted,
            "the shape of condition", shape, f"{list(wanted)} or {[*wanted, '…']}, one for each vector")  # fmt: skip
    assert condition is not None
    return condition.unsqueeze(-1).flatten(len(wanted))


COUPLINGS: dict[str, Coupling] = {"independent": independent, "ot": exact_ot}
