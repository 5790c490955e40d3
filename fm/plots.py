"""Pictures of clouds, trajectories, velocity fields and densities in the plane. Each returns a matplotlib `Figure`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, hsv_to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from fm import solvers
from fm._checks import require, require_clouds

INK, PALE = "#1d2433", "#b9c0cc"
DENSITY = LinearSegmentedColormap.from_list("density", ["#ffffff00", "#9fc3e6", "#2f6fde", "#1b2a6b", "#0d1020"])
SPEED = LinearSegmentedColormap.from_list("speed", ["#9fb4d8", "#2f6fde", "#7a2fb8", "#e0492f"])


@dataclass(frozen=True)
class Flow:
    """What `why_paths_bend` shows of one flow.

    Attributes:
        title, note: what it is, in a word and in a sentence.
        pairs: [2, N, 2], some x0 and the x1 that training paired them with.
        trajectory: [S + 1, N, 2], where the trained network carries some points.
        few: [N, 2], what it draws in a few steps.
        numbers: what was measured, name → value as it is to be shown.
    """

    title: str
    note: str
    pairs: Tensor
    trajectory: Tensor
    few: Tensor
    numbers: Mapping[str, str]


def clouds(
    x: Tensor,
    titles: Sequence[str] = (),
    *,
    columns: int = 8,
    y_down: bool = False,
    size: float = 1.5,
    limit: float = 3,
    side: float = 2,
    labels: Tensor | None = None,
) -> Figure:
    """Clouds [B, N, 2] side by side, each in [-limit, limit]² and `side` inches wide. y_down: as images have it, still
    drawn upright. labels: the class of each point [B, N], which gives it its hue."""
    require_clouds("x", x)
    figure, axes = _panels(len(x), columns, limit, side)
    for i, axis in enumerate(axes):
        _draw_points(axis, x[i], size=size, color=INK if labels is None else _class_colors(labels)[i])
        if y_down:
            axis.invert_yaxis()
        if i < len(titles):
            axis.set_title(titles[i], fontsize=8)
    return figure


def trajectories(
    trajectory: Tensor, *, count: int = 200, limit: float = 3, side: float = 2, labels: Tensor | None = None
) -> Figure:
    """The trajectories [S + 1, N, 2] of the first `count` points, from pale starts to dark ends.

    Each has the hue of its class in `labels` [N], or else of the direction in which it starts, seen from the origin.
    """
    require(trajectory.ndim == 3, "the shape of trajectory", tuple(trajectory.shape), "[S + 1, N, 2]")
    figure, (axis,) = _panels(1, 1, limit, side)
    colors = None if labels is None else _class_colors(labels)[:count]
    _draw_trajectories(axis, trajectory[:, :count], size=1.2 * side, colors=colors)
    return figure


@torch.no_grad()
def field(
    velocity: solvers.Velocity,
    *,
    at: Sequence[float] = (0.1, 0.5, 0.9),
    arrows: int = 20,
    limit: float = 3,
    side: float = 2,
    behind: Sequence[Tensor] = (),
) -> Figure:
    """Arrows of velocity(x [1, N, 2], t [1]) on a grid, at a few times, coloured by speed.

    behind: the cloud [N, 2] that each time's arrows move.
    """
    x = lattice(arrows, limit)
    figure, axes = _panels(len(at), len(at), limit, side)
    for i, (axis, t) in enumerate(zip(axes, at, strict=True)):
        v = velocity(x.unsqueeze(0), torch.tensor([float(t)]))[0].cpu()
        if i < len(behind):
            _draw_points(axis, behind[i], size=0.6 * side, color=PALE)
        axis.quiver(*x.T.numpy(), *v.T.numpy(), v.norm(dim=-1).numpy(), cmap=SPEED, width=0.0045, zorder=3)
        axis.set_title(f"t = {t:.2f}", fontsize=8)
    return figure


def density(
    log_densities: Sequence[Tensor], titles: Sequence[str] = (), *, limit: float = 3, side: float = 2
) -> Figure:
    """Densities given as log p on `lattice` points [n²] each. The darkest colour is each one's 99.5 % quantile."""
    figure, axes = _panels(len(log_densities), len(log_densities), limit, side)
    for i, (axis, values) in enumerate(zip(axes, log_densities, strict=True)):
        cells = round(len(values) ** 0.5)
        image = values.reshape(cells, cells).exp().cpu().numpy()
        axis.imshow(
            image, origin="lower", extent=(-limit, limit, -limit, limit), cmap=DENSITY, interpolation="bilinear",
            vmin=0, vmax=np.quantile(image, 0.995),
        )  # fmt: skip
        if i < len(titles):
            axis.set_title(titles[i], fontsize=8)
    return figure


def why_paths_bend(flows: Sequence[Flow], *, limit: float = 3) -> Figure:
    """One page: a column for each flow with the pairs it learned from, the paths it learned, and what few steps give.

    A velocity has one value at each place and time. Where the lines between pairs cross it can only be their average,
    so the paths bend; where they do not, paths are straight, and a solver needs few steps.
    """
    wide = len(flows)
    figure = Figure(figsize=(3.1 * wide + 0.4, 10.9), dpi=120, layout="constrained")
    figure.suptitle(
        "A velocity has one value at each place and time. Where lines of pairs cross, it can only be their mean.",
        fontsize=10,
    )
    rows = figure.subplots(4, wide, squeeze=False, height_ratios=[1, 1, 1, 0.36])
    for column, flow in zip(rows.T, flows, strict=True):
        pairs, paths, few, table = column
        for axis in column:
            axis.set_axis_off()
        for axis in column[:3]:
            axis.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        _draw_trajectories(pairs, flow.pairs, size=4)
        _draw_trajectories(paths, flow.trajectory, size=4)
        _draw_points(few, flow.few, size=1.5)
        pairs.set_title(flow.title, fontsize=13, fontweight="bold", pad=30)
        pairs.text(0.5, 1.02, flow.note, transform=pairs.transAxes, fontsize=8, ha="center", va="bottom")
        for line, (name, value) in enumerate(flow.numbers.items()):
            y = 0.98 - line / len(flow.numbers)
            table.text(0.04, y, name, transform=table.transAxes, fontsize=8, va="top")
            table.text(0.96, y, value, transform=table.transAxes, fontsize=8, va="top", ha="right", weight="bold")
    for axis, name in zip(rows[:, 0], ("pairs to learn from", "paths it learned", "two Euler steps"), strict=False):
        axis.text(-0.02, 0.5, name, transform=axis.transAxes, fontsize=9, rotation=90, ha="right", va="center")
    return figure


def lattice(side: int, limit: float = 3) -> Tensor:
    """The points [side², 2] on which `density` wants its values, row by row from below."""
    ticks = (torch.arange(side) + 0.5) / side * 2 * limit - limit
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def _draw_points(axis: Axes, x: Tensor, *, size: float, color: str | np.ndarray = INK, zorder: int = 1) -> None:
    axis.scatter(x[:, 0].numpy(), x[:, 1].numpy(), s=size, c=color, linewidths=0, zorder=zorder)


def _class_colors(labels: Tensor) -> np.ndarray:
    """A colour for each label [...]: [..., 3], hues evenly spread over the classes."""
    return _hues(labels / (int(labels.max()) + 1))


def _hues(share: Tensor) -> np.ndarray:
    """Colours [..., 3] for shares [...] of the way round the hues."""
    return hsv_to_rgb(np.stack([share.numpy(), *(np.full(share.shape, level) for level in (0.62, 0.82))], axis=-1))


def _draw_trajectories(axis: Axes, trajectory: Tensor, *, size: float, colors: np.ndarray | None = None) -> None:
    """Lines through the states [S + 1, N, 2], which grow darker, from pale dots to dark ones."""
    trajectory = trajectory.cpu()
    if colors is None:
        colors = _hues(torch.atan2(trajectory[0, :, 1], trajectory[0, :, 0]) / (2 * math.pi) % 1)
    segments = torch.stack([trajectory[:-1], trajectory[1:]], dim=2).flatten(0, 1).numpy()
    steps, count = len(trajectory) - 1, trajectory.shape[1]
    shade = np.repeat(np.linspace(0.25, 0.9, steps) if steps > 1 else np.array([0.6]), count)
    shaded = np.concatenate([np.tile(colors, (steps, 1)), shade[:, None]], axis=1)
    axis.add_collection(LineCollection(list(segments), colors=shaded, linewidths=0.7, zorder=1))
    _draw_points(axis, trajectory[0], size=size, color=PALE, zorder=2)
    _draw_points(axis, trajectory[-1], size=size, zorder=3)


def _panels(count: int, columns: int, limit: float, side: float) -> tuple[Figure, list[Axes]]:
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(side * columns, (side + 0.2) * rows), dpi=120, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
        axis.set_aspect("equal")
        axis.set(xlim=(-limit, limit), ylim=(-limit, limit))
    return figure, axes[:count]
