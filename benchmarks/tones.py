"""Every skin and hair tone of the demo as 1024 points, under the original threshold and under the default weighting.

    python -m benchmarks.tones

Writes docs/points.png.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from demo.faces import render
from demo.faces.characters import CAST, EXPRESSIONS, HAIR_COLORS, SKINS, Pose
from tasks import points
from tasks.clouds import density

SHEET = Path(__file__).parent.parent / "docs" / "points.png"
SIDE, LABEL, SHARPER = 160, 22, 4


def main() -> None:
    someone = replace(CAST[5], hair_style="short", facial_hair="none", top_color="blue")
    blocks = [
        [("skin: " + skin, replace(someone, skin=skin, hair_color="black")) for skin in SKINS],
        [
            ("hair: " + color, replace(someone, skin="tan", hair_style="curly", hair_color=color))
            for color in HAIR_COLORS
        ],
    ]
    sheet = Image.new("RGB", (len(SKINS) * SIDE, len(blocks) * (LABEL + 3 * SIDE)), "white")
    for top, block in zip(range(0, sheet.height, LABEL + 3 * SIDE), blocks, strict=True):
        for column, (label, character) in enumerate(block):
            picture = render.draw(character, pose(column), 256)
            panels = [picture.resize((SIDE, SIDE)), drawn(picture, "threshold"), drawn(picture, "contour")]
            ImageDraw.Draw(sheet).text((column * SIDE + 6, top + 5), label, "black", ImageFont.load_default(13))
            for row, panel in enumerate(panels):
                sheet.paste(panel, (column * SIDE, top + LABEL + row * SIDE))
    sheet.quantize(128).save(SHEET, optimize=True)
    print(f"{SHEET.name}: picture, threshold, contour; once for each skin and once for each hair colour")


def pose(number: int) -> Pose:
    """Another expression in every column, turned in some."""
    return Pose(yaw=(0, 0, -0.7, 0, 0.7, 0)[number], expression=EXPRESSIONS[number], intensity=1.0)


def drawn(picture: Image.Image, weighting: str) -> Image.Image:
    """`picture` as points, drawn as dots."""
    buffer = io.BytesIO()
    picture.save(buffer, "jpeg", quality=95, subsampling="4:4:4")
    (placed,) = points.place([("0" * 64, buffer.getvalue())], weighting=weighting, num_points=1024, seed=0)
    cloud = np.frombuffer(placed, dtype="<f4", count=2 * 1024).reshape(-1, 2)
    panel = Image.new("L", (SIDE * SHARPER, SIDE * SHARPER), 255)
    for x, y in (cloud / density.EXTENT + 1) / 2 * panel.width:
        ImageDraw.Draw(panel).ellipse([x - 2.4, y - 2.4, x + 2.4, y + 2.4], fill=0)
    return panel.resize((SIDE, SIDE), Image.Resampling.BOX)


if __name__ == "__main__":
    main()
