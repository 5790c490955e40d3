"""Warm start or scratch: how many steps a model needs when clips are added to those that the champion was trained on.

    python -m benchmarks.warm_start

A champion is trained by the default recipe, in `CHAMPION` steps and without `ADDED` of the training clips. Then, with
all of them, the recipe runs for several numbers of steps from random weights and from the champion's. Reads
data/train_data.pt, writes benchmarks/results/warm_start.json.
"""

from __future__ import annotations

import json
import os
import platform
import random
from importlib.metadata import version

import torch
from torch import Tensor

from benchmarks.training import EULER_STEPS, FRAMES, POINTS, RESULTS, ROOT, Trial
from tasks import settings
from tasks.clouds import fitting, training_set
from tasks.store import files

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
    score = Trial(data, FRAMES, EULER_STEPS)
    scores: dict[str, dict[str, dict[str, float]]] = {start: {} for start in BUDGETS}

    def trained(steps: int, on: Tensor, weights: dict[str, Tensor] | None = None) -> torch.nn.Module:
        limited = recipe.model_copy(update={"steps": steps})
        return fitting.fit("film", limited, data, on, seed=0, weights=weights).network

    champion = trained(CHAMPION, earlier)
    scores["champion"]["0"] = score(champion)
    for start, budgets in BUDGETS.items():
        for steps in budgets:
            weights = champion.state_dict() if start == "champion" else None
            scores[start][str(steps)] = score(trained(steps, rows, weights))
            print(start, steps, scores[start][str(steps)], flush=True)
    result = {
        "scores": scores,
        "floor": score.floor,
        "champion": {"steps": CHAMPION, "clips": len(clips) - ADDED, "of": len(clips)},
        "settings": {"frames": FRAMES, "points": POINTS, "euler_steps": EULER_STEPS, "added": sorted(added)},
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {"torch": version("torch")},
    }
    files.write(RESULTS / "warm_start.json", json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
