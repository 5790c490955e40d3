"""Quality by the number of frames: 50, 300 or all of training, for a network trained from scratch on these alone.

    python -m benchmarks.amounts

The latent network with its own autoencoder, and the one that moves points, beside the latent network with the
autoencoder that came along. Scores are those of benchmarks.training. Reads data/train_data.pt and demo/truth.json,
writes benchmarks/results/amounts.json and amounts.png.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from benchmarks import harness
from benchmarks.harness import ROOT
from benchmarks.training import COLORS, SCORES, TITLES, Points, Trial, whole_runs
from tasks import settings
from tasks.clouds import figures, scoring, training_set
from tasks.models import checkpoints

FRAMES, STEPS = (50, 300, 10**9), 1000


@figures.png
def picture(runs: dict[str, Points], floor: dict[str, float]) -> Figure:
    """Each score against the number of frames."""
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    panels = figure.subplots(1, len(SCORES))
    for axes, score, title in zip(panels, SCORES, TITLES, strict=True):
        for name, points in runs.items():
            axes.plot([p["frames"] for p in points], [p[score] for p in points], "o-", color=COLORS[name], label=name)
        axes.axhline(floor[score], color=figures.COLORS["floor"], ls=":", label="the truth, drawn again")
        axes.set(title=title, xscale="log", xlabel="training frames", ylim=(0, None))
    panels[0].legend(fontsize=7)
    return figure


def main() -> None:
    data, given = training_set.load(ROOT), settings.load(ROOT)
    autoencoder = given.profile.autoencoder and checkpoints.folder(given.profile.autoencoder, ROOT)
    trial, runs = Trial(data), dict[str, Points]()
    for name, folder in {"latent": autoencoder, "latent, from scratch": None, "film": None}.items():
        network = name.partition(",")[0]
        recipe, runs[name] = given.params.train.recipe(network), []
        for most in FRAMES:
            rows = scoring.spread(training_set.rows_of(data, training_set.TRAIN), most)
            [found] = whole_runs(network, recipe, [STEPS], data, trial, rows=rows, autoencoder=folder)
            runs[name].append({"frames": len(rows), **found})
    result = {"runs": runs, "floor": trial.floor, "steps": STEPS, "held_out_frames": len(trial.rows)}
    harness.write("amounts", result, picture=picture(runs, trial.floor))


if __name__ == "__main__":
    main()
