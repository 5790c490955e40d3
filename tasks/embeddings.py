"""Summaries → CLIP text embeddings of unit length, and how different from each other they are.

People type less than a summary says, so shorter wordings of each are embedded beside it.
"""

import json
import logging
import random
import re
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import Refused
from tasks.models import checkpoints, loading
from tasks.models.embedder import load_embedder, width
from tasks.settings import Checkpoint, Settings
from tasks.store import schemas, tables
from tasks.store.digests import digest_of
from tasks.store.fill import RowStage, fill
from tasks.store.rows import MapBatches, Previous, no_previous
from tasks.store.tables import Row

VERSION = 2
COMPARED = 5000  # rows whose pairs are all compared; of a larger table, this many spread evenly over it
ALIKE = 0.95
WORDINGS = 4  # of a summary, at most, beside itself

log = logging.getLogger("stipple.embeddings")


def run(
    settings: Settings, root: Path, *, previous: Previous = no_previous, map_batches: MapBatches = map
) -> dict[str, Any]:
    """Write `data/embeddings.parquet`: a vector of length 1 for each summary, and for each shorter wording."""
    embedder = settings.profile.embedder
    total = tables.count(root / "data" / "summaries.parquet")
    every = -(-total // COMPARED)
    seen, compared = count(), []

    def on_row(row: Row) -> None:
        if next(seen) % every == 0:
            compared.append(row["embedding"])

    stage = RowStage(
        "embeddings",
        items=partial(items, settings, root),
        payload=lambda batch: [row["summary"] for row in batch],
        compute=partial(embed, checkpoint=embedder, root=root),
        batch_size=embedder.batch_size or loading.gathered(None),
        encode=lambda row: pack(np.stack([row["embedding"], *row["wording_embeddings"]]), row["wordings"]),
        decode=unpack,
        order=lambda row: len(row["summary"]),
        schema=schemas.embeddings(width(embedder, root)),
    )
    counts = fill(stage, root, total, previous=previous, map_batches=map_batches, on_row=on_row)
    loading.release()
    cosines = similarities(np.stack(compared)) if len(compared) > 1 else {}
    if cosines and cosines["mean"] > ALIKE:
        log.warning(
            "the summaries are nearly all alike (mean cosine similarity %.3f, above %.2f): the model has little to "
            "tell prompts apart by; give it more different clips, or captions that say more of what differs",
            cosines["mean"],
            ALIKE,
        )
    return {**counts, "cosine": cosines}


def items(settings: Settings, root: Path) -> Iterator[Row]:
    """A row per summary, with the key of its embedding."""
    model = checkpoints.identity(settings.profile.embedder, root)
    for row in tables.read(root / "data" / "summaries.parquet", ["frame_id", "summary"]):
        yield row | {"row_key": digest_of(summary=row["summary"], stage="embeddings", version=VERSION, model=model)}


def embed(summaries: list[str], *, checkpoint: Checkpoint, root: Path) -> list[bytes | Refused]:
    """Embed each summary and its wordings, in order; see `unpack`."""
    embedder = load_embedder(checkpoint, root)
    shorter = [wordings(summary) for summary in summaries]
    texts = [text for summary, others in zip(summaries, shorter, strict=True) for text in (summary, *others)]
    size = checkpoint.batch_size or loading.gathered(None)
    vectors = np.concatenate([embedder(few) for few in tables.chunks(texts, size)])
    ends = np.cumsum([1 + len(others) for others in shorter])
    return [
        pack(found, others) if np.isfinite(found).all() else Refused("its embedding is not a number")
        for found, others in zip(np.split(vectors, ends[:-1]), shorter, strict=True)
    ]


def wordings(summary: str) -> list[str]:
    """At most `WORDINGS` shorter ways to say it: the first sentence, alone and with some of what follows it.

    What comes first, as the prompt of the summaries has it, is what matters most.
    """
    first, *rest = re.split(r"(?<=[.!?])\s+", summary.strip())
    parts = [part for part in re.split(r"[,;.!?]\s*|\s+and\s+", " ".join(rest)) if part]
    draw = random.Random(summary)  # the same for the same summary
    begin = first.rstrip(".!?")
    some = (
        [", ".join([begin, *draw.sample(parts, draw.randrange(len(parts)))]) for _ in range(WORDINGS)] if parts else []
    )
    return [text for text in dict.fromkeys([begin, *some]) if text and text != summary][:WORDINGS]


def pack(vectors: np.ndarray, texts: list[str]) -> bytes:
    """The vector of a summary and of its wordings [1 + W, D], and the wordings."""
    return json.dumps(texts, ensure_ascii=False).encode() + b"\n" + vectors.astype("<f4").tobytes()


def unpack(value: bytes) -> Row:
    head, _, vectors = value.partition(b"\n")
    texts = json.loads(head)
    found = np.frombuffer(vectors, "<f4").reshape(1 + len(texts), -1)
    return {"embedding": found[0], "wordings": texts, "wording_embeddings": found[1:]}


def similarities(vectors: np.ndarray) -> dict[str, float]:
    """Cosine similarities over all pairs of different rows of unit vectors [N, D]: min, mean, std, max."""
    cosines = np.concatenate([vectors[row + 1 :] @ vectors[row] for row in range(len(vectors) - 1)])
    numbers = {"min": cosines.min(), "mean": cosines.mean(), "std": cosines.std(), "max": cosines.max()}
    return {name: round(float(number), 4) for name, number in numbers.items()}
