"""A small project after its row stages or its training: five clips of a few frames, each a simple figure and a text."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from tasks import dataset, train
from tasks.clouds import density
from tasks.settings import Settings, load
from tasks.store import tables
from tasks.store.schemas import SCHEMAS
from tests.support import ROOT, clips

POINTS, SIDE = 64, 24
CLIPS = ("circle.mp4", "square.mp4", "bar.mp4", "cross.mp4", "dot.png")
FRAMES = 3


def settings(**train: Any) -> Settings:
    """The project's own settings with trainings of a few steps; `train` changes the film recipe."""
    own = load(ROOT)
    params = own.params
    embedder = own.profile.embedder.model_copy(update={"model": "embedder", "revision": None})
    recipes = {
        "film": params.train.recipes.film.model_copy(
            update={"steps": 8, "clouds": 4, "points": 32, "checkpoint_every": 3, **train}
        ),
        "set_film": params.train.recipes.set_film.model_copy(
            update={"steps": 5, "clouds": 4, "points": 32, "checkpoint_every": 2}
        ),
        "latent": params.train.recipes.latent.model_copy(
            update={
                "steps": 5,
                "clouds": 8,
                "checkpoint_every": 2,
                "autoencoder": params.train.recipes.latent.autoencoder.model_copy(update={"steps": 4, "clouds": 4}),
            }
        ),
        "baseline": params.train.recipes.baseline.model_copy(
            update={"steps": 5, "points": POINTS, "checkpoint_every": 2}
        ),
    }
    changed = {
        "points": params.points.model_copy(update={"num_points": POINTS}),
        "dataset": params.dataset.model_copy(update={"max_quarantined": 1.0}),
        "train": params.train.model_copy(
            update={"network": "film", "recipes": params.train.recipes.model_copy(update=recipes)}
        ),
        "evaluate": params.evaluate.model_copy(update={"steps": 2, "baseline_steps": 3}),
        "draw": params.draw.model_copy(update={"steps": 2}),
    }
    profile = own.profile.model_copy(update={"embedder": embedder, "autoencoder": None})
    return Settings(params=params.model_copy(update=changed), profile=profile)


def make(root: Path, embedder: Path | None = None) -> Path:
    """Write frames, points, summaries and embeddings under `root`/data; `root`/embedder stands for a checkpoint."""
    rows = [_row(clip, index) for clip in CLIPS for index in range(FRAMES if clip.endswith("mp4") else 1)]
    for table in ("frames", "points", "summaries", "embeddings"):
        tables.write(root / "data" / f"{table}.parquet", SCHEMAS[table], rows)
    for stage in ("frames", "points", "captions", "summaries", "embeddings"):
        tables.write_quarantine(root, stage, [])
    if embedder is not None:
        shutil.copytree(embedder, root / "embedder")
    else:
        (root / "embedder").mkdir()
        (root / "embedder" / "config.json").write_text("{}")
    return root


def trained(root: Path, embedder: Path) -> Path:
    """A small project after its training, with a real checkpoint as its embedder."""
    make(root, embedder)
    dataset.run(settings(), root)
    train.run(settings(), root)
    return root


def change(root: Path, table: str, edit) -> None:
    """Rewrite a table with the rows that `edit` makes of its rows."""
    path = root / "data" / f"{table}.parquet"
    tables.write(path, SCHEMAS[table], edit(list(tables.read(path))))


def frame_ids() -> list[str]:
    return [f"{clip}/{index:06d}" for clip in CLIPS for index in range(FRAMES if clip.endswith("mp4") else 1)]


def _row(clip: str, index: int) -> dict:
    frame_id = f"{clip}/{index:06d}"
    png = clips.png(_figure(clip, index))
    rng = np.random.default_rng([CLIPS.index(clip), index])
    embedding = rng.normal(size=512) + 2
    columns = {
        "frame_id": frame_id,
        "row_key": frame_id,
        "source": clip,
        "frame_index": index,
        "source_sha256": hashlib.sha256(clip.encode()).hexdigest(),
        "dhash": 0,
        "image": {"bytes": png, "path": None},
        "weights": {"bytes": png, "path": None},
        "summary": f"A {clip.partition('.')[0]}, moved {index} times.",
        "embedding": (embedding / np.linalg.norm(embedding)).astype(np.float32),
        "wordings": [clip.partition(".")[0]] * (index % 2),
        "wording_embeddings": [np.full(512, 512**-0.5, np.float32)] * (index % 2),
    }
    maps = density.from_maps([png])
    generator = torch.Generator().manual_seed(CLIPS.index(clip) * 10 + index)
    columns["points"] = density.draw(maps, torch.tensor([0]), POINTS, generator)[0].numpy()
    return columns


def _figure(clip: str, index: int) -> Image.Image:
    """White lines on black, as a weight map is."""
    image = Image.new("L", (SIDE, SIDE))
    pen, a, b = ImageDraw.Draw(image), 3 + index, 14 + index
    match clip:
        case "circle.mp4":
            pen.ellipse((a, a, b, b), outline=255)
        case "square.mp4":
            pen.rectangle((a, a, b, b), outline=255)
        case "bar.mp4":
            pen.line((a, 20, b, 20), fill=255, width=2)
        case "cross.mp4":
            pen.line((a, a, b, b), fill=255)
            pen.line((a, b, b, a), fill=255)
        case _:
            pen.ellipse((10, 10, 13, 13), fill=255)
    return image
