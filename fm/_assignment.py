"""Exact assignment for transport: costs that keep their digits, and SciPy's search, started near its end.

A number taken from a row or a column of the costs changes no optimal assignment. Taking the potentials of a few rounds
of entropic transport (Cuturi, arXiv 1306.0895) leaves costs near zero where the plan is, and the search, which
looks for one augmenting path after the other, then finds nearly all at once.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

_PARALLEL_FROM = 32  # fewer problems than this are quicker on one thread
_LARGE = 200  # smaller problems are quicker without the potentials
_REGULARIZATIONS = (0.1, 0.017, 0.003)  # in units of the mean cost
_ROUNDS = 20  # of each
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
    shape = costs.shape[:-1]
    flat = costs.detach().cpu().reshape(-1, *costs.shape[-2:])
    workers = torch.get_num_threads()
    if workers > 1 and len(flat) >= _PARALLEL_FROM:
        with ThreadPoolExecutor(workers) as pool:
            columns = list(pool.map(_columns, flat))
    else:
        columns = [_columns(cost) for cost in flat]
    return torch.from_numpy(np.stack(columns)).reshape(shape)


def _columns(cost: Tensor) -> np.ndarray:
    return linear_sum_assignment((_reduced(cost) if len(cost) >= _LARGE else cost).numpy())[1]


def _reduced(cost: Tensor) -> Tensor:
    """The costs less potentials of rows and columns, in double precision, as rounding could change the plan."""
    unit = float(cost.mean())
    if not unit > 0:
        return cost
    left = (cost / unit).float()
    rows, columns = cost.new_zeros(len(cost), 1, dtype=torch.float64), cost.new_zeros(len(cost), dtype=torch.float64)
    for regularization in _REGULARIZATIONS:
        for potential, axis in ((rows, 1), (columns, 0)):  # so that no row or column of the kernel is all 0
            least = left.amin(axis, keepdim=True)
            left -= least
            potential += least.squeeze(0) if axis == 0 else least
        kernel = torch.mul(left, -1 / regularization).exp_().clamp_(min=1e-30)
        v = left.new_ones(len(left))
        for _ in range(_ROUNDS):
            v = ((kernel @ v).reciprocal_() @ kernel).reciprocal_()
        gain = v.log_() * regularization
        left -= gain
        columns += gain
    return cost.double() / unit - rows - columns
