"""What the examples draw: dots in colour, and solids that turn. Pillow does the drawing."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from tasks.clouds.pictures import HALF_WIDTH, INK, OVERSAMPLE, PAPER

NEAR, FAR = np.array(INK), np.array([176, 190, 214])
TILT = math.radians(20)  # how far the eye looks down on a solid


def dots(points: Tensor, colors: np.ndarray, *, side: int, radius: float) -> Image.Image:
    """`points` [N, 2] in [-HALF_WIDTH, HALF_WIDTH], y down, as dots of `colors` [N, 3] (0 to 255), later ones on top.

    radius: in pixels of the picture, which is `side` of them wide and high.
    """
    large, r = side * OVERSAMPLE, radius * OVERSAMPLE
    image = Image.new("RGB", (large, large), PAPER)
    brush = ImageDraw.Draw(image)
    places = ((points.double().numpy() / HALF_WIDTH + 1) / 2 * large).tolist()
    for (x, y), color in zip(places, colors.round().astype(int).tolist(), strict=True):
        brush.ellipse((x - r, y - r, x + r, y + r), fill=tuple(color))
    return image.resize((side, side), Image.Resampling.BOX)


def solid(points: Tensor, turn: float, *, side: int, radius: float = 1.0) -> Image.Image:
    """`points` [N, 3], z up, seen from the side after a turn about z in radians: the nearer a dot, the darker."""
    x, y, z = points.T
    right = x * math.cos(turn) - y * math.sin(turn)
    away = x * math.sin(turn) + y * math.cos(turn)
    up, depth = z * math.cos(TILT) + away * math.sin(TILT), away * math.cos(TILT) - z * math.sin(TILT)
    order = depth.argsort(descending=True)
    share = (depth[order] / HALF_WIDTH * 0.7 + 0.5).clamp(0, 1).unsqueeze(1).numpy()
    colors = NEAR + (FAR - NEAR) * share
    return dots(torch.stack([right, -up], dim=1)[order], colors, side=side, radius=radius)


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
