"""What `python -m demo.reading` draws, and how it counts."""

import itertools

import pytest
import torch

from demo import reader, reading
from demo.faces.characters import EXPRESSIONS, ORIENTATIONS
from demo.phrasings import read as read_text
from demo.prompts import PROMPTS


def test_the_prompts_ask_for_every_pair_and_for_other_things_too() -> None:
    wanted = [reading.asked(said) for said in PROMPTS.values()]
    assert all(value in reader.FACTS[fact] for facts in wanted for fact, values in facts.items() for value in values)
    pairs = {(*facts["orientation"], *facts["expression"]) for facts in wanted}
    assert pairs == set(itertools.product(ORIENTATIONS, EXPRESSIONS))
    assert len(PROMPTS) >= 60
    assert {fact for facts in wanted for fact in facts} >= {"hair_style", "glasses", "facial_hair", "headwear"}


def test_no_prompt_says_another_orientation_or_expression_than_it_asks_for() -> None:
    for text, said in PROMPTS.items():
        for fact, value in zip(reading.POSED, read_text(text), strict=True):
            assert value is None or (value,) == reading.asked(said)[fact], text


def test_a_fact_counts_where_the_text_names_it() -> None:
    true = {"orientation": "left", "hair_style": "long", "glasses": "none", "facial_hair": "beard", "headwear": "none"}
    text = "Left-facing man with a sad expression. He has long red hair and fair skin."
    assert reading.named(text, true) == {"orientation": ("left",), "hair_style": ("long",)}
    assert reading.asked("up sad glasses") == {
        "orientation": ("up",),
        "expression": ("sad",),
        "glasses": ("round", "square"),
    }


def test_shares_and_mistakes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {fact: ["none"] * 3 for fact in reader.FACTS}
    said |= {"orientation": ["left", "left", "up"], "expression": ["sad", "angry", "angry"]}
    monkeypatch.setattr(reading, "read", lambda clouds: said)
    wanted = [reading.asked(text) for text in ("left sad", "left sad", "up sad glasses")]
    scored = reading.score(reading.Set(torch.zeros(3, 1), wanted, None), torch.zeros(3, 4, 2))
    facts = scored["facts"]
    assert facts["orientation"] == {"texts": 3, "drawn": 1.0, "true": None}
    assert facts["expression"]["drawn"] == facts[reading.BOTH]["drawn"] == pytest.approx(1 / 3)
    assert facts["glasses"] == {"texts": 1, "drawn": 0.0, "true": None}
    assert scored["mistakes"] == [["sad", "angry", 2]]
    assert "sad for angry" not in reading.table({"some": {"drawings": 3, **scored}})
    assert "angry for sad 2×" in reading.table({"some": {"drawings": 3, **scored}})


def test_unseen_pairs_are_those_of_no_training_frame() -> None:
    truth = {f"a/{number}": {"orientation": "left", "expression": value} for number, value in enumerate(EXPRESSIONS)}
    data = {"frame_ids": list(truth), "split": ["train"] * (len(truth) - 1) + ["held_out"]}
    pairs = reading.unseen(data, truth)
    assert ("left", EXPRESSIONS[0]) not in pairs and ("left", EXPRESSIONS[-1]) in pairs
    faces = reading.posed(pairs[:2], 0)
    assert len(faces) == 2 * reading.FACES
    shown = [reader.truth_of(*face) for face in faces]
    assert [(facts["orientation"], facts["expression"]) for facts in shown] == [
        pair for pair in pairs[:2] for _ in range(reading.FACES)
    ]
