"""What the examples draw: dots in colour, and solids that turn. Pillow does the drawing."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tasks.clouds.pictures import HALF_WIDTH, INK, PAPER, dots

NEAR, FAR = np.array(INK), np.array([176, 190, 214])
TILT = math.radians(20)  # how far the eye looks down on a solid


def solid(points: Tensor, turn: float, *, side: int, radius: float = 1.0) -> Image.Image:
    """`points` [N, 3], z up, seen from the side after a turn about z in radians: the nearer a dot, the darker."""
    x, y, z = points.T
    right = x * math.cos(turn) - y * math.sin(turn)
    away = x * math.sin(turn) + y * math.cos(turn)
    up, depth = z * math.cos(TILT) + away * math.sin(TILT), away * math.cos(TILT) - z * math.sin(TILT)
    order = depth.argsort(descending=True)
    share = (depth[order] / HALF_WIDTH * 0.7 + 0.5).clamp(0, 1).unsqueeze(1).numpy()
    colors = NEAR + (FAR - NEAR) * share
    return dots(torch.stack([right, -up], dim=1)[order].numpy(), colors, side=side, radius=radius)


def turntable(clouds: Sequence[Tensor], *, frames: int = 28, side: int = 140) -> bytes:
    """A GIF of `clouds` [N, 3] side by side, each going once round."""
    turns = [2 * math.pi * i / frames for i in range(frames)]
    pictures = [grid([[solid(cloud, turn, side=side) for cloud in clouds]]) for turn in turns]
    few = [picture.convert("L").quantize(8) for picture in pictures]
    buffer = io.BytesIO()
    few[0].save(buffer, format="GIF", save_all=True, append_images=few[1:], duration=80, loop=0)
    return buffer.getvalue()


def grid(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Pictures of one size, in rows."""
    width, height = rows[0][0].size
    whole = Image.new("RGB", (width * max(map(len, rows)), height * len(rows)), PAPER)
    for j, row in enumerate(rows):
        for i, picture in enumerate(row):
            whole.paste(picture, (i * width, j * height))
    return whole


def png(picture: Image.Image, colors: int) -> bytes:
    """A PNG of at most `colors` colours."""
    buffer = io.BytesIO()
    picture.quantize(colors, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
