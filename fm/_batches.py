"""What a training step learns from: a batch of data, its pairs, and where they are on the path."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fm._checks import require
from fm.couplings import across_batch

if TYPE_CHECKING:
    from fm.training import TrainConfig


class Batch(NamedTuple):
    """Clouds x1 [B, N, D], vectors [B, D], or pictures [B, C, H, W] and other samples of more axes.

    Also the condition of each, [B, …], such as rows [B, C] or labels [B]; x0 where the pairs are already made, as in
    reflow; and the time t [B] of each where that is settled, too. A plain tuple of the first ones will do.

    Clouds are paired with noise point by point, each inside itself. All else, and clouds of a single point, is paired
    along the batch.
    """

    x1: Tensor
    condition: Tensor | None = None
    x0: Tensor | None = None
    t: Tensor | None = None


DrawBatch = Callable[[torch.Generator], Batch | tuple[Tensor, ...] | Tensor]
"""generator → a `Batch`, a tuple of its first members, or x1 alone"""
Source = Callable[[Tensor, torch.Generator], Tensor]
"""data x1 and a generator → x0 of x1's shape"""


class NotFinite(RuntimeError):
    """A batch, a loss or a gradient is NaN or infinite; the message names the step and the part of the batch."""


@dataclass(frozen=True)
class Example:
    """What the network is shown, x_t, t [B], condition and keep [B], and what it should answer: these five in a row.

    A cloud is there in k parts, [B·k, N/k, D]. noise: the path's ε, and spread [B] its standard deviation s(t), where
    the path has noise.
    """

    x: Tensor
    t: Tensor
    condition: Tensor | None
    keep: Tensor | None
    velocity: Tensor
    noise: Tensor | None
    spread: Tensor | None
    parts: int

    def __iter__(self) -> Iterator[Tensor | None]:
        return iter((self.x, self.t, self.condition, self.keep, self.velocity))


def gaussian(x1: Tensor, generator: torch.Generator) -> Tensor:
    """x0 ~ N(0, I)."""
    return torch.randn(x1.shape, generator=generator, dtype=x1.dtype, device=generator.device).to(x1.device)


def draw_example(draw_batch: DrawBatch, config: "TrainConfig", generator: torch.Generator, step: int = 0) -> Example:
    """One batch ready for the network."""
    drawn = draw_batch(generator)
    x1, condition, x0, t = Batch(drawn) if isinstance(drawn, Tensor) else Batch(*drawn)
    x1 = x1 if x1.is_floating_point() else x1.to(torch.get_default_dtype())
    x0 = None if x0 is None else x0.to(x1)
    require(x1.ndim >= 2 and x1.numel() > 0, "the shape of a batch", tuple(x1.shape),
            "[B, N, D] of clouds, [B, D] of vectors, or [B, …], and none of it 0")  # fmt: skip
    for name, value in (("the data", x1), ("the conditions", condition), ("the source", x0)):
        if value is not None and not torch.isfinite(value).all():
            bad = (~torch.isfinite(value.reshape(len(value), -1)).all(1)).nonzero().flatten().tolist()
            raise NotFinite(f"step {step}: {name} of the batch hold NaN or infinity at batch positions {bad}")
    samples, points = len(x1), x1.shape[1] if x1.ndim == 3 else 1
    require(condition is None or len(condition) == samples, "the number of conditions of a batch",
            None if condition is None else len(condition), f"{samples}")  # fmt: skip
    k = min(config.times_per_cloud, points)
    require(points % k == 0, "times_per_cloud", k, f"a divisor of the {points} points of a cloud")
    if x0 is None:
        pair = config.coupling if points > 1 else partial(across_batch, coupling=config.coupling)
        x0 = pair(config.source(x1, generator), x1, condition=condition, generator=generator)
    t = config.times(samples * k, generator).to(x1) if t is None else t.repeat_interleave(k).to(x1)
    if k > 1:
        x0, x1 = (v.reshape(samples * k, points // k, -1) for v in (x0, x1))
    noise = config.path.noise(x1, generator)
    x, velocity = config.path(x0, x1, t, noise)
    keep = None
    if condition is not None:
        condition = condition.repeat_interleave(k, dim=0)
        if config.condition_dropout > 0:
            kept = torch.rand(samples, generator=generator) >= config.condition_dropout
            keep = kept.repeat_interleave(k)
    return Example(x, t, condition, keep, velocity, noise, None if noise is None else config.path.spread(t), k)


def endless(batches: DrawBatch | Iterable[Any], seed: int, first: int) -> DrawBatch:
    """`batches` where it is a function already; else round and round through a data loader, from batch `first` on.

    The seed decides in which order a loader without a generator of its own shuffles in each round.
    """
    if callable(batches):
        return batches
    try:
        number = len(batches)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    require(number > 0, "draw_batch", batches, "a function of a generator, or a DataLoader of known length, not empty")

    def rounds() -> Iterator[Any]:
        for epoch in itertools.count(first // number):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed * 1_000_003 + epoch)
                ordered = iter(batches)
                head = next(ordered)
            start = first % number if epoch == first // number else 0
            yield from itertools.islice(itertools.chain([head], ordered), start, None)

    stream = rounds()
    return lambda generator: next(stream)
