"""The training data that stage `dataset` writes: reading it, and its two sides."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.clouds import artifacts
from tasks.errors import StippleError

TRAIN, HELD_OUT = "train", "held_out"
WORDINGS_SHARE = 0.25


def load(root: Path) -> dict[str, Any]:
    """The training data, read without unpickling code."""
    path = root / artifacts.TRAIN_DATA
    try:
        return torch.load(path, weights_only=True)
    except FileNotFoundError:
        raise StippleError(f"{path} is missing; run `stipple stage dataset` first, or `dvc pull`") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise StippleError(f"{path} cannot be read ({reason}); remove it and run `stipple stage dataset`") from None


def rows_of(data: dict[str, Any], split: str) -> Tensor:
    """Indices [M] of the frames on one side of the split."""
    return torch.tensor([i for i, side in enumerate(data["split"]) if side == split])


def conditions(
    data: dict[str, Any], rows: Tensor, *, wordings: bool, noise: float
) -> Callable[[Tensor, torch.Generator], Tensor]:
    """What frames in `index` [B] are drawn from in training, [B, C]: the embedding of a summary.

    With `wordings` it is at times (`WORDINGS_SHARE`) that of a wording, where the frame has some. `noise` is what is
    added, as a share of the standard deviation of each of the C numbers over `rows` [M].
    """
    spread = noise * data["embeddings"][rows].std(0, correction=0)
    count = torch.tensor([len(texts) for texts in data["wordings"]])
    first = count.cumsum(0) - count

    def draw(index: Tensor, generator: torch.Generator) -> Tensor:
        found = data["embeddings"][index]
        if wordings:
            chosen = first[index] + (torch.rand(len(index), generator=generator) * count[index]).long()
            shorter = (torch.rand(len(index), generator=generator) < WORDINGS_SHARE) & (count[index] > 0)
            found[shorter] = data["wording_embeddings"][chosen[shorter]]
        if noise:
            found = found + spread * torch.randn(found.shape, generator=generator)
        return found

    return draw


def clip_of(frame_id: str) -> str:
    """The source of a frame: "clip.mp4/000042" → "clip.mp4"."""
    return frame_id.rpartition("/")[0]
