"""Quality by the number of frames: 50, 300 or all of training, for a network trained from scratch on these alone.

    python -m benchmarks.amounts

The latent network with its own autoencoder, and the one that moves points, beside the latent network with the
autoencoder that came along. Scores are those of benchmarks.training. Reads data/train_data.pt and demo/truth.json,
writes benchmarks/results/amounts.json and amounts.png.
"""

from __future__ import annotations

from benchmarks import harness
from benchmarks.harness import ROOT
from benchmarks.training import Points, Trial, curves, whole_runs
from tasks import settings
from tasks.clouds import scoring, training_set
from tasks.models import checkpoints

FRAMES, STEPS = (50, 300, 10**9), 1000


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
    harness.write("amounts", result, picture=curves(runs, trial.floor, "frames", "training frames"))


if __name__ == "__main__":
    main()
