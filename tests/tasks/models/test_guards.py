"""Words that are no use are found, and others are left alone."""

from __future__ import annotations

import pytest

from tasks import settings
from tasks.models.decoding import Written
from tasks.models.guards import fault
from tests.support import ROOT

PROMPT = settings.load(ROOT).params.captions.prompt
GOOD = (
    "The woman is facing the front and looks straight at the viewer. She has long brown hair, which falls over her "
    "shoulders, and she is smiling broadly. Her eyes are green, and there is a scarf around her neck."
)


def wrong(text: str, prompt: str = PROMPT) -> str | None:
    return fault(Written(text, ended=True), prompt)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "Front-facing, smiling.",
        "A red face looks left. It smiles.",
        "no no no, she says, and turns away",
        "Sorrow is in his eyes.",
        "La femme sourit.",
        "Olá",
        "«Ça va» is written on the shirt of the man, who is facing left and is laughing at something behind us.",
    ],
)
def test_a_description_is_left_alone(text):
    assert wrong(text) is None


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "is empty"),
        ("I'm sorry, but I can't help with identifying people.", "refuses"),
        ("I’m unable to see any image.", "refuses"),
        ("Sorry, I cannot describe this face.", "refuses"),
        ("As an AI, I have no eyes.", "refuses"),
        ("The man is smiling. " * 4, "says the same again and again"),
        (GOOD + " and the hair and the hair and the hair and the hair", "says the same again and again"),
        ("no " * 4, "says the same again and again"),
        (f"{PROMPT} The man is facing left.", "repeats the prompt"),
        ("Вот женщина, которая смотрит прямо на нас и улыбается.", "is in another language than the prompt"),
        ("这个女人面向前方，正在微笑。", "is in another language than the prompt"),
        (
            "La femme regarde droit devant elle avec un large sourire; ses cheveux bruns tombent sur ses épaules "
            "et elle porte une écharpe bleue autour du cou.",
            "is in another language than the prompt",
        ),
    ],
)
def test_words_that_are_no_use_are_named(text, says):
    assert wrong(text) == says


def test_a_prompt_in_another_language_gets_answers_in_it():
    prompt = "Beschreibe dieses Gesicht in 200 Wörtern: wohin es blickt, den Ausdruck und was sonst auffällt."
    said = "Die Frau blickt nach links und lächelt; ihr braunes Haar fällt über die Schultern. Sie trägt einen Schal."
    assert wrong(said, prompt) is None
    assert wrong("这个女人面向前方，正在微笑。", prompt) == "is in another language than the prompt"
