"""Pictures of clouds, trajectories, velocity fields and densities in the plane. Each returns a matplotlib `Figure`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from fm.checks import cloud, require
from fm.runge_kutta import Velocity

INK, PALE = "#1d2433", "#b9c0cc"


def clouds(
    x: Tensor,
    titles: Sequence[str] = (),
    *,
    columns: int = 8,
    y_down: bool = False,
    size: float = 1.5,
    limit: float = 3,
) -> Figure:
    """Clouds [B, N, 2] side by side, each in [-limit, limit]². y_down: as images have it, still drawn upright."""
    cloud("x", x)
    figure, axes = _grid(len(x), columns, limit)
    for i, axis in enumerate(axes):
        axis.scatter(*x[i].T.numpy(), s=size, c=INK, linewidths=0)
        if y_down:
            axis.invert_yaxis()
        if i < len(titles):
            axis.set_title(titles[i], fontsize=8)
    return figure


def trajectories(trajectory: Tensor, *, count: int = 200, limit: float = 3) -> Figure:
    """The ways [S + 1, N, 2] of the first `count` points, from pale starts to dark ends."""
    require(trajectory.ndim == 3, "the shape of trajectory", tuple(trajectory.shape), "[S + 1, N, 2]")
    figure, (axis,) = _grid(1, 1, limit)
    ways = trajectory[:, :count].cpu().numpy()
    axis.plot(ways[..., 0], ways[..., 1], c=PALE, lw=0.5, zorder=1)
    axis.scatter(*ways[0].T, s=3, c=PALE, linewidths=0, zorder=2)
    axis.scatter(*ways[-1].T, s=3, c=INK, linewidths=0, zorder=3)
    return figure


def over_time(
    trajectory: Tensor, times: Tensor, *, at: Sequence[float] = (0, 0.25, 0.5, 0.75, 1), limit: float = 3
) -> Figure:
    """One cloud [S + 1, N, 2] at a few of the times [S + 1] that its solver visited."""
    chosen = [int((times - t).abs().argmin()) for t in at]
    return clouds(
        trajectory[chosen].cpu(), [f"t = {float(times[i]):.2f}" for i in chosen], columns=len(at), limit=limit
    )


@torch.no_grad()
def field(velocity: Velocity, *, at: Sequence[float] = (0.1, 0.5, 0.9), arrows: int = 20, limit: float = 3) -> Figure:
    """Arrows of velocity(x [1, N, 2], t [1]) on a grid, at a few times."""
    x = _lattice(arrows, limit)
    figure, axes = _grid(len(at), len(at), limit)
    for axis, t in zip(axes, at, strict=True):
        v = velocity(x, torch.tensor([float(t)]))[0].cpu().numpy()
        axis.quiver(*x[0].T.numpy(), *v.T, color=INK, width=0.004)
        axis.set_title(f"t = {t:.2f}", fontsize=8)
    return figure


def density(log_densities: Sequence[Tensor], titles: Sequence[str] = (), *, limit: float = 3) -> Figure:
    """Densities given as log p on `lattice` points [side²] each."""
    figure, axes = _grid(len(log_densities), len(log_densities), limit)
    for i, (axis, values) in enumerate(zip(axes, log_densities, strict=True)):
        side = round(len(values) ** 0.5)
        image = values.reshape(side, side).exp().cpu().numpy()
        axis.imshow(
            image, origin="lower", extent=(-limit, limit, -limit, limit), cmap="Greys", interpolation="bilinear"
        )
        if i < len(titles):
            axis.set_title(titles[i], fontsize=8)
    return figure


def lattice(side: int, limit: float = 3) -> Tensor:
    """The points [side², 2] on which `density` wants its values, row by row from below."""
    return _lattice(side, limit)[0]


def _lattice(side: int, limit: float) -> Tensor:
    ticks = (torch.arange(side) + 0.5) / side * 2 * limit - limit
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(1, -1, 2)


def _grid(count: int, columns: int, limit: float) -> tuple[Figure, list[Axes]]:
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(2 * columns, 2.2 * rows), dpi=120, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
        axis.set_aspect("equal")
        axis.set(xlim=(-limit, limit), ylim=(-limit, limit))
    return figure, axes[:count]
