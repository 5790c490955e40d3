"""Captions → summaries that fit the embedder: asked again when too long, at last cut back to whole sentences."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tasks.errors import Refused
from tasks.models import checkpoints
from tasks.models.decoding import Written, whole_sentences
from tasks.models.embedder import count_tokens, load_tokenizer
from tasks.models.summarizer import load_summarizer
from tasks.settings import Checkpoint, GeneratorCheckpoint, Settings, Summaries
from tasks.store import tables
from tasks.store.digests import digest_of
from tasks.store.fill import RowStage, fill
from tasks.store.rows import MapBatches, Previous, no_previous
from tasks.store.tables import Row

VERSION = 1
CLIP_TOKENS = 77  # CLIP reads 77 tokens, begin and end included; a summary has fewer


def run(
    settings: Settings, root: Path, *, previous: Previous = no_previous, map_batches: MapBatches = map
) -> dict[str, Any]:
    """Write `data/summaries.parquet`: one summary for each caption.

    `attempts` is the request whose answer was short enough; `max_attempts` + 1 means that none was, and that the
    summary is as many of an answer's first sentences as fit.
    """
    params, profile = settings.params.summaries, settings.profile
    attempts: Counter[int] = Counter()
    longest = 0

    def on_row(row: Row) -> None:
        nonlocal longest
        attempts[row["attempts"]] += 1
        longest = max(longest, row["clip_tokens"])

    stage = RowStage(
        "summaries",
        items=partial(items, settings, root),
        payload=lambda batch: [row["caption"] for row in batch],
        compute=partial(summarize, checkpoint=profile.summarizer, embedder=profile.embedder, params=params, root=root),
        batch_size=profile.summarizer.batch_size,
        encode=_value,
        decode=json.loads,
        order=lambda row: len(row["caption"]),
    )
    total = tables.count(root / "data" / "captions.parquet")
    counts = fill(stage, root, total, previous=previous, map_batches=map_batches, on_row=on_row)
    tried = {str(number): attempts[number] for number in sorted(attempts)}
    return {**counts, "clip_tokens_max": longest, "attempts": tried}


def items(settings: Settings, root: Path) -> Iterator[Row]:
    """A row per caption, with the key of its summary."""
    summarizer = settings.profile.summarizer
    common = {
        "stage": "summaries",
        "version": VERSION,
        "model": checkpoints.identity(summarizer, root),
        "tokens": checkpoints.identity(settings.profile.embedder, root),
        "max_new_tokens": summarizer.max_new_tokens,
        **settings.params.summaries.model_dump(),
    }
    for row in tables.read(root / "data" / "captions.parquet", ["frame_id", "caption"]):
        yield row | {"row_key": digest_of(caption=row["caption"], **common)}


def summarize(
    captions: list[str], *, checkpoint: GeneratorCheckpoint, embedder: Checkpoint, params: Summaries, root: Path
) -> list[bytes | Refused]:
    """Summarize each caption in fewer than `params.max_words` words and `CLIP_TOKENS` tokens, in order."""
    summarizer = load_summarizer(checkpoint, root)
    tokenizer = load_tokenizer(embedder, root)
    answers: list[list[Written]] = [[] for _ in captions]
    found: dict[int, bytes | Refused] = {}

    def fits(text: str) -> bool:
        return len(text.split()) < params.max_words and count_tokens(tokenizer, text) < CLIP_TOKENS

    def keep(number: int, text: str, attempts: int) -> None:
        tokens = count_tokens(tokenizer, text)
        found[number] = _value(
            {"summary": text, "words": len(text.split()), "clip_tokens": tokens, "attempts": attempts}
        )

    for attempt in range(params.max_attempts):
        left = [number for number in range(len(captions)) if number not in found]
        if not left:
            break
        instruction = params.prompt.replace("{max_words}", str(limit(params.max_words, attempt)))
        for number, answer in zip(left, summarizer([captions[number] for number in left], instruction), strict=True):
            answers[number].append(answer)
            if answer.text and answer.ended and fits(answer.text):
                keep(number, answer.text, attempt + 1)

    for number in range(len(captions)):
        if number not in found:
            beginning = max((first_sentences(answer.text, fits) for answer in answers[number]), key=len)
            if beginning:
                keep(number, beginning, params.max_attempts + 1)
            else:
                found[number] = Refused(_reason(answers[number], params))
    return [found[number] for number in range(len(captions))]


def limit(max_words: int, attempt: int) -> int:
    """The words to ask for: `max_words` first, then two thirds of the last request each time."""
    return max(1, max_words * 2**attempt // 3**attempt)


def first_sentences(text: str, fits: Callable[[str], bool]) -> str:
    """As many of `text`'s first whole sentences as fit, "" if not one does."""
    sentences = whole_sentences(text)
    beginnings = (" ".join(sentences[:count]) for count in range(len(sentences), 0, -1))
    return next((beginning for beginning in beginnings if fits(beginning)), "")


def _reason(answers: list[Written], params: Summaries) -> str:
    if not any(answer.text for answer in answers):
        return "the summarizer had nothing to say about its caption"
    return (
        f"in {len(answers)} attempts, no sentence of its summary came under {params.max_words} words "
        f"and {CLIP_TOKENS} tokens: {answers[-1].text[:60]!r}…"
    )


def _value(row: Row) -> bytes:
    names = ("summary", "words", "clip_tokens", "attempts")
    return json.dumps({name: row[name] for name in names}, ensure_ascii=False).encode()
