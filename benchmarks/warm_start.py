"""Warm start or scratch: how many steps a model needs when clips are added to those that the champion was trained on.

    python -m benchmarks.warm_start

A champion is trained by the default recipe, in `CHAMPION` steps and without `ADDED` of the training clips. Then, with
all of them, the recipe runs for several numbers of steps from random weights and from the champion's. Reads
data/train_data.pt, writes benchmarks/results/warm_start.json.
"""

from __future__ import annotations

import random

import torch

from benchmarks import harness
from benchmarks.harness import ROOT
from benchmarks.training import EULER_STEPS, FRAMES, POINTS, Trial, whole_runs
from tasks import settings
from tasks.clouds import fitting, training_set

ADDED = 10  # clips
CHAMPION = 1000  # steps
BUDGETS = {"champion": (100, 250, 500), "scratch": (250, 500, 1000)}


def main() -> None:
    data, recipe = training_set.load(ROOT), settings.load(ROOT).params.train.recipe("film")
    rows = training_set.rows_of(data, training_set.TRAIN)
    clip_of_row = [training_set.clip_of(data["frame_ids"][i]) for i in rows]
    clips = sorted(set(clip_of_row))
    added = set(random.Random(0).sample(clips, ADDED))
    earlier = torch.tensor([row for row, clip in zip(rows.tolist(), clip_of_row, strict=True) if clip not in added])
    score = Trial(data)
    limited = recipe.model_copy(update={"steps": CHAMPION})
    champion = fitting.fit("film", limited, data, earlier, seed=0).network
    weights = {"champion": champion.state_dict(), "scratch": None}
    result = {
        "untouched champion": score(champion),
        "runs": {
            start: whole_runs("film", recipe, BUDGETS[start], data, score, weights=weights[start]) for start in BUDGETS
        },
        "floor": score.floor,
        "champion": {"steps": CHAMPION, "clips": len(clips) - ADDED, "of": len(clips)},
        "settings": {"frames": FRAMES, "points": POINTS, "euler_steps": EULER_STEPS, "added": sorted(added)},
    }
    harness.write("warm_start", result)


if __name__ == "__main__":
    main()
