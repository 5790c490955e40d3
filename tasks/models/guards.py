"""What is wrong with a model's words: it loops, refuses, says the prompt again, or answers in another language.

Rules of thumb for what anybody would see. A text that one of them fits is asked for once more, in another way.
"""

import re

from tasks.models.decoding import Written

LONGEST_PERIOD = 40  # words of a phrase that may be said again and again
REPEATS = 4  # times in a row that are too many
ECHO = 8  # words of the prompt in a row
FEWEST = 20  # words, below which nothing is said of the language
ENGLISH, NOT_ENGLISH = 0.2, 0.1  # shares of the common words, from which and up to which a text is or is not
COMMON = frozenset(
    re.findall(
        r"\w+",
        "the a an of and is are was in on at to with by for from that this it its as or but not be has have he she his "
        "her they their them there which who no",
    )
)
EMPTY = "is empty"
REFUSAL = re.compile(
    r"(?:i'?m|i am) (?:very |so |really )?(?:sorry|unable|not able)\b|sorry\b|i (?:cannot|can'?t|can not|won'?t)\b|"
    r"as an ai\b|i do(?:n'?t| not) (?:have the ability|see (?:any|an) (?:image|picture))",
    re.IGNORECASE,
)


def fault(written: Written, prompt: str) -> str | None:
    """What is wrong with an answer to `prompt`, as the end of "it …"; None for nothing that these rules see."""
    words = written.text.split()
    if not words:
        return EMPTY
    if REFUSAL.match(written.text.replace("’", "'")):
        return "refuses"
    if loops(words):
        return "says the same again and again"
    if echoes(words, prompt):
        return "repeats the prompt"
    if other_script(written.text, prompt) or other_language(words, prompt):
        return "is in another language than the prompt"
    return None


def loops(words: list[str]) -> bool:
    """Whether a phrase of 1 to `LONGEST_PERIOD` words stands `REPEATS` times in a row."""
    for period in range(1, min(LONGEST_PERIOD, len(words) // REPEATS) + 1):
        same = 0
        for before, word in zip(words, words[period:], strict=False):
            same = same + 1 if before == word else 0
            if same >= period * (REPEATS - 1):
                return True
    return False


def echoes(words: list[str], prompt: str) -> bool:
    """Whether `ECHO` words in a row are the prompt's."""
    asked, said = f" {' '.join(prompt.split())} ", words
    runs = (f" {' '.join(said[at : at + ECHO])} " for at in range(len(said) - ECHO + 1))
    return any(run in asked for run in runs)


def other_script(text: str, prompt: str) -> bool:
    """Whether the prompt is in Latin letters and a third of the answer's are not."""
    letters = [letter for letter in text if letter.isalpha()]
    strange = sum(ord(letter) > 0x24F for letter in letters)
    return _latin(prompt) and 3 * strange > len(letters)


def other_language(words: list[str], prompt: str) -> bool:
    """Whether the prompt is English and the answer has hardly any of the words that no English text does without."""
    return len(words) >= FEWEST and _common(prompt.split()) >= ENGLISH and _common(words) <= NOT_ENGLISH


def _common(words: list[str]) -> float:
    return sum(word.strip(".,;:!?\"'()").lower() in COMMON for word in words) / max(len(words), 1)


def _latin(text: str) -> bool:
    return all(ord(letter) <= 0x24F for letter in text if letter.isalpha())
