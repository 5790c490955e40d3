"""The evaluation as one page of Markdown, beside its pictures."""

import re
from collections.abc import Iterable
from typing import Any

WHO = {
    "floor": "floor: another sample of the same frame",
    "same_words": "another frame of the very same words",
    "model": "**this model**",
}
SCORES = {
    "chamfer": "Chamfer ↓",
    "sliced_w2": "sliced W2 ↓",
    "emd": "EMD ↓",
    "energy": "energy ↓",
    "told_apart": "told apart → 50 %",
    "retrieval_frame": "own frame ↑",
    "retrieval_summary": "own text ↑",
    "retrieval_clip": "own clip ↑",
}
ABOUT = {
    "gallery.png": "Held-out frames, their points, and what the model draws from their text",
    "scores.png": "The scores side by side",
    "steps.png": "Quality against the number of Euler steps",
    "cosine.png": "How alike the conditions are",
    "training.png": "The training curve",
}


def markdown(scores: dict[str, Any], card: dict[str, Any], pictures: Iterable[str]) -> str:
    """Tables of `scores` (the content of scores.json), and the pictures by name."""
    held, settings, trained = scores["held_out"], scores["settings"], card["trained_on"]
    who = WHO | {
        "baseline": f"original recipe, {settings['baseline_steps']} steps",
        "mean_cloud": "mean cloud: points of the whole training set",
        "chance": "chance",
    }
    lines = [
        "# Evaluation",
        "",
        f"Network `{card['network']['name']}`, trained on {trained['frames']} frames of {trained['clips']} clips; "
        f"drawn: {held['frames_drawn']} of {held['frames']} frames of {held['clips']} held-out clips, "
        f"{settings['steps']} Euler steps, guidance {settings['guidance']:g}, {card['num_points']} points each.",
        "",
        _row(["", *SCORES.values()]),
        _row(["---", *["---:"] * len(SCORES)]),
    ]
    for name, label in who.items():
        if any(name in scores[score] for score in SCORES):
            lines.append(_row([label, *(_cell(score, scores[score].get(name)) for score in SCORES)]))
    lines += [
        "",
        "Distances are in units of the points (a picture's longer side is 6) and are means over the frames; the "
        "Chamfer distance is the root of the summed mean squared nearest distances. *Own frame*: the share of drawn "
        f"clouds whose nearest true cloud (by sliced W2, among {held['frames_drawn']}) is that of the frame whose text "
        "was drawn; *own text* and *own clip* also count a frame with the same summary, or of the same clip. The "
        f"{held['frames_drawn']} frames have {held['distinct_summaries']} different summaries.",
        "",
        "A text leaves much open, and no model can know it: a perfect one would draw as good a face as *another frame "
        f"of the very same words*, which {held['frames_of_same_words']} of the frames have. *Energy*: the Chamfer "
        "distance less half that of two drawings of the text; the average of all faces that a text fits is near to "
        "each of them, but loses by this. *Told apart*: how often the nearest neighbour of a cloud, among "
        f"{held['frames_in_set']} drawn and as many true ones, is of its own kind (1-NNA); at 50 % nobody can tell "
        "them apart, and blurs are at 100 %.",
        "",
        "## How far the texts are from those of the training",
        "",
        f"The cosine similarity to the nearest text of the training is {scores['texts']['held_out']:.3f} for the "
        "held-out summaries, on average. For the prompts of params.yaml:",
        "",
        _row(["prompt", "nearest", "text of the training"]),
        _row(["---", "---:", "---"]),
        *(
            _row([_plain(prompt), f"{near:.3f}", _plain(text)])
            for prompt, (near, text) in scores["texts"]["prompts"].items()
        ),
    ]
    for name in pictures:
        lines += ["", f"## {ABOUT[name]}", "", f"![{ABOUT[name]}]({name})"]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """A text that somebody typed, as one cell of a table."""
    return " ".join(re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text).split())


def _cell(score: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0%}" if score.startswith(("retrieval", "told")) else f"{value:.3f}"
