"""Stage `draw`: the trained model draws the prompts of params.yaml to `data/drawings/*.png`.

Also the writers of a cloud as a picture: coordinates are those of an image (x right, y down), so faces come out the
right way up. Pillow alone does the drawing, which keeps a cold `stipple generate` fast.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tasks.store import files
from tasks.store.rows import Previous, no_previous
from tasks.settings import Settings

VERSION = 1
FOLDER = Path("data/drawings")
PAPER, INK = (252, 251, 247), (28, 34, 48)
EXTENT = 3.3  # half the width shown; the data spans [-3, 3]
OVERSAMPLE = 4


def run(settings: Settings, root: Path, *, previous: Previous = no_previous) -> dict[str, Any]:
    """Draw every prompt of params.yaml to a PNG of its own in `data/drawings`."""
    from tasks.clouds import generation

    params = settings.params.draw
    model = generation.load(root / generation.MODEL)
    conditions = generation.embed(params.prompts, generation.embedder_of(model, root))
    clouds = generation.draw(
        model,
        conditions,
        steps=params.steps,
        guidance=params.guidance,
        seed=settings.params.seed,
        points=model.card["num_points"],
    )
    names = [f"{name}.png" for name in slugs(params.prompts)]
    files.write_folder(root / FOLDER, {name: png(picture(x)) for name, x in zip(names, clouds.numpy(), strict=True)})
    return {"drawings": len(names)}


def picture(points: np.ndarray, side: int = 640, *, paper=PAPER, ink=INK) -> Image.Image:
    """Draw `points` [N, 2] as dots on a square picture of `side` pixels showing [-EXTENT, EXTENT] both ways.

    Dots shrink as N grows so that about a third of a typical face's area stays paper.
    """
    large = side * OVERSAMPLE
    image = Image.new("L", (large, large), 0)
    brush = ImageDraw.Draw(image)
    radius = large * float(np.clip(0.0042 * (1024 / max(len(points), 1)) ** 0.4, 0.0012, 0.008))
    for x, y in (np.asarray(points, dtype=np.float64) / EXTENT + 1) / 2 * large:
        brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    mask = image.resize((side, side), Image.Resampling.BOX)
    return Image.composite(Image.new("RGB", mask.size, ink), Image.new("RGB", mask.size, paper), mask)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def gif(clouds: Sequence[np.ndarray], side: int = 360, *, milliseconds: int = 60, hold: int = 1500) -> bytes:
    """An endless animation of `clouds` [T][N, 2], from the first to the last, which is held."""
    frames = [picture(cloud, side).convert("L").quantize(32) for cloud in clouds]
    buffer = io.BytesIO()
    durations = [milliseconds] * (len(frames) - 1) + [hold]
    frames[0].save(
        buffer, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, disposal=1
    )
    return buffer.getvalue()


def slugs(prompts: Sequence[str]) -> list[str]:
    """File names for `prompts`: lower case, words joined by hyphens, numbered where they would be the same."""
    names: list[str] = []
    for prompt in prompts:
        name = re.sub(r"[\W_]+", "-", prompt.lower()).strip("-")[:40] or "prompt"
        taken = sum(other == name or other.startswith(f"{name}--") for other in names)
        names.append(f"{name}--{taken + 1}" if taken else name)
    return names
