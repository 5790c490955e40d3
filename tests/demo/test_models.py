"""The committed demo checkpoints, loaded as the pipeline loads them, on some of the demo clips they never saw."""

import numpy as np
import pytest

from demo.checkpoints import scores
from tasks import settings
from tasks.models import checkpoints
from tasks.models.captioner import load_captioner
from tasks.models.embedder import load_embedder
from tasks.models.summarizer import load_summarizer
from tests.support import ROOT
from tests.support.tiny_models import described

CLIPS = 4  # of the demo's; all take minutes, `python -m demo.checkpoints.scores`


@pytest.fixture(scope="module")
def given() -> settings.Settings:
    return settings.Settings(
        params=settings.load(ROOT).params,
        profile=settings.Profile.model_validate(settings.yaml.safe_load((ROOT / "profiles/demo.yaml").read_text())),
    )


@pytest.fixture(scope="module")
def words(given) -> scores.Words:
    clips = sorted(path.name for path in (ROOT / scores.CLIPS).iterdir())
    return scores.describe(given, clips[:: len(clips) // CLIPS], ROOT)


def test_scores_reach_the_goals(given, words):
    scored = scores.score(words, given, ROOT)
    scores.show(scored)
    for name, goal in scores.GOALS.items():
        assert scored[name] >= goal, name
    assert scored["captions that two characters share"] == 0
    assert scored["words per summary, max"] < 50
    assert scored["tokens per summary, max"] < 77
    assert 0.7 < scored["cosine, mean"] < 0.9
    assert scored["cosine, min"] < 0.6


def test_a_picture_is_described_alike_alone_and_in_a_batch(given):
    captioner = load_captioner(given.profile.captioner, ROOT)
    clips = sorted((ROOT / scores.CLIPS).iterdir())
    pictures = [next(scores.media.pictures(path, 1, 256)).image for path in clips[::35]]
    prompt = given.params.captions.prompt
    together = described(captioner, pictures, prompt)
    assert [described(captioner, [picture], prompt)[0] for picture in pictures] == together
    assert all(written.ended for written in together)


def test_a_summary_is_the_same_alone_and_among_shorter_ones(given, words):
    summarizer = load_summarizer(given.profile.summarizer, ROOT)
    instruction = given.params.summaries.prompt.replace("{max_words}", "50")
    texts = sorted(set(words.captions), key=len)
    texts = [texts[0], texts[len(texts) // 2], texts[-1]]
    assert [summarizer([text], instruction)[0] for text in texts] == summarizer(texts, instruction)


@pytest.mark.parametrize("max_words", [40, 33, 22])
def test_fewer_words_are_given_when_fewer_are_asked(given, words, max_words):
    summarizer = load_summarizer(given.profile.summarizer, ROOT)
    instruction = given.params.summaries.prompt.replace("{max_words}", str(max_words))
    for written in summarizer(words.captions[:8], instruction):
        assert written.ended and len(written.text.split()) < max_words


def test_what_stays_the_same_is_in_the_embedding_too(given):
    embedder = load_embedder(given.profile.embedder, ROOT)
    base = "Front-facing woman with a smiling expression. She has long red hair, fair skin and green eyes."
    changes = {"long red hair": "a black bob", "fair skin": "dark skin", "green eyes": "green eyes and round glasses"}
    vectors = embedder([base, *(base.replace(old, new) for old, new in changes.items()), base.replace("Front", "Left")])
    cosines = vectors[0] @ vectors[1:].T
    assert (cosines[:-1] < 0.9999).all() and (cosines[:-1] > cosines[-1]).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_the_checkpoints_are_small_pinned_and_honest(given):
    size = sum(path.stat().st_size for path in (ROOT / "models/demo").rglob("*") if path.is_file())
    assert size < 20e6
    for name in ("captioner", "summarizer", "embedder", "autoencoder"):
        checkpoint = getattr(given.profile, name)
        assert checkpoint.revision == checkpoints.locate(checkpoint, ROOT).digest
        card = (ROOT / checkpoint.model / "README.md").read_text()
        assert "knows rendered faces and nothing else" in card and "## Scores" in card
