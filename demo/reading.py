"""What the reader sees in the model's drawings: `python -m demo.reading` after `make run` (or `make read`).

Three sets are drawn: held-out frames from their embeddings, prompts as people type them, and summaries of random
characters in pairs of orientation and expression that no training frame shows. A fact counts where the text names it.
Beside the drawings stand true clouds of the same faces, which say how well the reader reads.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from demo import words
from demo.checkpoints.scores import TRUTH
from demo.checkpoints.train_reader import rendered
from demo.faces.characters import CAST, EXPRESSIONS, ORIENTATIONS, Character, Pose, random_character, random_pose
from demo.phrasings import read as read_text
from demo.prompts import PROMPTS
from demo.reader import FACTS, POINTS, read, truth_of
from tasks import settings
from tasks.clouds import artifacts, density, drawing, generation, training_set
from tasks.errors import StippleError
from tasks.progress import progress

DRAWN = 2  # drawings of each prompt
FACES = 20  # of each unseen pair
MISTAKES = 3

Wanted = dict[str, tuple[str, ...]]
"""The facts that a text names, and the values that are right."""
Said = dict[str, list[str]]

LOOKS = {value: fact for fact, values in FACTS.items() for value in values if value != "none"}
POSED = ("orientation", "expression")
BOTH, WIDTH = "orientation and expression", 27


@dataclass(frozen=True)
class Set:
    """Texts to draw, as conditions [N, C], what each names, and true clouds [N, P, 2] of the same faces, if any."""

    conditions: Tensor
    wanted: list[Wanted]
    true: Tensor | None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.reading", description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, help="Euler steps; as params.yaml evaluates, if not given")
    parser.add_argument("--guidance", type=float, help="likewise")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    given, root = parser.parse_args(), Path()
    params = settings.load(root).params
    steps, guidance = given.steps or params.evaluate.steps, given.guidance
    guidance = params.evaluate.guidance if guidance is None else guidance
    model = generation.load(root / artifacts.MODEL)
    scores = {}
    for name, some in sets(root, model, params.seed).items():
        with progress(f"read, {name}", len(some.wanted), "drawing") as bar:
            clouds = drawing.draw(
                model.network,
                some.conditions,
                POINTS,
                steps=steps,
                guidance=guidance,
                seed=params.seed,
                on_clouds=bar.advance,
            )
        scores[name] = {"drawings": len(clouds)} | score(some, clouds)
    print(f"Read right in drawings of {steps} steps, guidance {guidance:g}:\n\n{table(scores)}")
    if given.json:
        given.json.write_text(json.dumps({"steps": steps, "guidance": guidance, **scores}, indent=2) + "\n")


def sets(root: Path, model: generation.Model, seed: int) -> dict[str, Set]:
    """What is drawn, by name; without the unseen pairs if training shows all."""
    data, truth = training_set.load(root), facts_by_frame(root)
    if strange := [frame for frame in data["frame_ids"] if frame not in truth]:
        raise StippleError(
            f"data has {strange[0]}, of which {TRUTH} says nothing; `make run` on today's demo clips first"
        )
    embedder = generation.embedder_of(model, root)
    typed = [(text, wanted) for text, said in PROMPTS.items() for wanted in [asked(said)] * DRAWN]
    found = {
        "held-out frames": held_out(data, truth, seed),
        "typed prompts": Set(generation.embed([text for text, _ in typed], embedder), [w for _, w in typed], None),
    }
    if pairs := unseen(data, truth):
        faces = posed(pairs, seed)
        texts = [words.summary(words.facts(*face)) for face in faces]
        clouds = density.draw(rendered(faces), torch.arange(len(faces)), POINTS, torch.Generator().manual_seed(seed))
        wanted = [named(text, truth_of(*face)) for text, face in zip(texts, faces, strict=True)]
        found["unseen pairs"] = Set(generation.embed(texts, embedder), wanted, clouds)
    return found


def facts_by_frame(root: Path) -> dict[str, dict[str, Any]]:
    """What every frame of the demo clips shows."""
    return json.loads((root / TRUTH).read_text())


def clear(data: dict, truth: dict) -> list[int]:
    """The held-out frames that show orientation and expression clearly."""
    rows = training_set.rows_of(data, training_set.HELD_OUT).tolist()
    return [row for row in rows if all(truth[data["frame_ids"][row]][f"{fact}_clear"] for fact in POSED)]


def held_out(data: dict, truth: dict, seed: int) -> Set:
    """The `clear` frames."""
    cast = {member.name: member for member in CAST}
    rows = clear(data, truth)
    faces = [truth[data["frame_ids"][row]] for row in rows]
    wanted = [
        named(data["summaries"][row], truth_of(cast[face["character"]], face))
        for row, face in zip(rows, faces, strict=True)
    ]
    index = torch.tensor(rows)
    clouds = density.draw(data["density"], index, POINTS, torch.Generator().manual_seed(seed))
    return Set(data["embeddings"][index], wanted, clouds)


def unseen(data: dict, truth: dict) -> list[tuple[str, str]]:
    """The pairs of orientation and expression that no training frame shows, clearly or not."""
    rows = training_set.rows_of(data, training_set.TRAIN).tolist()
    seen = {tuple(truth[data["frame_ids"][row]][fact] for fact in POSED) for row in rows}
    return [pair for pair in product(ORIENTATIONS, EXPRESSIONS) if pair not in seen]


def posed(pairs: Sequence[tuple[str, str]], seed: int) -> list[tuple[Character, Pose]]:
    """Random characters that show each pair clearly, `FACES` of each."""
    rng, faces = np.random.default_rng(seed), []
    for orientation, expression in np.repeat(np.array(pairs), FACES, axis=0).tolist():
        character, pose = random_character(rng), random_pose(rng)
        wanted = {"orientation": orientation, "expression": expression}
        while not wanted.items() <= truth_of(character, pose).items():
            pose = random_pose(rng)
        faces.append((character, pose))
    return faces


def asked(said: str) -> Wanted:
    """The facts in a few values of them: "left sad glasses"."""
    return {
        fact: (value,) if value != "glasses" else ("round", "square")
        for value in said.split()
        for fact in [LOOKS.get(value, value)]
    }


def named(text: str, true: dict[str, str]) -> Wanted:
    """Those of the facts `true` that `text` names."""
    posed = {fact for fact, value in zip(POSED, read_text(text), strict=True) if value}
    spoken = {LOOKS[word] for word in re.findall(r"\w+", text.lower()) if word in LOOKS}
    facts = posed | (spoken - set(POSED))
    return {fact: (value,) for fact, value in true.items() if fact in facts and value != "none"}


def score(some: Set, clouds: Tensor) -> dict[str, Any]:
    """Of each fact, and of `BOTH`: how many texts name it, the shares read right in drawings and in true clouds.

    Beside them the commonest mistakes about the expression, as what was wanted, what was read, and how often.
    """
    said, true = read(clouds), None if some.true is None else read(some.true)
    facts = {}
    for fact, parts in {**{fact: (fact,) for fact in FACTS}, BOTH: POSED}.items():
        rows = [row for row, wanted in enumerate(some.wanted) if wanted.keys() >= set(parts)]
        facts[fact] = {"texts": len(rows)} | {
            name: share(shown, some.wanted, rows, parts) if shown and rows else None
            for name, shown in (("drawn", said), ("true", true))
        }
    pairs = ((wanted.get("expression"), seen) for wanted, seen in zip(some.wanted, said["expression"], strict=True))
    mistakes = Counter((wanted[0], seen) for wanted, seen in pairs if wanted and seen not in wanted)
    return {"facts": facts, "mistakes": [[*pair, count] for pair, count in mistakes.most_common(MISTAKES)]}


def share(said: Said, wanted: Sequence[Wanted], rows: Sequence[int], facts: Sequence[str]) -> float:
    """Of the clouds in `rows`, those of which all `facts` are read as wanted."""
    return float(np.mean([all(said[fact][row] in wanted[row][fact] for fact in facts) for row in rows]))


def table(scores: dict[str, dict[str, Any]]) -> str:
    """The scores as text: two shares and a count for each set."""

    def cell(value: float | None) -> str:
        return f"{'-' if value is None else f'{100 * value:.1f} %':>9}"

    titles = (f"{name}, {found['drawings']}" for name, found in scores.items())
    lines = [f"{'':{WIDTH}}" + "".join(f"{title:>28}" for title in titles)]
    lines.append(f"{'':{WIDTH}}" + f"{'drawn':>10}{'true':>9}{'texts':>9}" * len(scores))
    for fact in (*FACTS, BOTH):
        rows = [found["facts"][fact] for found in scores.values()]
        cells = (f" {cell(row['drawn'])}{cell(row['true'])}{row['texts']:>9}" for row in rows)
        lines.append(f"{fact:{WIDTH}}" + "".join(cells))
    lines.append("")
    for name, found in scores.items():
        said = ", ".join(f"{seen} for {wanted} {count}×" for wanted, seen, count in found["mistakes"]) or "none"
        lines.append(f"{name}: the commonest mistakes about the expression: {said}")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        main()
    except StippleError as error:
        sys.exit(f"{error}")
