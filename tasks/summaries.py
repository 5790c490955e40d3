"""Captions → summaries that fit the embedder: asked again when too long, at last cut back to whole sentences."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tasks.errors import Refused
from tasks.models import checkpoints, loading
from tasks.models.decoding import Written, whole_sentences
from tasks.models.embedder import count_tokens, load_tokenizer, max_tokens
from tasks.models.guards import EMPTY, fault
from tasks.models.summarizer import identity, load_summarizer
from tasks.settings import AnySummarizer, Checkpoint, Settings, Summaries
from tasks.store import tables
from tasks.store.digests import digest_of
from tasks.store.fill import RowStage, fill
from tasks.store.rows import MapBatches, Previous, no_previous
from tasks.store.tables import Row

VERSION = 1


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
        batch_size=loading.gathered(profile.summarizer.batch_size),
        encode=_value,
        decode=json.loads,
        order=lambda row: len(row["caption"]),
    )
    total = tables.count(root / "data" / "captions.parquet")
    counts = fill(stage, root, total, previous=previous, map_batches=map_batches, on_row=on_row)
    loading.release()
    tried = {str(number): attempts[number] for number in sorted(attempts)}
    return {**counts, "clip_tokens_max": longest, "attempts": tried}


def items(settings: Settings, root: Path) -> Iterator[Row]:
    """A row per caption, with the key of its summary."""
    summarizer = settings.profile.summarizer
    common = {
        "stage": "summaries",
        "version": VERSION,
        "model": identity(summarizer, root),
        "tokens": checkpoints.identity(settings.profile.embedder, root),
        "max_new_tokens": summarizer.max_new_tokens,
        **settings.params.summaries.model_dump(),
    }
    for row in tables.read(root / "data" / "captions.parquet", ["frame_id", "caption"]):
        yield row | {"row_key": digest_of(caption=row["caption"], **common)}


def summarize(
    captions: list[str], *, checkpoint: AnySummarizer, embedder: Checkpoint, params: Summaries, root: Path
) -> list[bytes | Refused]:
    """Summarize each caption in fewer than `params.max_words` words and tokens than the embedder reads, in order."""
    summarizer = load_summarizer(checkpoint, root)
    tokenizer, most = load_tokenizer(embedder, root), max_tokens(embedder, root)
    answers: list[list[Written]] = [[] for _ in captions]
    wrong: dict[int, str] = {}
    found: dict[int, bytes | Refused] = {}

    def fits(text: str) -> bool:
        return len(text.split()) < params.max_words and count_tokens(tokenizer, text) < most

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
        for again in (False, True):
            some = [number for number in left if (number in wrong) == again]
            said = summarizer([captions[number] for number in some], instruction, again=again) if some else []
            for number, answer in zip(some, said, strict=True):
                wrong.pop(number, None)
                if isinstance(answer, Refused):
                    found[number] = answer
                elif found_wrong := fault(answer, instruction):
                    wrong[number] = found_wrong
                else:
                    answers[number].append(answer)
                    if answer.ended and fits(answer.text):
                        keep(number, answer.text, attempt + 1)

    for number in range(len(captions)):
        if number not in found:
            beginning = max((first_sentences(answer.text, fits) for answer in answers[number]), key=len, default="")
            if beginning:
                keep(number, beginning, params.max_attempts + 1)
            else:
                found[number] = Refused(_reason(answers[number], wrong.get(number), params.max_words, most))
    return [found[number] for number in range(len(captions))]


def limit(max_words: int, attempt: int) -> int:
    """The words to ask for: `max_words` first, then two thirds of the last request each time."""
    return max(1, max_words * 2**attempt // 3**attempt)


def first_sentences(text: str, fits: Callable[[str], bool]) -> str:
    """As many of `text`'s first whole sentences as fit, "" if not one does."""
    sentences = whole_sentences(text)
    beginnings = (" ".join(sentences[:count]) for count in range(len(sentences), 0, -1))
    return next((beginning for beginning in beginnings if fits(beginning)), "")


def _reason(answers: list[Written], wrong: str | None, max_words: int, most: int) -> str:
    if wrong == EMPTY or not (answers or wrong):
        return "the summarizer had nothing to say about its caption"
    if wrong and not answers:
        return f"its summary {wrong}, every time that it was asked for"
    return (
        f"in {len(answers)} attempts, no sentence of its summary came under {max_words} words "
        f"and {most} tokens: {answers[-1].text[:60]!r}…"
    )


def _value(row: Row) -> bytes:
    names = ("summary", "words", "clip_tokens", "attempts")
    return json.dumps({name: row[name] for name in names}, ensure_ascii=False).encode()
