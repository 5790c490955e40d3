"""Stage `points`: where each frame has something to draw, as a weight map and as one fixed sample of points.

`contour`, the default, draws a face as a pen would, whatever the tone of skin and hair: a thin line along every edge
and stroke, and the dark of small features. `filled` spreads half of the points over all that is not background.
`threshold` is the original recipe: all pixels darker than middle grey.
"""

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import fft
from scipy.ndimage import black_tophat, gaussian_filter, uniform_filter

from tasks.clouds import density
from tasks.errors import Refused
from tasks.settings import Settings
from tasks.store import tables
from tasks.store.fill import RowStage, fill, items_of_frames
from tasks.store.rows import MapBatches, Previous, no_previous
from tasks.store.tables import Row

VERSION = 1
SIDE = 256  # pixels on the longer side of a weight map
FEWEST = 16  # a picture with fewer pixels to draw is refused
BATCH = 64

# Of `contour`: lengths in pixels of the map, contrasts in nats of brightness.
STROKE = 1.4  # width of the strokes and edges that it looks for
EDGE_NOISE, EDGE_HALF = 0.06, 0.2  # energy below is compression noise; energy at which an edge has half its full weight
FEATURE = 9  # what is dark and narrower than this is ink
INK_NOISE, INK_HALF = 0.12, 0.5
INK_SHARE = 0.3  # of all points
GLARE = 0.2  # added to brightness before its logarithm, as a screen in a lit room does: black on black is not seen
MARGIN = 16

# Of `filled`: the background is what has the colour of the two upper corners.
CORNER = 8  # pixels a side
BACKGROUND_NOISE, BACKGROUND_FULL = 0.02, 0.12  # unlike it by less is nothing; by as much, as likely as can be


def run(
    settings: Settings, root: Path, *, previous: Previous = no_previous, map_batches: MapBatches = map
) -> dict[str, Any]:
    """Write `data/points.parquet`: the weight map and `num_points` points of every frame that shows something."""
    params = settings.params.points
    path = root / "data" / "frames.parquet"
    pictures = tables.Numbered(path, ["image"])
    stage = RowStage(
        "points",
        items=partial(items, settings, root),
        payload=lambda batch: [(frame["sha256"], pictures[frame["number"]]["image"]["bytes"]) for frame in batch],
        compute=partial(place, **params.model_dump(), seed=settings.params.seed),
        batch_size=BATCH,
        encode=lambda row: _pack(row["weights"]["bytes"], row["points"]),
        decode=partial(_unpack, num_points=params.num_points),
    )
    return fill(stage, root, tables.count(path), previous=previous, map_batches=map_batches)


def items(settings: Settings, root: Path) -> Iterator[Row]:
    """A row per frame: where it stands in its table, and the key of its points."""
    params = settings.params
    asked = params.points.model_dump()
    if not asked["colour"]:
        del asked["colour"]  # so that keys are what they were before there was a choice
    return items_of_frames(root, stage="points", version=VERSION, seed=params.seed, **asked)


def place(
    pictures: list[tuple[str, bytes]], *, weighting: str, colour: bool, num_points: int, seed: int
) -> list[bytes | Refused]:
    """Weight map and points of each picture, given with the sha256 that seeds its sample."""

    def placed(picture: tuple[str, bytes]) -> bytes | Refused:
        digest, encoded = picture
        try:
            rgb = decode(encoded)
            png = encode(weigh(rgb, weighting), rgb if colour else None)
        except Refused as refused:
            return refused
        generator = torch.Generator().manual_seed((int(digest[:15], 16) + seed) % 2**63)
        points = density.draw(density.from_maps([png]), torch.tensor([0]), num_points, generator)[0]
        return _pack(png, points[:, :2].numpy())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(placed, pictures))


def _pack(png: bytes, points: np.ndarray) -> bytes:
    return np.ascontiguousarray(points, dtype="<f4").tobytes() + png


def _unpack(value: bytes, num_points: int) -> Row:
    points = np.frombuffer(value, dtype="<f4", count=2 * num_points).reshape(num_points, 2)
    return {"weights": {"bytes": value[points.nbytes :], "path": None}, "points": points}


def decode(picture: bytes) -> np.ndarray:
    """An encoded picture as RGB of 0 to 1 [H, W, 3], at most `SIDE` pixels on its longer side."""
    with Image.open(io.BytesIO(picture)) as image:
        image.draft("RGB", (SIDE, SIDE))
        scale = min(1.0, SIDE / max(image.size))
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        small = image.convert("RGB").resize(size, Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255


def weigh(rgb: np.ndarray, weighting: str) -> np.ndarray:
    """How much there is to draw at each pixel: RGB [H, W, 3] → [H, W], largest 1. Refused if it is next to nothing."""
    weights = {"contour": contour, "filled": filled, "threshold": threshold}[weighting](rgb)
    drawn = int((weights > 0).sum())
    if drawn < FEWEST:
        what = "are darker than middle grey" if weighting == "threshold" else "belong to a line or a feature"
        raise Refused(f"has nothing to draw: {drawn} of its {weights.size} pixels {what}, fewer than {FEWEST}")
    return weights / weights.max()


def encode(weights: np.ndarray, rgb: np.ndarray | None = None) -> bytes:
    """A weight map as a greyscale PNG, or with the picture's colours as their opacity."""
    levels = np.rint(255 * weights).astype(np.uint8)
    if rgb is not None:
        levels = np.dstack([np.rint(255 * rgb).astype(np.uint8) * (levels > 0)[..., None], levels])
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "png")
    return buffer.getvalue()


def threshold(rgb: np.ndarray) -> np.ndarray:
    """The original recipe: every pixel darker than 128 of 255, all alike."""
    return (_grey(rgb) < 128 / 255).astype(np.float32)


def contour(rgb: np.ndarray) -> np.ndarray:
    """Thin lines where a pen would draw, and the dark of small features.

    Both are measured as ratios of brightness and saturate, so that the faint line of a nose on dark skin counts nearly
    as much as the outline of a pale face. Lines are the crests of the local energy of the monogenic signal (Felsberg
    and Sommer 2001), which has one crest on a stroke as on an edge, where a gradient has two on a stroke. Ink is the
    black top-hat: what a closing would fill.
    """
    lines = _saturate(_crests(np.log(rgb + GLARE)), EDGE_NOISE, EDGE_HALF)
    grey = np.log(_grey(rgb) + GLARE)
    ink = _saturate(black_tophat(gaussian_filter(grey, 0.6), FEATURE), INK_NOISE, INK_HALF)
    total_lines, total_ink = lines.sum(), ink.sum()
    if total_lines == 0 or total_ink == 0:
        return lines + ink
    return (1 - INK_SHARE) * lines / total_lines + INK_SHARE * ink / total_ink


def filled(rgb: np.ndarray) -> np.ndarray:
    """Half as `contour`, half spread evenly over all that has not the colour of the upper corners."""
    corners = np.concatenate([rgb[:CORNER, :CORNER], rgb[:CORNER, -CORNER:]], axis=1)
    unlike = np.abs(rgb - np.median(corners, axis=(0, 1))).max(-1)
    inside = ((unlike - BACKGROUND_NOISE) / (BACKGROUND_FULL - BACKGROUND_NOISE)).clip(0, 1)
    lines = contour(rgb)
    return lines / max(lines.sum(), 1e-9) + inside / max(inside.sum(), 1e-9)


def _grey(rgb: np.ndarray) -> np.ndarray:
    return rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def _saturate(strength: np.ndarray, noise: float, half: float) -> np.ndarray:
    """0 up to `noise`, 1/2 at `half` above it, 1 in the limit."""
    above = np.maximum(strength - noise, 0)
    return above / (above + half)


def _crests(channels: np.ndarray) -> np.ndarray:
    """Local energy of all `channels` [H, W, C] together where it is largest across its line, 0 elsewhere: [H, W]."""
    even, x, y = _monogenic(channels.transpose(2, 0, 1))
    energy = np.sqrt((even**2 + x**2 + y**2).sum(0))
    xx, yy, xy = (uniform_filter(product.sum(0), 3) for product in (x * x, y * y, x * y))
    across = np.rint(np.arctan2(2 * xy, xx - yy) / (np.pi / 2)).astype(int) % 4  # of 0°, 45°, 90°, 135°
    smooth = np.pad(gaussian_filter(energy, 0.7), 1, mode="edge")
    here, (height, width) = smooth[1:-1, 1:-1], energy.shape
    crest = np.zeros(energy.shape, dtype=bool)
    for direction, (down, right) in enumerate([(0, 1), (1, 1), (1, 0), (1, -1)]):
        ahead = smooth[1 + down :, 1 + right :][:height, :width]
        behind = smooth[1 - down :, 1 - right :][:height, :width]
        crest |= (across == direction) & (here >= ahead) & (here >= behind)
    return energy * crest


def _monogenic(channels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`channels` [C, H, W] in the band of widths around `STROKE`, and the two parts of that band's Riesz transform."""
    height, width = channels.shape[1:]
    margin, band, parts = _filters(height, width)
    spectrum = fft.rfft2(np.pad(channels, ((0, 0), *margin), mode="symmetric")) * band
    inside = (slice(None), slice(MARGIN, MARGIN + height), slice(MARGIN, MARGIN + width))
    shape = (height + sum(margin[0]), width + sum(margin[1]))
    even, x, y = (fft.irfft2(spectrum * part, shape)[inside] for part in parts)
    return even, x, y


@lru_cache(maxsize=4)
def _filters(height: int, width: int) -> tuple[tuple, np.ndarray, tuple]:
    """Mirrored margins for a quick transform without border lines, and in frequency the band and what to do with it."""
    lengths = [fft.next_fast_len(side + 2 * MARGIN, real=True) for side in (height, width)]
    margin = tuple((MARGIN, length - side - MARGIN) for length, side in zip(lengths, (height, width), strict=True))
    down, right = np.fft.fftfreq(lengths[0])[:, None], np.fft.rfftfreq(lengths[1])[None, :]
    radius = np.hypot(down, right)
    radius[0, 0] = 1
    fine, coarse = (np.exp(-2 * (np.pi * radius * STROKE * spread) ** 2) for spread in (0.6, 1.6))
    riesz = ((1j * along / radius).astype(np.complex64) for along in (right, down))
    return margin, (fine - coarse).astype(np.float32), (np.complex64(1), *riesz)
