"""Captions to summaries: short enough by the embedder's own count, asked again when not, never cut in mid-sentence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks import summaries
from tasks.models.decoding import whole_sentences
from tasks.models.embedder import count_tokens, load_tokenizer
from tasks.store import tables
from tasks.store.schemas import SCHEMAS
from tests.support import tiny_models


def run(root, captions, **changes):
    rows = [{"frame_id": f"clip.mp4/{n:06d}", "caption": c, "row_key": str(n)} for n, c in enumerate(captions)]
    tables.write(root / "data" / "captions.parquet", SCHEMAS["captions"], rows)
    own = tiny_models.settings()
    section = own.params.summaries.model_copy(update=changes)
    params = own.params.model_copy(update={"summaries": section})
    return summaries.run(own.model_copy(update={"params": params}), root)


def table(root) -> list[tables.Row]:
    return list(tables.read(root / "data" / "summaries.parquet"))


def reasons(root) -> dict[str, str]:
    rows = tables.read(root / "data" / "quarantine" / "summaries.parquet")
    return {row["frame_id"]: row["reason"] for row in rows}


def test_a_summary_that_is_too_long_is_asked_for_again_and_at_last_cut_to_whole_sentences(tiny_root):
    summary = run(tiny_root, list(tiny_models.SUMMARIES))
    assert [(row["summary"], row["attempts"]) for row in table(tiny_root)] == [
        ("Left, smiling.", 1),
        ("Left, smiling. It is red.", 2),
        ("Left, smiling. It is red. It is round. It is here.", 4),
    ]
    assert summary["attempts"] == {"1": 1, "2": 1, "4": 1}
    assert summary["rows"] + summary["quarantined"] == len(tiny_models.SUMMARIES)


def test_what_has_no_sentence_that_fits_is_refused_with_its_reason(tiny_root):
    run(tiny_root, list(tiny_models.SUMMARIES))
    refused = reasons(tiny_root)
    assert (
        "in 3 attempts, no sentence of its summary came under 12 words and 77 tokens: 'Right and"
        in (refused["clip.mp4/000003"])
    )
    assert refused["clip.mp4/000004"] == "the summarizer had nothing to say about its caption"


def test_words_and_tokens_are_counted_as_the_embedder_counts_and_stay_under_its_limit(tiny_root, models_folder):
    run(tiny_root, list(tiny_models.SUMMARIES))
    tokenizer = load_tokenizer(tiny_models.profile().embedder, models_folder)
    for row in table(tiny_root):
        assert row["clip_tokens"] == count_tokens(tokenizer, row["summary"]) < 77
        assert row["words"] == len(row["summary"].split()) < 12


def test_the_embedders_tokens_bind_where_the_words_would_not(tiny_root, monkeypatch):
    monkeypatch.setattr(summaries, "max_tokens", lambda *_: 20)
    run(tiny_root, ["stubborn", "obeys"], max_words=40, prompt=tiny_models.INSTRUCTION.replace("{max_words}", "12"))
    assert [row["summary"] for row in table(tiny_root)] == ["Left, smiling.", "Left, smiling."]
    assert all(row["clip_tokens"] < 20 for row in table(tiny_root))


def test_only_new_captions_are_summarized_and_equal_ones_once(tiny_root):
    assert run(tiny_root, ["obeys", "second"])["computed"] == 2
    before = (tiny_root / "data" / "summaries.parquet").read_bytes()
    assert run(tiny_root, ["obeys", "second"])["reused"] == 2
    assert (tiny_root / "data" / "summaries.parquet").read_bytes() == before
    assert run(tiny_root, ["obeys", "second", "stubborn", "obeys"])["computed"] == 1
    assert run(tiny_root, ["obeys", "second"], max_attempts=2)["computed"] == 2


def test_each_request_asks_for_fewer_words():
    assert [summaries.limit(50, attempt) for attempt in range(3)] == [50, 33, 22]
    assert [summaries.limit(12, attempt) for attempt in range(3)] == list(tiny_models.LIMITS)
    assert summaries.limit(1, 5) == 1


@given(st.lists(st.sampled_from(["One.", "Two words.", "Three whole words!"]), max_size=6), st.integers(0, 12))
def test_the_first_sentences_are_as_many_as_fit(sentences, words):
    def fits(text):
        return len(text.split()) < words

    found = summaries.first_sentences(" ".join([*sentences, "and an unfinished"]), fits)
    kept = whole_sentences(found)
    assert kept == sentences[: len(kept)]
    assert not found or fits(found)
    assert len(kept) == len(sentences) or not fits(" ".join(sentences[: len(kept) + 1]))
