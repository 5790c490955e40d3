"""Clouds of 10,000 points: drawn by the pipeline's model, and trained on.

    python -m examples.ten_thousand      # after `stipple run`: reads data/train_data.pt and data/model.safetensors

The network moves every point by itself, so a cloud may have any number of points, whatever it was trained with. And as
training draws fresh points in each step, its `points` only says how the points of a step are shared out: many of few
clouds, or few of many. Two short trainings that see about equally many points show which is better.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import fm
from examples import pictures
from tasks import dataset, density, drawings, evaluation, files, generation, toys

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "examples" / "output"
FEW, MANY = 1024, 10_000
COMPARED, SHOWN, SIDE = 6, 2, 300
CONFIG = fm.TrainConfig(steps=250, hidden_learning_rate=0.01, warmup=20, ema=0.98, times_per_cloud=1)
TRAININGS = {  # clouds and points of a step
    "64 clouds × 64 points, 250 steps": (64, 64, CONFIG),
    "1 cloud × 10,000 points, 100 steps": (1, MANY, replace(CONFIG, steps=100, times_per_cloud=100)),
}


def main(root: Path = ROOT, output: Path = OUTPUT) -> None:
    data, network = dataset.load(root), generation.load(root / generation.MODEL).network
    maps, embeddings, trained = data["density"], data["embeddings"], dataset.rows_of(data, dataset.TRAIN)
    rows = evaluation.spread(dataset.rows_of(data, dataset.HELD_OUT), COMPARED)
    generator = torch.Generator().manual_seed(0)

    def compare(name: str, x: Tensor, truth: Tensor, note: str = "") -> None:
        chamfer, w2 = fm.chamfer(x, truth).mean(), fm.sliced_w2(x, truth).mean()
        print(f"{name}: Chamfer {chamfer:.4f}, sliced W2 {w2:.4f}{note}", flush=True)

    columns = []
    for n in (FEW, MANY):
        truth, again = (density.draw(maps, rows, n, generator) for _ in range(2))
        began = time.perf_counter()
        drawn = evaluation.sampled(network, embeddings[rows], n, steps=20, guidance=1.0, seed=0)
        compare(f"{n} points, drawn", drawn, truth, f", {(time.perf_counter() - began) / len(rows):.2f} s a cloud")
        compare(f"{n} points, another sample of the frame", again, truth)
        columns += [truth, drawn]
    table = [[drawings.picture(cloud[i].numpy(), SIDE) for cloud in columns] for i in range(SHOWN)]
    files.write(output / "ten-thousand.png", pictures.png(pictures.grid(table), 8))
    print(output / "ten-thousand.png")

    for name, (clouds, points, config) in TRAININGS.items():

        def draw_batch(generator: torch.Generator, clouds: int = clouds, points: int = points) -> tuple[Tensor, Tensor]:
            index = trained[torch.randint(len(trained), (clouds,), generator=generator)]
            return density.draw(maps, index, points, generator), embeddings[index]

        network = fm.build({"name": "film"})
        network.standardize(embeddings[trained])
        network = toys.train(name, network, draw_batch, config)
        drawn = evaluation.sampled(network, embeddings[rows], MANY, steps=20, guidance=1.0, seed=0)
        compare(f"trained on {name}", drawn, columns[2])


if __name__ == "__main__":
    main()
