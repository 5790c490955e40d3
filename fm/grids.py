"""Densities on a grid: where points are likely, as a map of cells, and the flow that carries noise there.

A density is [B, H, W], of any scale, over a picture whose longer side spans [-extent, extent]; x goes with the columns,
y with the rows. Inside a cell it is even.
"""

import torch
from torch import Tensor

from fm._checks import require, require_clouds


def histogram(points: Tensor, side: int, *, extent: float) -> Tensor:
    """How many of the points [B, N, 2] fall into each cell of a square grid: a density [B, side, side].

    What lies outside counts for the cells at the edge.
    """
    require_clouds("points", points)
    require(points.shape[-1] == 2, "the shape of points", tuple(points.shape), "[B, N, 2]")
    column, row = ((points + extent) * (side / (2 * extent))).long().clamp(0, side - 1).unbind(-1)
    counts = points.new_zeros(len(points), side * side)
    cells = row * side + column
    return counts.scatter_add_(1, cells, counts.new_ones(cells.shape)).unflatten(1, (side, side))


def transport(density: Tensor, x0: Tensor, *, extent: float) -> Tensor:
    """Noise x0 [B, N, 2] ~ N(0, I) carried to points of the densities [B, H, W].

    The Knothe–Rosenblatt rearrangement (Santambrogio, "Optimal Transport for Applied Mathematicians", 2015, section
    2.3): x goes to the place of equal rank in the density of the columns, then y to that of equal rank in its column.
    Ranks keep their order on the straight way from x0 to the point, so no two ways meet: these lines are the paths of
    an exact flow, and a single step follows it to its end.
    """
    require(density.ndim == 3, "the shape of density", tuple(density.shape), "[B, H, W]")
    require_clouds("x0", x0)
    require(
        len(x0) == len(density) and x0.shape[-1] == 2, "the shape of x0", tuple(x0.shape), f"[{len(density)}, N, 2]"
    )
    _, height, width = density.shape
    rank = torch.special.ndtr(x0)
    column, across = _quantile(density.sum(1, keepdim=True).expand(-1, x0.shape[1], -1), rank[..., :1])
    chosen = density.mT.gather(1, column.expand(-1, -1, height))
    row, down = _quantile(chosen, rank[..., 1:])
    cells = torch.cat([column + across, row + down], dim=-1)
    size = x0.new_tensor([width, height])
    return (2 * cells - size) * (extent / size.max())


def _quantile(weights: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """The cell of `weights` [..., K] in which the share `rank` [..., 1] is reached, and the place in it, 0 to 1."""
    cumulative = weights.cumsum(-1)
    wanted = rank * cumulative[..., -1:]
    cell = torch.searchsorted(cumulative, wanted, right=True).clamp(max=weights.shape[-1] - 1)
    inside = weights.gather(-1, cell).clamp(min=torch.finfo(weights.dtype).tiny)
    return cell, ((wanted - cumulative.gather(-1, cell) + inside) / inside).clamp(0, 1)


def log_likelihood(density: Tensor, points: Tensor, *, extent: float) -> Tensor:
    """log p of each point [B, N, 2] under its density [B, H, W], in nats: [B, N]; -inf outside."""
    _, height, width = density.shape
    size = points.new_tensor([width, height])
    cells = (points * (size.max() / extent) + size) / 2
    inside = ((cells >= 0) & (cells < size)).all(-1)
    column, row = cells.long().clamp(min=0).unbind(-1)
    index = row.clamp(max=height - 1) * width + column.clamp(max=width - 1)
    share = density.flatten(1) / density.flatten(1).sum(1, keepdim=True)
    area = (2 * extent / max(height, width)) ** 2
    return torch.where(inside, (share.gather(1, index) / area).log(), -torch.inf)
