"""Exact assignment for transport: costs that keep their digits, and SciPy's search, started near its end.

A number taken from a row or a column of the costs changes no optimal assignment. Taking the potentials of a few rounds
of entropic transport (Cuturi, arXiv 1306.0895) leaves costs near zero where the plan is, and the search, which
looks for one augmenting path after the other, then finds nearly all at once.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fm._sinkhorn import Array, without_minima

_PARALLEL_FROM = 32  # fewer problems than this are quicker on one thread
_TOGETHER = 2**17  # costs whose potentials are sought at once: small problems wait for Python otherwise
_LARGE = 64  # smaller problems are quicker without the potentials
_HUGE = 512  # from here on more of them pay
_LEVELS = (0.1, 0.01), (0.1, 0.017, 0.003)  # regularizations in units of the mean cost, below and from there on
_ROUNDS = 10, 20  # of each
_FEW = 16  # coordinates, up to which the sum of squared differences costs no more than an inner product


def in_unit_box(x: Tensor, y: Tensor, axes: int | tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """x and y [..., D], moved and scaled into the unit box along `axes`, and the size of the box, 1 along them.

    Far from the origin, or at very small and large scales, squares and projections lose their digits.
    """
    a, b = x.detach(), y.detach()
    low = torch.minimum(a.amin(axes, keepdim=True), b.amin(axes, keepdim=True))
    high = torch.maximum(a.amax(axes, keepdim=True), b.amax(axes, keepdim=True))
    size = (high - low).amax(-1, keepdim=True).clamp(min=torch.finfo(low.dtype).tiny)
    return (x - low) / size, (y - low) / size, size


def squared_distances(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Between vectors x [..., M, D] and y [..., N, D]: [..., M, N] in units of the box they fill, and those units."""
    x, y, size = in_unit_box(x.detach().cpu().double(), y.detach().cpu().double(), -2)
    products = "donot_use" if x.shape[-1] <= _FEW else "use"
    return torch.cdist(x, y, compute_mode=f"{products}_mm_for_euclid_dist").square_(), size.square()


def assign(costs: Tensor) -> Tensor:
    """The columns [..., M] of the cheapest assignment of the rows of costs [..., M, M]."""
    size = costs.shape[-1]
    flat = costs.detach().cpu().reshape(-1, size, size).numpy()
    workers = torch.get_num_threads() if len(flat) >= _PARALLEL_FROM else 1
    few = min(max(1, _TOGETHER // size**2), -(-len(flat) // workers))
    solved = _mapped(_columns, workers, [flat[start : start + few] for start in range(0, len(flat), few)])
    return torch.from_numpy(np.concatenate(solved)).reshape(costs.shape[:-1])


def each(solve: Callable[..., Array], costs: Tensor, *others: Tensor) -> Tensor:
    """What `solve` makes of each problem: of its costs [..., N, M], and its part of `others` [..., *]: [..., *]."""
    axes = costs.ndim - 2
    flat = [v.detach().cpu().reshape(-1, *v.shape[axes:]).numpy() for v in (costs, *others)]
    solved = _mapped(solve, torch.get_num_threads() if len(flat[0]) >= _PARALLEL_FROM else 1, *flat)
    return torch.from_numpy(np.stack(solved)).reshape(*costs.shape[:axes], *solved[0].shape)


def _mapped(solve: Callable[..., Array], workers: int, *problems: Iterable[Array]) -> list[Array]:
    if workers == 1:
        return list(map(solve, *problems))
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(solve, *problems))


def _columns(costs: Array) -> Array:
    """Of each of `costs` [K, M, M]: [K, M]."""
    reduced = _reduced(costs) if costs.shape[-1] >= _LARGE else costs
    return np.stack([linear_sum_assignment(cost)[1] for cost in reduced])


def _reduced(costs: Array) -> Array:
    """The costs less potentials of rows and columns, in double precision, as rounding could change the plan."""
    units = costs.mean((1, 2), dtype=np.float64, keepdims=True)
    left, huge = costs / np.where(units > 0, units, 1), costs.shape[-1] >= _HUGE
    for regularization in _LEVELS[huge]:
        left = without_minima(left)
        kernel = np.exp(left.astype(np.float32) / -np.float32(regularization)).clip(1e-30)
        v = np.ones((*costs.shape[:2], 1), np.float32)
        for _ in range(_ROUNDS[huge]):
            v = 1 / ((1 / (kernel @ v)).mT @ kernel).mT
        left -= regularization * np.log(v).mT
    return left
