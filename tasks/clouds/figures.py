"""The pictures of the evaluation, as PNG bytes: the same numbers always give the same bytes.

Clouds are in image coordinates (y down), so every axis that shows one is turned over.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from tasks.clouds import density

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

PAPER, INK, FAINT = "#fcfbf7", "#1c2230", "#8d93a1"
COLORS = {"model": "#2f6fde", "baseline": "#e0812f", "mean_cloud": "#b9bec9", "floor": "#3aa676"}
LABELS = {"model": "this model", "baseline": "original recipe", "mean_cloud": "mean cloud", "floor": "floor"}
STYLE: dict[RcKeyType, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "figure.dpi": 120,
    "legend.frameon": False,
}

Panel = tuple[Image.Image, Tensor, Tensor, str]
"""a frame, its true points [N, 2], the drawn points [N, 2], the text they were drawn from"""


def png(draw: Callable[..., Figure]) -> Callable[..., bytes]:
    """Give a function that makes a figure the project's looks, and let it return a PNG."""

    @wraps(draw)
    def drawn(*args: Any) -> bytes:
        with matplotlib.rc_context(STYLE):
            buffer = io.BytesIO()
            draw(*args).savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()

    return drawn


def show_cloud(axes: Axes, points: Tensor | np.ndarray, color: str = INK) -> None:
    """Draw points [N, 2] the right way up, or [N, 5] in their colours."""
    cloud = np.asarray(points)
    in_color = cloud.shape[1] > 2
    x, y = cloud[:, :2].T
    axes.scatter(x, y, s=5 if in_color else 1.6, c=density.levels(cloud) / 255 if in_color else color, linewidths=0)
    axes.set(xlim=(-3.2, 3.2), ylim=(3.2, -3.2), aspect="equal", xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


@png
def cloud_rows(rows: dict[str, Tensor]) -> Figure:
    """Clouds [k, N, 2] side by side, a row for each name."""
    columns = len(next(iter(rows.values())))
    figure = Figure(figsize=(1.5 * columns, 1.6 * len(rows)), layout="constrained")
    for panels, (name, clouds) in zip(figure.subplots(len(rows), columns, squeeze=False), rows.items(), strict=True):
        panels[0].set_ylabel(name, fontsize=8)
        for axes, cloud in zip(panels, clouds, strict=True):
            show_cloud(axes, cloud)
    return figure


@png
def gallery(panels: Sequence[Panel]) -> Figure:
    """Held-out frames, their points, and what the model draws from their text alone."""
    figure = Figure(figsize=(1.95 * len(panels) + 0.5, 7.6))
    grid = figure.subplots(3, len(panels), squeeze=False)
    figure.subplots_adjust(left=0.035, right=0.995, top=0.955, bottom=0.185, wspace=0.04, hspace=0.04)
    figure.suptitle("Held-out clips: what the model draws from the words alone", y=0.99, fontsize=11)
    for column, (picture, truth, drawn, text) in zip(grid.T, panels, strict=True):
        side = max(picture.size)
        margin = (side - picture.width) / 2, (side - picture.height) / 2
        column[0].imshow(picture)
        column[0].set(xlim=(-margin[0], side - margin[0]), ylim=(side - margin[1], -margin[1]))
        column[0].axis("off")
        show_cloud(column[1], truth)
        show_cloud(column[2], drawn, COLORS["model"])
        wrapped = "\n".join(textwrap.wrap(text, 29, max_lines=9, placeholder=" …"))
        column[2].text(0, -0.03, wrapped, transform=column[2].transAxes, fontsize=6.8, va="top", linespacing=1.25)
    for axes, name in zip(grid[:, 0], ("frame", "its points", "drawn"), strict=True):
        axes.text(-0.06, 0.5, name, transform=axes.transAxes, rotation=90, va="center", ha="right", fontsize=9)
    return figure


@png
def scores(values: dict[str, Any]) -> Figure:
    """The distances and the retrieval of everyone, side by side."""
    figure = Figure(figsize=(10, 3.1), layout="constrained")
    panels = {
        "chamfer": "Chamfer (lower is better)",
        "sliced_w2": "sliced W2 (lower is better)",
        "retrieval_frame": "finds its own frame (higher is better)",
        "retrieval_clip": "finds its own clip (higher is better)",
    }
    for axes, (score, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        who = [name for name in ("floor", "model", "baseline", "mean_cloud") if name in values[score]]
        heights = [values[score][name] for name in who]
        bars = axes.bar([LABELS[name].replace(" ", "\n") for name in who], heights, color=[COLORS[n] for n in who])
        share = score.startswith("retrieval")
        axes.bar_label(bars, [f"{h:.0%}" if share else f"{h:.3f}" for h in heights], padding=2, fontsize=8)
        axes.set_title(title, fontsize=9)
        axes.set_yticks([])
        axes.margins(y=0.12)
        axes.tick_params(length=0, labelsize=7.5)
        axes.spines["left"].set_visible(False)
    return figure


@png
def steps(values: dict[str, Any]) -> Figure:
    """Quality against the number of network evaluations."""
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    for axes, score, title in zip(
        figure.subplots(1, 2), ("chamfer", "sliced_w2"), ("Chamfer", "sliced W2"), strict=True
    ):
        by_steps = {int(n): value for n, value in values["by_steps"][score].items()}
        axes.plot(list(by_steps), list(by_steps.values()), "o-", color=COLORS["model"], ms=4, label=LABELS["model"])
        for name, line in (("baseline", "--"), ("floor", ":")):
            if name in values[score]:
                said = LABELS[name] + f", {values['settings']['steps']} Euler steps" * (name == "baseline")
                axes.axhline(values[score][name], color=COLORS[name], ls=line, lw=1.3, label=said)
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(by_steps), [str(n) for n in by_steps])
        axes.set(title=title, xlabel="Euler steps", ylim=(0, None))
    axes.legend(fontsize=8)
    return figure


@png
def cosine(pairs: Tensor, values: dict[str, float]) -> Figure:
    """How alike the texts' embeddings are."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    axes.hist(pairs.numpy(), bins=60, color=COLORS["model"])
    axes.axvline(values["mean"], color=INK, lw=1, ls="--")
    said = "min {min:.2f}, mean {mean:.2f} ± {std:.2f}, max {max:.2f}".format(**values)
    axes.set(title=f"Cosine similarity of every two embeddings\n{said}", yticks=[])
    axes.spines["left"].set_visible(False)
    return figure


@png
def training(curve: Sequence[tuple[int, float]]) -> Figure:
    """The loss, and its running mean."""
    at, loss = np.array(curve).T
    width = max(1, len(loss) // 25)
    smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
    figure = Figure(figsize=(5.5, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(at, loss, color=COLORS["model"], lw=0.7, alpha=0.35)
    axes.plot(at[width - 1 :], smooth, color=COLORS["model"], lw=1.6)
    axes.set(title="Training loss (mean squared velocity error)", xlabel="step", xlim=(0, None))
    axes.set_ylim(min(loss) * 0.97, np.quantile(loss, 0.97) * 1.1)
    return figure
