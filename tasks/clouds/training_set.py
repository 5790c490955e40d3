"""The training data that stage `dataset` writes: reading it, and its two sides."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.clouds import artifacts
from tasks.errors import StippleError

TRAIN, HELD_OUT = "train", "held_out"
WORDINGS_SHARE = 0.5


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


def conditions(data: dict[str, Any], index: Tensor, _generator: torch.Generator) -> Tensor:
    """What the frames in `index` [B] are drawn from, [B, C]: the embeddings of their summaries."""
    return data["embeddings"][index]


def some_conditions(data: dict[str, Any], index: Tensor, generator: torch.Generator) -> Tensor:
    """What the frames in `index` [B] are drawn from in training, [B, C]: the summary's embedding, or a wording's.

    One half of the time each, where a frame has wordings.
    """
    count = torch.tensor([len(texts) for texts in data["wordings"]])
    start = (count.cumsum(0) - count)[index]
    chosen = start + (torch.rand(len(index), generator=generator) * count[index]).long()
    shorter = (torch.rand(len(index), generator=generator) < WORDINGS_SHARE) & (count[index] > 0)
    conditions = data["embeddings"][index]
    conditions[shorter] = data["wording_embeddings"][chosen[shorter]]
    return conditions


def clip_of(frame_id: str) -> str:
    """The source of a frame: "clip.mp4/000042" → "clip.mp4"."""
    return frame_id.rpartition("/")[0]
