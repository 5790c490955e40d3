"""Small videos, pictures and settings for tests, made on the spot."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from tasks import settings
from tasks.settings import Settings
from tasks.store import tables
from tests.support import ROOT


def moving_square(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A frame [H, W, 3] on which a dark square has moved `number` steps to the right."""
    picture = np.full((height, width, 3), 230, dtype=np.uint8)
    picture[20:40, (number * 2) % (width - 20) :][:, :20] = (200, 30, 30)
    return picture


def video(
    path: Path,
    frames: int = 30,
    *,
    size: tuple[int, int] = (96, 64),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: list[int] | None = None,
    rotation: int = 0,
    pixel_aspect: int = 1,
    options: dict[str, str] | None = None,
    first: int = 0,
) -> Path:
    """Write a video of a moving square. `times` are pts in milliseconds, `rotation` is clockwise, as phones note it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation:
            stream.set_display_rotation(-rotation)
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(moving_square(first + i, *size), format="rgb24")
            frame.pts = times[i] if times else 40 * i
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return buffer.getvalue()


def sound(path: Path) -> Path:
    """Write a file with a sound track and nothing else."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def settings_with(**changes: dict[str, Any]) -> Settings:
    """The repository's settings, input `clips`, with some values of some sections changed."""
    loaded = settings.load(ROOT)
    sections = {name: getattr(loaded.params, name).model_copy(update=values) for name, values in changes.items()}
    return loaded.model_copy(update={"params": loaded.params.model_copy(update={"input": "clips", **sections})})


def refused(root: Path, stage: str = "frames") -> dict[str, str]:
    """Source or frame → reason, from the quarantine of `stage`."""
    rows = tables.read(root / "data" / "quarantine" / f"{stage}.parquet")
    return {row["frame_id"] or row["source"]: row["reason"] for row in rows}
