"""Quality against wall time: our recipes and the original one, same data, same cores, one after the other.

    python -m benchmarks.training [--quick]

Reads data/train_data.pt and demo/truth.json. The original recipe runs its whole 20,000 steps and is scored on the way.
Ours are trained anew for each of a few numbers of steps, as their learning rate falls to zero at the end of a run; the
latent network with the autoencoder that came along, whose own training is not on the clock, and neither is scoring:
distances to held-out frames, and the share of their expressions that the demo's reader finds in the drawings. Writes
benchmarks/results/training.json and training.png; --quick, a few steps to see that it works, writes to
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
from demo import reader, reading
from fm import networks
from fm.training import Progress
from tasks import settings
from tasks.clouds import artifacts, density, drawing, figures, fitting, scoring, training_set
from tasks.models import checkpoints

QUICK_RESULTS = ROOT / ".stipple" / "benchmarks"
FRAMES, POINTS, EULER_STEPS = 64, 1024, 20
BUDGETS = {
    "latent": (100, 250, 500, 1000, 2000),
    "film": (100, 250, 500, 1000, 3000),
    "baseline": (1000, 2000, 4000, 8000, 12_000, 16_000, 20_000),
}
QUICK = {"latent": (4, 8), "film": (4, 8), "baseline": (10, 20)}
SCORES = {"chamfer": min, "sliced_w2": min, "retrieval_frame": max, "expression": max}
TITLES = ("Chamfer ↓", "sliced W2 ↓", "finds its own frame ↑", "expression read ↑")
COLORS = {"latent": "#2f6fde", "latent, from scratch": "#3aa676", "film": "#e0812f", "baseline": "#b9bec9"}

Score = Callable[[nn.Module], dict[str, float]]
Points = list[dict[str, float]]
"""Of each run: steps, seconds and scores."""


class Trial:
    """Held-out frames that show their expression clearly, and the scores of a network on them."""

    def __init__(self, data: dict[str, Any], frames: int = FRAMES, euler_steps: int = EULER_STEPS) -> None:
        truth = reading.facts_by_frame(ROOT)
        clear = torch.tensor(reading.clear(data, truth))
        self.rows = clear[scoring.spread(torch.arange(len(clear)), frames)]
        self.euler_steps = euler_steps
        generator = torch.Generator().manual_seed(0)
        self.truth, again = (density.draw(data["density"], self.rows, POINTS, generator) for _ in range(2))
        self.conditions = data["embeddings"][self.rows]
        self.names = [data["frame_ids"][i] for i in self.rows]
        self.expressions = [truth[name]["expression"] for name in self.names]
        self.floor = self.scores(again)

    def __call__(self, network: nn.Module) -> dict[str, float]:
        return self.scores(drawing.draw(network, self.conditions, POINTS, steps=self.euler_steps, guidance=1.0, seed=0))

    def scores(self, clouds: Tensor) -> dict[str, float]:
        named = {"it": clouds}
        clips = list(map(training_set.clip_of, self.names))
        found = scoring.retrievals(named, self.truth, self.names, clips)
        every = scoring.distances(named, self.truth) | found
        seen = reader.read(clouds)["expression"]
        right = sum(a == b for a, b in zip(seen, self.expressions, strict=True)) / len(seen)
        return {score: every[score]["it"] for score in SCORES if score in every} | {"expression": round(right, 4)}


def whole_runs(
    network: str,
    recipe: settings.Recipe | settings.LatentRecipe,
    budgets: Iterable[int],
    data: dict[str, Any],
    score: Score,
    *,
    rows: Tensor | None = None,
    weights: Mapping[str, Tensor] | None = None,
    autoencoder: Path | None = None,
) -> Points:
    """One run for each number of steps on the frames `rows` [M], or all of training, from `weights` or from scratch.

    An autoencoder that does not come along takes as many steps as the flow does.
    """
    points: Points = []
    rows = training_set.rows_of(data, training_set.TRAIN) if rows is None else rows
    for steps in budgets:
        changed: dict[str, Any] = {"steps": steps}
        if isinstance(recipe, settings.LatentRecipe):
            changed["autoencoder"] = recipe.autoencoder.model_copy(update={"steps": steps})
        limited = recipe.model_copy(update=changed)
        trained, wall, _ = harness.timed(
            fitting.fit, network, limited, data, rows, seed=0, weights=weights, autoencoder=autoencoder
        )
        points.append({"steps": steps, "seconds": round(wall, 1), **score(trained.network)})
        print(f"{network}: {points[-1]}", flush=True)
    return points


def on_the_way(
    network: str, recipe: settings.Recipe, marks: Iterable[int], data: dict[str, Any], score: Score
) -> Points:
    """One run to the last mark, scored at each of them from its checkpoints."""
    marks = sorted(marks)
    recipe = recipe.model_copy(update={"steps": marks[-1], "checkpoint_every": marks[0]})
    points: Points = []
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


def sooner(ours: Points, baseline: Points) -> dict[str, dict[str, float] | None]:
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


@figures.png
def curves(runs: dict[str, Points], floor: dict[str, float], against: str, label: str) -> Figure:
    """Each score against what the points have under `against`."""
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    panels = figure.subplots(1, len(SCORES))
    for axes, score, title in zip(panels, SCORES, TITLES, strict=True):
        for name, points in runs.items():
            x, found = [p[against] for p in points], [p[score] for p in points]
            who = "original recipe" if name == "baseline" else name
            axes.plot(x, found, "o-", ms=4, color=COLORS[name], label=who)
        axes.axhline(floor[score], color=figures.COLORS["floor"], ls=":", label="the truth, drawn again")
        axes.set(title=title, xscale="log", xlabel=label, ylim=(0, None))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(runs) + 1, fontsize=8)
    return figure


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    budgets, results = (QUICK, QUICK_RESULTS) if quick else (BUDGETS, harness.RESULTS)
    given = settings.load(ROOT)
    recipe = given.params.train.recipe
    autoencoder = given.profile.autoencoder and checkpoints.folder(given.profile.autoencoder, ROOT)
    data, path = training_set.load(ROOT), ROOT / artifacts.TRAIN_DATA
    trial = Trial(data, 8, 2) if quick else Trial(data)
    whole_runs("film", recipe("film"), [2], data, lambda _: {})  # what a process does once is not timed
    runs = {
        "latent": whole_runs("latent", recipe("latent"), budgets["latent"], data, trial, autoencoder=autoencoder),
        "film": whole_runs("film", recipe("film"), budgets["film"], data, trial),
        "baseline": on_the_way("baseline", recipe("baseline"), budgets["baseline"], data, trial),
    }
    result = {
        "runs": runs,
        "floor": trial.floor,
        "sooner": {name: sooner(points, runs["baseline"]) for name, points in runs.items() if name != "baseline"},
        "held_out_frames": len(trial.rows),
        "points": POINTS,
        "euler_steps": trial.euler_steps,
        "training_frames": len(training_set.rows_of(data, training_set.TRAIN)),
        "data_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "recipes": {name: recipe(name).model_dump() for name in ("latent", "film", "baseline")},
    }
    picture = curves(runs, trial.floor, "seconds", "seconds of training")
    harness.write("training", result, "accelerate", picture=picture, folder=results)
    print(json.dumps(result["sooner"], indent=2))


if __name__ == "__main__":
    main()
