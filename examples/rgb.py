"""Portraits in colour: clouds of (x, y, r, g, b), drawn from text.

    python -m examples.rgb      # after `stipple run`: reads data/train_data.pt and data/frames.parquet

Half of a frame's points lie along its lines, half spread over all that is not background, and each has the colour of
the pixel it falls on. What learns them is the pipeline's network with dim = 5; nothing else is different.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from examples import cloud_files, pictures
from fm import metrics, networks, sampling, training
from tasks import evaluate, points
from tasks.clouds import density, generation, scoring, toy_gallery, training_set
from tasks.clouds.density import EXTENT
from tasks.models.embedder import load_embedder
from tasks.settings import Checkpoint
from tasks.store import files, tables

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "examples" / "output"
PROMPTS = [
    "Front-facing woman with a smiling expression. She has a red bob, fair skin and green eyes. She wears a blue top.",
    "Left-facing woman with a laughing expression. She has a black afro and dark skin. She wears a yellow top.",
    "Right-facing man with a surprised expression. He has spiky blond hair and blue eyes. He wears a red top.",
]
LINES = 0.5  # share of the points along the lines of a frame
COLOR = 1.5  # a colour channel spans [-COLOR, COLOR], so that it weighs nearly as much as a place
NETWORK = {"name": "film", "dim": 5, "condition_dim": 512, "bandwidth": 3.0}
CLOUDS, POINTS = 32, 48  # of a training step
CONFIG = training.TrainConfig(steps=2500, learning_rate=2e-3, hidden_learning_rate=0.01, ema=0.99, times_per_cloud=1)
DRAWN, SIDE, RADIUS = 6000, 320, 1.9
COMPARED = 16  # held-out frames, for the scores


def main(root: Path = ROOT, output: Path = OUTPUT) -> None:
    data = training_set.load(root)
    frames = np.stack([square(frame) for frame in evaluate.read_pictures(root, data["frame_ids"])])
    lines = {row["frame_id"]: row["weights"]["bytes"] for row in tables.read(root / "data" / "points.parquet")}
    inked = (square(Image.open(io.BytesIO(lines[frame_id]))) for frame_id in data["frame_ids"])
    maps = density.from_maps(points.encode(cover(*pair)) for pair in zip(frames, inked, strict=True))
    embeddings, trained = data["embeddings"], training_set.rows_of(data, training_set.TRAIN)

    def draw_batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = trained[torch.randint(len(trained), (CLOUDS,), generator=generator)]
        return sample(frames, maps, index, POINTS, generator), embeddings[index]

    network = networks.build(NETWORK)
    network.standardize(embeddings[trained])
    network = toy_gallery.train("in colour", network, draw_batch, CONFIG)

    generator = torch.Generator().manual_seed(0)
    rows = scoring.spread(training_set.rows_of(data, training_set.HELD_OUT), COMPARED)
    truth, again = (sample(frames, maps, rows, 1024, generator) for _ in range(2))
    drawn = sampling.sample(network, embeddings[rows], 1024, steps=20, generator=generator).x
    for name, x in {"drawn from held-out summaries": drawn, "another sample of the frame": again}.items():
        chamfer, sliced_w2 = (distance(x, truth).mean() for distance in (metrics.chamfer, metrics.sliced_w2))
        print(f"{name}: Chamfer {chamfer:.3f}, sliced W2 {sliced_w2:.3f}")

    conditions = generation.embed(PROMPTS, load_embedder(Checkpoint.model_validate(data["embedder"]), root))
    portraits = sampling.sample(network, conditions, DRAWN, steps=30, guidance=1.5, generator=generator).x
    files.write(output / "rgb.png", pictures.png(pictures.grid([[portrait(x) for x in portraits]]), 64))
    for i, x in enumerate(portraits, start=1):
        placed = torch.stack([x[:, 0], -x[:, 1], 0 * x[:, 0]], dim=1)  # upright and flat, for any viewer of PLY files
        cloud_files.write(output / f"rgb-{i}.ply", torch.cat([placed, colors(x)], dim=1).numpy())
    print(output / "rgb.png")


def square(picture: Image.Image) -> np.ndarray:
    """A picture centred on a square of `points.SIDE` pixels: uint8 [SIDE, SIDE] or [SIDE, SIDE, 3]."""
    side = (points.SIDE, points.SIDE)
    return np.array(ImageOps.pad(picture, side, Image.Resampling.BOX, color=picture.getpixel((0, 0))))


def cover(rgb: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """How likely a point is at each pixel, from colours [H, W, 3] and lines [H, W] (0 to 255): [H, W], largest 1.

    The background is what has the colour of the upper corners.
    """
    background = np.median(np.concatenate([rgb[:8, :8], rgb[:8, -8:]]), axis=(0, 1))
    inside = np.abs(rgb - background).max(-1).clip(5, 30) - 5
    weights = LINES * lines / max(lines.sum(), 1) + (1 - LINES) * inside / max(inside.sum(), 1)
    return weights / weights.max()


def sample(
    frames: np.ndarray, maps: dict[str, Tensor], index: Tensor, n: int, generator: torch.Generator | None = None
) -> Tensor:
    """Fresh points with their colours, of each frame in `index` [B]: [B, n, 5]."""
    place = density.draw(maps, index, n, generator)
    column, row = ((place / EXTENT + 1) / 2 * points.SIDE).long().clamp(0, points.SIDE - 1).unbind(-1)
    pixel = torch.from_numpy(frames[index[:, None], row, column])
    return torch.cat([place, COLOR * (pixel / 127.5 - 1)], dim=-1)


def colors(cloud: Tensor) -> Tensor:
    """The colours of a cloud [N, 5] from 0 to 255: [N, 3]."""
    return (cloud[:, 2:] / COLOR + 1).clamp(0, 2) * 127.5


def portrait(cloud: Tensor) -> Image.Image:
    """A cloud [N, 5] as coloured dots."""
    return pictures.dots(cloud[:, :2], colors(cloud).numpy(), side=SIDE, radius=RADIUS)


if __name__ == "__main__":
    main()
