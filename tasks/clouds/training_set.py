"""The training data that stage `dataset` writes: reading it, and its two sides."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.clouds import artifacts
from tasks.errors import StippleError

TRAIN, HELD_OUT = "train", "held_out"


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


def clip_of(frame_id: str) -> str:
    """The source of a frame: "clip.mp4/000042" → "clip.mp4"."""
    return frame_id.rpartition("/")[0]
