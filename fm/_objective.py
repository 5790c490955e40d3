"""What a training lowers, in two halves, so that the second one can be replayed on an accelerator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Called = Callable[..., Any]
"""a network as the run calls it"""
Where = Callable[[], str]
"""says where in a batch something is not finite"""
Batch = Sequence[Tensor | None]


@dataclass(frozen=True)
class Objective:
    """A loss in two halves: what the host draws, and what a network makes of it.

    Attributes:
        draw: a generator and the step → the tensors of a batch.
        loss: the network as the run calls it, and these tensors → the loss, and where it is if not finite.
    """

    draw: Callable[[torch.Generator, int], Batch]
    loss: Callable[..., tuple[Tensor, Where]]
