"""A step of training on CUDA as one graph, and losses that are read while later steps are on their way.

The networks here are small, and an accelerator spends most of a step on waiting for the host, which launches hundreds
of operations. As a graph they are one launch, and the host makes the next batch meanwhile.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fm._batches import NotFinite
from fm._objective import Batch, Where

WARM_UP = 3  # steps before the graph is taken, in which libraries set themselves up
AHEAD = 8  # steps that the host may be ahead of the last loss that it has read


class Replayed:
    """A step on CUDA, after the first `WARM_UP` as a graph, for batches that the host made.

    A batch of other shapes than the graph's goes operation by operation.

    Args:
        step: tensors on the device → loss and norm of the gradient [2].
        weights: what it trains, and whose gradients it finds empty.
    """

    def __init__(self, step: Callable[[Batch], Tensor], weights: Sequence[Tensor]) -> None:
        self.step, self.weights, self.device = step, weights, weights[0].device
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: list[Tensor | None] = []
        self.calls = 0

    def __call__(self, batch: Batch) -> Tensor:
        self.calls += 1
        pinned = [v.pin_memory() if v is not None and v.device.type == "cpu" else v for v in batch]
        if self.graph is None and self.calls > WARM_UP:
            self._capture(pinned)
        if self.graph is None or _shapes(pinned) != _shapes(self.inputs):
            self._forget()
            return self.step(on_device(pinned, self.device))
        for kept, new in zip(self.inputs, pinned, strict=True):
            if kept is not None and new is not None:
                kept.copy_(new, non_blocking=True)
        self.graph.replay()
        return self.found

    def _capture(self, batch: Batch) -> None:
        self._forget()
        self.inputs = on_device(batch, self.device)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=torch.cuda.current_stream()):
            self.found = self.step(self.inputs)

    def _forget(self) -> None:
        for weight in self.weights:
            weight.grad = None


class Losses:
    """The loss of each step [steps], read when it is there: at once, or while later steps are on their way."""

    def __init__(self, losses: Tensor, *, ahead: int) -> None:
        self.losses, self.ahead, self.last = losses, ahead, math.nan
        self.coming: deque[tuple[int, Tensor, Any, Where]] = deque()

    def add(self, step: int, found: Tensor, where: Where) -> None:
        """Loss and norm of the gradient [2] of a step. Raises NotFinite of this step or one before."""
        arrived = None
        if self.ahead:
            found = torch.empty(2, pin_memory=True).copy_(found, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self.coming.append((step, found, arrived, where))
        if len(self.coming) > self.ahead or math.isnan(self.last):
            self._read()

    def rest(self) -> None:
        """Read all that is still on its way."""
        while self.coming:
            self._read()

    def _read(self) -> None:
        step, found, arrived, where = self.coming.popleft()
        if arrived is not None:
            arrived.synchronize()
        value, norm = found.tolist()
        self.losses[step] = self.last = value
        if not (math.isfinite(value) and math.isfinite(norm)):
            place = where() if not math.isfinite(value) else "in the gradient alone"
            raise NotFinite(
                f"step {step}: training stopped, the loss is {value} and not finite {place}; try a lower learning_rate"
            )


def on_device(batch: Batch, device: torch.device) -> list[Tensor | None]:
    return [None if value is None else value.to(device, non_blocking=True) for value in batch]


def _shapes(batch: Batch) -> list[Any]:
    return [None if value is None else (value.shape, value.dtype) for value in batch]
