"""Clouds of 10,000 points, by the model that `stipple run` trained.

    python -m examples.ten_thousand      # after `stipple run`: reads data/train_data.pt and data/model.safetensors

A model draws where points are likely, or moves each by itself; no number of points is built into it. Also
`stipple generate "…" --points 10000`.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from examples import pictures
from fm import metrics
from tasks.clouds import artifacts, density, drawing, generation, scoring, training_set
from tasks.clouds.pictures import picture
from tasks.store import files

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "examples" / "output"
FEW, MANY = 1024, 10_000
COMPARED, SHOWN, SIDE = 4, 2, 300


def main(root: Path = ROOT, output: Path = OUTPUT) -> None:
    data, network = training_set.load(root), generation.load(root / artifacts.MODEL).network
    maps, embeddings = data["density"], data["embeddings"]
    rows = scoring.spread(training_set.rows_of(data, training_set.HELD_OUT), COMPARED)
    generator = torch.Generator().manual_seed(0)

    columns = []
    for n in (FEW, MANY):
        truth, again = (density.draw(maps, rows, n, generator) for _ in range(2))
        began = time.perf_counter()
        drawn = drawing.draw(network, embeddings[rows], n, steps=20, guidance=1.0, seed=0)
        print(f"{n} points, {(time.perf_counter() - began) / len(rows):.2f} s a cloud")
        for name, x in {"drawn from held-out summaries": drawn, "another sample of the frame": again}.items():
            chamfer, sliced_w2 = (distance(x, truth).mean() for distance in (metrics.chamfer, metrics.sliced_w2))
            print(f"{name}: Chamfer {chamfer:.4f}, sliced W2 {sliced_w2:.4f}")
        columns += [truth, drawn]
    table = [[picture(cloud[i].numpy(), SIDE) for cloud in columns] for i in range(SHOWN)]
    files.write(output / "ten-thousand.png", pictures.png(pictures.grid(table), 8))
    print(output / "ten-thousand.png")


if __name__ == "__main__":
    main()
