"""Frames → captions: what a vision-language model says about each picture, in batches."""

import io
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps

from tasks.errors import Refused
from tasks.models import checkpoints, loading
from tasks.models.captioner import identity, load_captioner
from tasks.models.decoding import Written, whole_sentences
from tasks.models.guards import fault
from tasks.settings import AnyCaptioner, CaptionerCheckpoint, Settings
from tasks.store import tables
from tasks.store.fill import RowStage, fill, items_of_frames
from tasks.store.rows import MapBatches, Previous, no_previous
from tasks.store.tables import Row

VERSION = 1
PIXELS = 64_000_000  # a picture of more is not decoded
AHEAD = 128  # pictures that are decoded before they are looked at

Item = TypeVar("Item")
Made = TypeVar("Made")

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
        batch_size=loading.gathered(captioner.batch_size),
        encode=lambda row: _value(row["caption"], cut=False),
        decode=json.loads,
    )
    counts = fill(stage, root, tables.count(path), previous=previous, map_batches=map_batches, on_row=on_row)
    loading.release()
    if cut:
        log.warning(
            "%d captions, the first of %s, ran into max_new_tokens = %d and end with their last whole sentence; "
            "raise captioner.max_new_tokens in the profile for more",
            len(cut),
            cut[0],
            getattr(captioner, "max_new_tokens", 0),
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
        model=identity(captioner, root),
        prompt=settings.params.captions.prompt,
        image_side=getattr(captioner, "image_side", None),
        max_new_tokens=getattr(captioner, "max_new_tokens", None),
    )


def caption(encoded: list[bytes], *, checkpoint: AnyCaptioner, prompt: str, root: Path) -> list[bytes | Refused]:
    """Describe each encoded picture; one result per picture, in order. Words that are no use are asked for twice."""
    captioner = load_captioner(checkpoint, root)
    said: list[Written | Refused] = [Refused("not asked yet")] * len(encoded)
    asked = list(range(len(encoded)))
    for again in (False, True):
        answers = _ask(captioner, [encoded[at] for at in asked], prompt, again) if asked else []
        for at, answer in zip(asked, answers, strict=True):
            said[at] = answer
        asked = [at for at in asked if isinstance(answer := said[at], Written) and fault(answer, prompt)]
    return [_whole(answer, prompt) for answer in said]


def _ask(captioner: Any, encoded: list[bytes], prompt: str, again: bool) -> list[Written | Refused]:
    """One answer for each picture. They are decoded side by side, and while the first ones are looked at."""
    refused: dict[int, Refused] = {}

    def prepared() -> Iterator[Any]:
        for at, picture in enumerate(ahead(lambda content: _prepared(captioner, content), encoded, AHEAD)):
            if isinstance(picture, Refused):
                refused[at] = picture
                picture = captioner.prepare(Image.new("RGB", (1, 1)))
            yield picture

    answers = captioner(prepared(), len(encoded), prompt, again=again)
    return [refused.get(at, answer) for at, answer in enumerate(answers)]


def _prepared(captioner: Any, encoded: bytes) -> Any:
    picture = _decode(encoded)
    return picture if isinstance(picture, Refused) else captioner.prepare(picture)


def ahead(fn: Callable[[Item], Made], items: Iterable[Item], window: int) -> Iterator[Made]:
    """`map` in threads, at most `window` results ahead of what was taken."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        coming: deque[Future[Made]] = deque()
        for item in items:
            coming.append(pool.submit(fn, item))
            if len(coming) == window:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _whole(written: Written | Refused, prompt: str) -> bytes | Refused:
    if isinstance(written, Refused):
        return written
    if not written.text:
        return Refused("the captioner had nothing to say about it")
    if wrong := fault(written, prompt):
        return Refused(f"its caption {wrong}, asked twice: {written.text[:60]!r}…")
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

    def __init__(self, captioner: AnyCaptioner, root: Path) -> None:
        card = checkpoints.card(captioner, root) if isinstance(captioner, CaptionerCheckpoint) else {}
        self.known: dict[str, Any] = card.get("scope") or {}
        self.model = getattr(captioner, "model", "")
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
