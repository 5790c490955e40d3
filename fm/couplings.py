"""Who is paired with whom: a coupling reorders the source so that x0[…, i, :] goes with x1[…, i, :].

The last two axes are a set of N vectors; axes before them are separate problems. A batch of clouds [B, N, D] is thus
paired point by point inside each cloud, which is what makes the paths of a conditional cloud straight: pairing across
clouds would mix their conditions.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fm.checks import require, same_shape

Coupling = Callable[[Tensor, Tensor], Tensor]

_PARALLEL_FROM = 32  # fewer blocks than this are quicker on one thread


def independent(x0: Tensor, x1: Tensor) -> Tensor:
    """x0 as it was drawn."""
    same_shape(x0=x0, x1=x1)
    return x0


def exact_ot(x0: Tensor, x1: Tensor, *, block: int | None = 64) -> Tensor:
    """x0 [..., N, D] reordered by optimal transport under squared distance to x1 [..., N, D].

    Args:
        block: solve in consecutive blocks of this many points instead of all N at once: the plan is then optimal
            inside each block only, and the cost grows as N · block² instead of N³. None: one block. For points in
            random order, as fresh samples of a cloud are, blocks are as random as any.

    Pooladian et al., "Multisample Flow Matching", arXiv 2304.14772; Tong et al., arXiv 2302.00482, section 4.
    """
    same_shape(x0=x0, x1=x1)
    require(x0.ndim >= 2, "the shape of x0", tuple(x0.shape), "[..., N, D]")
    n = x0.shape[-2]
    require(n >= 2, "the number of points of x0", n, "2 or more: optimal transport of a single point pairs nothing")
    require(block is None or block >= 2, "block", block, "2 or more, or None")
    size = n if block is None else min(block, n)
    whole = n - n % size
    parts = [x0[..., :whole, :].unflatten(-2, (-1, size))], [x1[..., :whole, :].unflatten(-2, (-1, size))]
    order = _assign(parts[0][0], parts[1][0]) + torch.arange(0, whole, size).unsqueeze(-1)
    order = order.flatten(-2)
    if whole < n:
        rest = _assign(x0[..., None, whole:, :], x1[..., None, whole:, :]).flatten(-2) + whole
        order = torch.cat([order, rest], dim=-1)
    return x0.gather(-2, order.to(x0.device).unsqueeze(-1).expand_as(x0))


def _assign(x0: Tensor, x1: Tensor) -> Tensor:
    """[..., m, D] twice → [..., m], the row of x0 that each row of x1 gets."""
    cost = torch.cdist(x1.detach().float(), x0.detach().float()).square_().cpu()
    flat = list(cost.reshape(-1, *cost.shape[-2:]).numpy())
    workers = torch.get_num_threads()
    if workers > 1 and len(flat) >= _PARALLEL_FROM:
        with ThreadPoolExecutor(workers) as pool:
            columns = [c for _, c in pool.map(linear_sum_assignment, flat)]
    else:
        columns = [linear_sum_assignment(c)[1] for c in flat]
    return torch.stack([torch.from_numpy(c) for c in columns]).reshape(cost.shape[:-1])


COUPLINGS: dict[str, Coupling] = {"independent": independent, "ot": exact_ot}
