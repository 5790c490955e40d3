"""What the demo says of a face can be read back, keeps to its lengths, and never calls two characters the same."""

import numpy as np
import pytest

from demo import words
from demo.faces.characters import CAST, EXPRESSIONS, ORIENTATIONS, Pose, random_character, random_pose
from demo.phrasings import phrase, read


@pytest.fixture(scope="module")
def faces() -> list[dict[str, str]]:
    rng = np.random.default_rng(0)
    return [words.facts(random_character(rng), random_pose(rng)) for _ in range(500)]


def test_every_text_names_orientation_and_expression(faces):
    rng = np.random.default_rng(1)
    for face in faces:
        assert set(face) == set(words.VALUES)
        assert all(face[key] in values for key, values in words.VALUES.items())
        truth = (face["orientation"], face["expression"])
        for text in (words.caption(face), *(words.summary(face, limit) for limit in (50, 33, 22, 12))):
            assert read(text) == truth, text
        text, named = phrase(face, rng)
        assert read(text) == (named.get("orientation"), named.get("expression")), text


def test_lengths(faces):
    assert all(200 <= len(words.caption(face).split()) <= 300 for face in faces)
    for limit in (50, 33, 22, 12):
        assert all(len(words.summary(face, limit).split()) < limit for face in faces)


def test_no_two_of_the_cast_are_described_alike():
    texts = {}
    for member in CAST:
        for yaw, pitch in ((0, 0), (-0.7, 0), (0.7, 0), (0, 0.7), (0, -0.7)):
            for expression in EXPRESSIONS:
                face = words.facts(member, Pose(yaw, pitch, expression))
                for text in (words.caption(face), words.summary(face)):
                    assert texts.setdefault(text, member.name) == member.name


@pytest.mark.parametrize(
    ("text", "orientation", "expression"),
    [
        ("a face looking to the left, smiling", "left", "smiling"),
        ("Front-facing, smiling expression", "front", "smiling"),
        ("a sad woman with glasses looking up", "up", "sad"),
        ("A furious man whose head is turned sharply to the right.", "right", "angry"),
        ("He faces the camera with a wink.", "front", "winking"),
        ("a bowl of fruit", None, None),
    ],
)
def test_free_phrasings_are_read(text, orientation, expression):
    assert read(text) == (orientation, expression)


def test_degrees_grow_with_the_turn():
    degrees = [words.facts(CAST[0], Pose(yaw=-turn))["degree"] for turn in (0.4, 0.7, 0.95)]
    assert degrees == ["slightly", "clearly", "far"]
    assert {words.facts(CAST[0], Pose(yaw=-turn))["orientation"] for turn in (0.4, 0.7, 0.95)} == {"left"}
    assert ORIENTATIONS[0] == words.facts(CAST[0], Pose())["orientation"]
