"""Frames → captions: what a vision-language model says about each picture, in batches."""

import io
import json
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from tasks.errors import Refused
from tasks.models import checkpoints
from tasks.models.captioner import load_captioner
from tasks.models.decoding import Written, whole_sentences
from tasks.settings import CaptionerCheckpoint, Settings
from tasks.store import tables
from tasks.store.fill import RowStage, fill, items_of_frames
from tasks.store.rows import MapBatches, Previous, no_previous
from tasks.store.tables import Row

VERSION = 1
PIXELS = 64_000_000  # a picture of more is not decoded

log = logging.getLogger("stipple.captions")


def run(
    settings: Settings, root: Path, *, previous: Previous = no_previous, map_batches: MapBatches = map
) -> dict[str, Any]:
    """Write `data/captions.parquet`: one caption for each frame that the captioner can describe."""
    captioner, prompt = settings.profile.captioner, settings.params.captions.prompt
    path = root / "data" / "frames.parquet"
    pictures = tables.Numbered(path, ["image"])
    scope = _Scope(captioner, root)
    words, cut = [], []

    def payload(batch: list[Row]) -> list[bytes]:
        encoded = [pictures[frame["number"]]["image"]["bytes"] for frame in batch]
        scope.look([frame["source"] for frame in batch], encoded)
        return encoded

    def on_row(row: Row) -> None:
        words.append(row["words"])
        if row["cut"]:
            cut.append(row["frame_id"])

    stage = RowStage(
        "captions",
        items=partial(items, settings, root),
        payload=payload,
        compute=partial(caption, checkpoint=captioner, prompt=prompt, root=root),
        batch_size=captioner.batch_size,
        encode=lambda row: _value(row["caption"], cut=False),
        decode=json.loads,
    )
    counts = fill(stage, root, tables.count(path), previous=previous, map_batches=map_batches, on_row=on_row)
    if cut:
        log.warning(
            "%d captions, the first of %s, ran into max_new_tokens = %d and end with their last whole sentence; "
            "raise captioner.max_new_tokens in the profile for more",
            len(cut),
            cut[0],
            captioner.max_new_tokens,
        )
    mean = round(float(np.mean(words)), 1) if words else 0.0
    return {**counts, "words_mean": mean, "cut": len(cut), "unfamiliar_sources": scope.unfamiliar}


def items(settings: Settings, root: Path) -> Iterator[Row]:
    """A row per frame: where it stands in its table, and the key of its caption."""
    captioner = settings.profile.captioner
    return items_of_frames(
        root,
        stage="captions",
        version=VERSION,
        model=checkpoints.identity(captioner, root),
        prompt=settings.params.captions.prompt,
        image_side=captioner.image_side,
        max_new_tokens=captioner.max_new_tokens,
    )


def caption(encoded: list[bytes], *, checkpoint: CaptionerCheckpoint, prompt: str, root: Path) -> list[bytes | Refused]:
    """Describe each encoded picture; one result per picture, in order."""
    decoded = [_decode(picture) for picture in encoded]
    good = [picture for picture in decoded if isinstance(picture, Image.Image)]
    said = iter(load_captioner(checkpoint, root)(good, prompt) if good else [])
    return [picture if isinstance(picture, Refused) else _whole(next(said)) for picture in decoded]


def _whole(written: Written) -> bytes | Refused:
    if not written.text:
        return Refused("the captioner had nothing to say about it")
    if written.ended:
        return _value(written.text, cut=False)
    sentences = whole_sentences(written.text)
    if not sentences:
        return Refused(f"its caption has no whole sentence within max_new_tokens: {written.text[:60]!r}…")
    return _value(" ".join(sentences), cut=True)


def _value(text: str, cut: bool) -> bytes:
    row = {"caption": text, "words": len(text.split()), "cut": cut}
    return json.dumps(row, ensure_ascii=False).encode()


def _decode(encoded: bytes) -> Image.Image | Refused:
    try:
        with Image.open(io.BytesIO(encoded)) as picture:
            if picture.width * picture.height > PIXELS:
                return Refused(f"its picture has {picture.width} × {picture.height} pixels, too many to decode")
            return picture.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return Refused(f"its picture does not decode: {' '.join(str(error).split())[:120]}")


def palette_share(picture: Image.Image) -> float:
    """Share of the pixels that have one of the 12 commonest colours (5 bits a channel): large for a flat drawing.

    Contrast is stretched first, so that a dark photograph does not look like few colours.
    """
    small = ImageOps.autocontrast(picture.convert("RGB"), cutoff=1)
    small.thumbnail((256, 256))
    pixels = np.asarray(small).reshape(-1, 3).astype(np.int64) >> 3
    counts = np.unique(pixels @ [1, 32, 1024], return_counts=True)[1]
    return float(np.sort(counts)[-12:].sum() / counts.sum())


class _Scope:
    """Says once when a clip looks unlike what the checkpoint's model card says it knows.

    The card's metadata may carry `scope: {knows, use_instead, palette_share}`. A source's first new frame is looked at.
    """

    def __init__(self, checkpoint: CaptionerCheckpoint, root: Path) -> None:
        self.known: dict[str, Any] = checkpoints.card(checkpoint, root).get("scope") or {}
        self.model = checkpoint.model
        self.seen: set[str] = set()
        self.unfamiliar = 0

    def look(self, sources: list[str], encoded: list[bytes]) -> None:
        for source, picture in zip(sources, encoded, strict=True) if self.known else ():
            if source not in self.seen:
                self.seen.add(source)
                decoded = _decode(picture)
                if isinstance(decoded, Image.Image) and palette_share(decoded) < self.known["palette_share"]:
                    self._say(source)

    def _say(self, source: str) -> None:
        self.unfamiliar += 1
        if self.unfamiliar == 1:
            log.warning(
                "%r looks unlike %s, the only thing that %s knows: its words about such pictures are guesses; "
                "set `profile: %s` in params.yaml for your own clips",
                source,
                self.known["knows"],
                self.model,
                self.known["use_instead"],
            )
