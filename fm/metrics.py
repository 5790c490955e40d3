"""Distances between clouds and between sets of clouds. All are in the units of the points unless they say otherwise."""

import math

import torch
from torch import Tensor

from fm import couplings
from fm._assignment import assign, in_unit_box
from fm._checks import require, require_clouds

_ROWS = 1024  # of a table of distances that is not kept whole
_OVERRELAXED = 1.8  # of a Sinkhorn step; 1 is plain and needs several times the rounds


def chamfer(x: Tensor, y: Tensor, *, squared: bool = False) -> Tensor:
    """Chamfer distance of clouds x [B, N, D] and y [B, M, D], pair by pair: [B].

    The mean squared distance from each point to the nearest of the other cloud, both ways, summed, and the root of
    that. squared: without the root, as PointFlow defines it (Yang et al., arXiv 1906.12320, eq. 12, per point).
    """
    x, y = _pairs(x, y)
    near = [_nearest(a, b) for a, b in zip(x, y, strict=True)]
    total = torch.stack(near)
    return total if squared else _root(total)


def _nearest(x: Tensor, y: Tensor) -> Tensor:
    distances = _distances(x, y)
    return distances.min(1).values.square().mean() + distances.min(0).values.square().mean()


def _root(squares: Tensor) -> Tensor:
    """The square root, without a gradient where it is 0: its slope is infinite there."""
    positive = squares > 0
    return torch.where(positive, squares, 1.0).sqrt() * positive


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Differences squared and summed: the quicker form by inner products loses half the digits of small distances."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def sliced_w2(x: Tensor, y: Tensor, *, directions: int = 64) -> Tensor:
    """Sliced 2-Wasserstein distance of clouds x [B, N, D] and y [B, M, D], pair by pair: [B].

    The root of the mean, over directions, of the squared W2 between the projections on them (Bonneel et al. 2015). In
    the plane the directions are evenly spread over the half circle; above, they are fixed random ones.
    """
    x, y, size = in_unit_box(*_pairs(x, y), 1)
    px, py = (_projected(c, directions) for c in (x, y))
    n, m = px.shape[-1], py.shape[-1]
    if n != m:  # the share of mass that goes between each pair of neighbours in rank
        ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique().to(x.device)
        share = ends.diff(prepend=ends.new_zeros(1)) / (n * m)
        squares = (px[..., (ends - 1) // m] - py[..., (ends - 1) // n]).square().mean(1) @ share.to(px)
    else:
        squares = (px - py).square().mean(dim=(1, 2))
    return _root(squares) * size.flatten()


def pairwise_sliced_w2(x: Tensor, y: Tensor, *, directions: int = 64, quantiles: int = 256) -> Tensor:
    """Sliced W2 between every cloud of x [A, N, D] and every cloud of y [B, M, D]: [A, B].

    A cloud is represented by `quantiles` quantiles of its projections, so that all pairs cost one table of distances.
    They are those of its distribution, and so the same for the same points repeated.
    """
    x, y, size = in_unit_box(*_same_space(x, y), (0, 1))
    px, py = (_quantiles(_projected(c, directions), quantiles).flatten(1) for c in (x, y))
    return _distances(px, py) * (size.flatten() / math.sqrt(px.shape[1]))


def pairwise_chamfer(x: Tensor, y: Tensor, *, squared: bool = False) -> Tensor:
    """Chamfer distance between every cloud of x [A, N, D] and every cloud of y [B, M, D]: [A, B]."""
    x, y = _same_space(x, y)
    return torch.stack([chamfer(a.expand(len(y), -1, -1), y, squared=squared) for a in x])


def _projected(x: Tensor, directions: int) -> Tensor:
    """Sorted projections [B, directions, N] of clouds [B, N, D]."""
    require(directions >= 1, "directions", directions, "1 or more")
    dim = x.shape[-1]
    if dim == 2:
        angles = torch.arange(directions, dtype=torch.float64) * (math.pi / directions)
        axes = torch.stack([angles.cos(), angles.sin()])
    else:
        generator = torch.Generator().manual_seed(0)
        axes = torch.nn.functional.normalize(torch.randn(dim, directions, generator=generator), dim=0)
    return (x @ axes.to(x)).transpose(1, 2).sort(dim=-1).values


def _quantiles(ordered: Tensor, count: int) -> Tensor:
    """`count` quantiles [..., count] of sorted numbers [..., N], at levels 1/2, 3/2, … of `count`.

    At a level between two of the numbers it is their mean (Hyndman and Fan 1996, definition 2).
    """
    rank = (2 * torch.arange(count, device=ordered.device) + 1) * ordered.shape[-1]
    return (ordered[..., (rank - 1) // (2 * count)] + ordered[..., rank // (2 * count)]) / 2


def emd(x: Tensor, y: Tensor) -> Tensor:
    """Earth mover's distance of clouds x, y [B, N, D], pair by pair: [B].

    The mean Euclidean distance under the optimal bijection, solved exactly (PointFlow, arXiv 1906.12320, eq. 13).
    """
    x, y = _pairs(x, y)
    require(x.shape[1] == y.shape[1], "the number of points of x and y", [x.shape[1], y.shape[1]], "equal")
    costs = _distances(x, y)
    return costs.gather(2, assign(costs).to(costs.device).unsqueeze(2)).mean((1, 2))


def sinkhorn_emd(x: Tensor, y: Tensor, *, regularization: float = 0.01, rounds: int = 60) -> Tensor:
    """Earth mover's distance of clouds x [B, N, D] and y [B, M, D] that are too large for `emd`, from below: [B].

    The dual of entropic transport (Cuturi, arXiv 1306.0895) in the log domain, its regularization falling geometrically
    to the one given, in units of distance, over `rounds`, with overrelaxed steps (Thibault et al., arXiv 1711.01851). A
    last step makes the dual feasible, so the result never exceeds the exact distance; once converged it lacks at most
    regularization · log M. Distances are computed for `_ROWS` points at a time and never kept: memory grows with N + M.
    """
    x, y = _pairs(x, y)
    require(regularization > 0, "regularization", regularization, "positive")
    require(rounds >= 1, "rounds", rounds, "1 or more")
    return torch.stack([_dual(a, b, regularization, rounds) for a, b in zip(x, y, strict=True)])


def _dual(x: Tensor, y: Tensor, regularization: float, rounds: int) -> Tensor:
    both = torch.cat([x, y])
    start = max(float((both.amax(0) - both.amin(0)).norm()), regularization)
    f, g = x.new_zeros(len(x)), y.new_zeros(len(y))
    for eps in torch.logspace(math.log10(start), math.log10(regularization), rounds).tolist():
        f = f.lerp(_soft_transform(x, y, g, eps), _OVERRELAXED)
        g = g.lerp(_soft_transform(y, x, f, eps), _OVERRELAXED)
    nearest = [(_distances(rows, y) - g).amin(1) for rows in x.split(_ROWS)]
    return torch.cat(nearest).mean() + g.mean()


def _soft_transform(x: Tensor, y: Tensor, g: Tensor, eps: float) -> Tensor:
    """-ε log mean_j exp((g_j - |x_i - y_j|) / ε) for each row of x: [N]."""
    parts = [((g - _distances(rows, y)) / eps).logsumexp(1) for rows in x.split(_ROWS)]
    return eps * (math.log(len(y)) - torch.cat(parts))


def pairwise_emd(x: Tensor, y: Tensor) -> Tensor:
    """Earth mover's distance between every cloud of x [A, N, D] and every cloud of y [B, N, D]: [A, B]."""
    x, y = _same_space(x, y)
    return torch.stack([emd(a.expand(len(y), -1, -1), y) for a in x])


def w2(x: Tensor, y: Tensor) -> float:
    """Exact 2-Wasserstein distance of two sets of points [N, D]: the root of the mean squared assigned distance."""
    shapes = [tuple(x.shape), tuple(y.shape)]
    require(x.ndim == 2 and x.shape == y.shape, "the shapes of x and y", shapes, "[N, D] both")
    x, y = x.detach().cpu().double(), y.detach().cpu().double()
    paired, y, size = in_unit_box(couplings.exact_ot(x, y, block=None), y, 0)
    return float((paired - y).square().sum(-1).mean().sqrt() * size)


def retrieval(distances: Tensor) -> float:
    """The share of rows of distances [A, A] whose smallest entry is their own, on the diagonal."""
    require(
        distances.ndim == 2 and distances.shape[0] == distances.shape[1] and len(distances) > 0,
        "the shape of distances", tuple(distances.shape), "[A, A]",
    )  # fmt: skip
    own = torch.arange(len(distances), device=distances.device)
    return int((distances.argmin(dim=1) == own).sum()) / len(distances)


def _pairs(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x, y = _same_space(x, y)
    require(len(x) == len(y), "the number of clouds of x and y", [len(x), len(y)], "equal")
    return x, y


def _same_space(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the more precise of their types, and in single precision at least."""
    require_clouds("x", x)
    require_clouds("y", y)
    require(x.shape[2] == y.shape[2], "the dimension of x and y", [x.shape[2], y.shape[2]], "equal")
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return x.to(dtype), y.to(dtype)
