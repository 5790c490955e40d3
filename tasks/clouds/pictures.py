"""Clouds as pictures and animations.

Coordinates are those of an image (x right, y down), so faces come out the right way up. Pillow alone does the drawing,
which keeps a cold `stipple generate` fast. Points of five numbers are drawn in their colours.
"""

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

from tasks.clouds import density

PAPER, INK = (252, 251, 247), (28, 34, 48)
HALF_WIDTH = 3.3  # of what is shown; clouds lie in [-3, 3]
OVERSAMPLE = 4
Color = tuple[int, int, int]


def picture(points: np.ndarray, side: int = 640, *, paper: Color = PAPER, ink: Color = INK) -> Image.Image:
    """Draw `points` [N, 2] as dots on a square picture of `side` pixels showing [-HALF_WIDTH, HALF_WIDTH] both ways.

    Dots shrink as N grows so that about a third of a typical face's area stays paper; in colour [N, 5] they are larger.
    """
    in_color = points.shape[1] > 2
    radius = side * float(np.clip(0.0042 * (1024 / max(len(points), 1)) ** 0.4, 0.0012, 0.008))
    if in_color:
        return dots(points[:, :2], density.levels(points), side=side, radius=2 * radius, paper=paper)
    large, radius = side * OVERSAMPLE, radius * OVERSAMPLE
    image = Image.new("L", (large, large), 0)
    brush = ImageDraw.Draw(image)
    for x, y in (np.asarray(points, dtype=np.float64) / HALF_WIDTH + 1) / 2 * large:
        brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    mask = image.resize((side, side), Image.Resampling.BOX)
    return Image.composite(Image.new("RGB", mask.size, ink), Image.new("RGB", mask.size, paper), mask)


def dots(points: np.ndarray, colors: np.ndarray, *, side: int, radius: float, paper: Color = PAPER) -> Image.Image:
    """`points` [N, 2] as dots of `colors` [N, 3] (0 to 255), later ones on top; `radius` in pixels of the picture."""
    large, r = side * OVERSAMPLE, radius * OVERSAMPLE
    image = Image.new("RGB", (large, large), paper)
    brush = ImageDraw.Draw(image)
    places = ((np.asarray(points, dtype=np.float64) / HALF_WIDTH + 1) / 2 * large).tolist()
    for (x, y), color in zip(places, colors.round().astype(int).tolist(), strict=True):
        brush.ellipse((x - r, y - r, x + r, y + r), fill=tuple(color))
    return image.resize((side, side), Image.Resampling.BOX)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def gif(clouds: Iterable[np.ndarray], side: int = 360, *, milliseconds: int = 60, hold: int = 1500) -> bytes:
    """An endless animation of `clouds` [T][N, 2 or 5], from the first to the last, which is held."""
    drawn = ((picture(cloud, side), cloud.shape[1] > 2) for cloud in clouds)
    frames = [image.quantize(128) if in_color else image.convert("L").quantize(32) for image, in_color in drawn]
    buffer = io.BytesIO()
    durations = [milliseconds] * (len(frames) - 1) + [hold]
    frames[0].save(
        buffer, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, disposal=1
    )
    return buffer.getvalue()
