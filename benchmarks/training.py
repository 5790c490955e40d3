"""Quality against wall time: the default recipe and the original one, same data, same cores, one after the other.

    python -m benchmarks.training [--quick]

Reads data/train_data.pt. The original recipe runs its whole 20,000 steps and is scored on the way. Ours is trained anew
for each of a few numbers of steps, as its learning rate falls to zero at the end of a run. Scoring is off the clock.
Writes benchmarks/results/training.json and training.png; --quick, a few steps to see that it works, writes to
.stipple/benchmarks instead.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks import harness
from benchmarks.harness import ROOT
from fm import networks
from fm.training import Progress
from tasks import settings
from tasks.clouds import artifacts, density, drawing, figures, fitting, scoring, training_set

QUICK_RESULTS = ROOT / ".stipple" / "benchmarks"
FRAMES, POINTS, EULER_STEPS = 24, 512, 50
BUDGETS = {
    "film": (50, 100, 200, 400, 500, 800, 1600, 3000),
    "baseline": (1000, 2000, 4000, 8000, 12_000, 16_000, 20_000),
}
QUICK = {"film": (4, 8), "baseline": (10, 20, 30)}
SCORES = {"chamfer": min, "sliced_w2": min, "retrieval_frame": max}

Score = Callable[[nn.Module], dict[str, float]]


class Trial:
    """The held-out frames, and the scores of a network on them."""

    def __init__(self, data: dict[str, Any], frames: int = FRAMES, euler_steps: int = EULER_STEPS) -> None:
        self.rows = scoring.spread(training_set.rows_of(data, training_set.HELD_OUT), frames)
        self.euler_steps = euler_steps
        generator = torch.Generator().manual_seed(0)
        self.truth, again = (density.draw(data["density"], self.rows, POINTS, generator) for _ in range(2))
        self.conditions = data["embeddings"][self.rows]
        self.names = [data["frame_ids"][i] for i in self.rows]
        self.floor = self.scores(again)

    def __call__(self, network: nn.Module) -> dict[str, float]:
        return self.scores(drawing.draw(network, self.conditions, POINTS, steps=self.euler_steps, guidance=1.0, seed=0))

    def scores(self, clouds: Tensor) -> dict[str, float]:
        named = {"it": clouds}
        clips = list(map(training_set.clip_of, self.names))
        found = scoring.retrievals(named, self.truth, self.names, clips)
        every = scoring.distances(named, self.truth) | found
        return {score: every[score]["it"] for score in SCORES}


def whole_runs(
    network: str,
    recipe: settings.Recipe,
    budgets: Iterable[int],
    data: dict[str, Any],
    score: Score,
    weights: Mapping[str, Tensor] | None = None,
) -> list[dict[str, float]]:
    """One run for each number of steps, from `weights` or from scratch."""
    points, rows = [], training_set.rows_of(data, training_set.TRAIN)
    for steps in budgets:
        limited = recipe.model_copy(update={"steps": steps})
        trained, wall, _ = harness.timed(fitting.fit, network, limited, data, rows, seed=0, weights=weights)
        points.append({"steps": steps, "seconds": round(wall, 1), **score(trained.network)})
        print(f"{network}: {points[-1]}", flush=True)
    return points


def on_the_way(
    network: str, recipe: settings.Recipe, marks: Iterable[int], data: dict[str, Any], score: Score
) -> list[dict[str, float]]:
    """One run to the last mark, scored at each of them from its checkpoints."""
    marks = sorted(marks)
    recipe = recipe.model_copy(update={"steps": marks[-1], "checkpoint_every": marks[0]})
    points: list[dict[str, float]] = []
    began, off, reached = time.perf_counter(), 0.0, 0.0

    def scored(weights: nn.Module | dict[str, Tensor], steps: int) -> None:
        model = networks.build(fitting.network_config(network, data, 0))
        model.load_state_dict(weights if isinstance(weights, dict) else weights.state_dict())
        points.append({"steps": steps, "seconds": round(reached, 1), **score(model)})
        tqdm.write(f"{network}: {points[-1]}")

    with tempfile.TemporaryDirectory() as folder, tqdm(total=recipe.steps, desc=network, unit="step") as bar:

        def on_step(progress: Progress) -> None:
            nonlocal off, reached
            bar.update()
            if progress.step - 1 in marks:  # its checkpoint was written after the step before this one
                paused = time.perf_counter()
                scored(torch.load(Path(folder) / "checkpoint.pt", weights_only=True)["ema"], progress.step - 1)
                off += time.perf_counter() - paused
            reached = time.perf_counter() - began - off

        rows = training_set.rows_of(data, training_set.TRAIN)
        scored(
            fitting.fit(network, recipe, data, rows, seed=0, checkpoint_dir=Path(folder), on_step=on_step).network,
            recipe.steps,
        )
    return points


def sooner(ours: list[dict[str, float]], baseline: list[dict[str, float]]) -> dict[str, dict[str, float] | None]:
    """For each score: the best the baseline reached at any mark, when ours was there, and how many times sooner."""
    result: dict[str, dict[str, float] | None] = {}
    for score, best in SCORES.items():
        target = best(point[score] for point in baseline)
        there = next((point for point in ours if best(point[score], target) == point[score]), None)
        result[score] = there and {
            "baseline_best": target,
            "baseline_seconds": baseline[-1]["seconds"],
            "our_seconds": there["seconds"],
            "our_steps": there["steps"],
            "times_sooner": round(baseline[-1]["seconds"] / there["seconds"], 1),
        }
    return result


def drawing_share(recipe: settings.Recipe, data: dict[str, Any], seconds_a_step: float, repeats: int = 100) -> float:
    """The share of a training step that goes into drawing fresh points."""
    draw = fitting.batches(recipe, data, training_set.rows_of(data, training_set.TRAIN))
    generator = torch.Generator().manual_seed(0)
    began = time.perf_counter()
    for _ in range(repeats):
        draw(generator)
    return round((time.perf_counter() - began) / repeats / seconds_a_step, 4)


@figures.png
def curves(result: dict[str, Any]) -> Figure:
    """Each score against wall time."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    titles = ("Chamfer ↓", "sliced W2 ↓", f"finds its own frame among {result['held_out_frames']} ↑")
    panels = figure.subplots(1, len(SCORES))
    for axes, score, title in zip(panels, SCORES, titles, strict=True):
        for key, who, label in (("ours", "model", "ours"), ("baseline", "baseline", "original recipe")):
            points = result[key]
            axes.plot([p["seconds"] for p in points], [p[score] for p in points], "o-", ms=4, color=figures.COLORS[who])
            axes.plot([], [], "o-", ms=4, color=figures.COLORS[who], label=label)
        axes.axhline(
            result["floor"][score], color=figures.COLORS["floor"], ls=":", label="floor: the truth, drawn again"
        )
        axes.set(title=title, xscale="log", xlabel="seconds of training", ylim=(0, None))
    panels[0].legend(fontsize=7.5)
    return figure


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    budgets, results = (QUICK, QUICK_RESULTS) if quick else (BUDGETS, harness.RESULTS)
    params = settings.load(ROOT).params.train
    data, path = training_set.load(ROOT), ROOT / artifacts.TRAIN_DATA
    trial = Trial(data, 4, 2) if quick else Trial(data)
    film, baseline = params.recipe("film"), params.recipe("baseline")
    whole_runs(
        "film", film, [2], data, lambda network: {}
    )  # what a process does once (Accelerate, kernels) is not timed
    ours = whole_runs("film", film, budgets["film"], data, trial)
    original = on_the_way("baseline", baseline, budgets["baseline"], data, trial)
    result = {
        "ours": ours,
        "baseline": original,
        "floor": trial.floor,
        "sooner": sooner(ours, original),
        "share_of_a_step_that_draws_points": drawing_share(film, data, ours[-1]["seconds"] / ours[-1]["steps"]),
        "held_out_frames": len(trial.rows),
        "points": POINTS,
        "euler_steps": trial.euler_steps,
        "training_frames": len(training_set.rows_of(data, training_set.TRAIN)),
        "data_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "recipe": film.model_dump(),
    }
    harness.write("training", result, "accelerate", picture=curves(result), folder=results)
    print(json.dumps(result["sooner"], indent=2))


if __name__ == "__main__":
    main()
