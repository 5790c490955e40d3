"""A neutral face becomes a laughing one: the source of a flow need not be noise.

    python -m examples.morph [FROM TO]      # two frames of data/train_data.pt, as CLIP/NUMBER; after `stipple run`

x0 are points of the one frame, x1 of the other, paired by optimal transport: so each dot goes where it is near, and
what both faces share stays.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from fm import couplings, metrics, networks, sampling, training
from tasks.clouds import density, figures, pictures, toy_gallery, training_set
from tasks.errors import StippleError
from tasks.store import files

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "examples" / "output"
FACES = ("nina.mp4/000006", "nina.mp4/000012")
NETWORK = {"name": "film", "condition_dim": 1, "width": 64, "blocks": 3, "embedding": 64}
POINTS = 1024  # of a step
CONFIG = training.TrainConfig(
    steps=500, learning_rate=2e-3, hidden_learning_rate=0.01, ema=0.99, times_per_cloud=64,
    coupling=partial(couplings.exact_ot, block=256),
)  # fmt: skip
DRAWN, STEPS, SHOWN = 1500, 24, 7


def main(faces: tuple[str, ...] = FACES, root: Path = ROOT, output: Path = OUTPUT) -> None:
    data = training_set.load(root)
    if len(faces) != 2 or not set(faces) <= set(data["frame_ids"]):
        raise StippleError(f"{', '.join(faces)}: give two frames of the data set, such as {data['frame_ids'][0]}")
    rows = torch.tensor([data["frame_ids"].index(face) for face in faces])

    def points_of(row: Tensor, n: int, generator: torch.Generator) -> Tensor:
        return density.draw(data["density"], row.unsqueeze(0), n, generator)

    def source(x1: Tensor, generator: torch.Generator) -> Tensor:
        return points_of(rows[0], x1.shape[1], generator)

    network = toy_gallery.train(
        "morph",
        networks.build(NETWORK),
        lambda generator: (points_of(rows[1], POINTS, generator),),
        replace(CONFIG, source=source),
    )
    generator = torch.Generator().manual_seed(0)
    x0, true, again = (points_of(row, DRAWN, generator) for row in (rows[0], rows[1], rows[1]))
    way = sampling.sample(network, None, DRAWN, x0=x0, steps=STEPS, trajectory=True).trajectory[:, 0]
    for name, x in {"the first face": x0, "morphed": way[-1:], "another sample of the second": again}.items():
        chamfer, sliced_w2 = (float(distance(x, true)) for distance in (metrics.chamfer, metrics.sliced_w2))
        print(f"{name}: Chamfer {chamfer:.3f}, sliced W2 {sliced_w2:.3f}")
    shown = torch.linspace(0, STEPS, SHOWN).long()
    files.write(output / "morph.png", figures.cloud_rows({"": way[shown]}))
    files.write(output / "morph.gif", pictures.gif([x.numpy() for x in way], side=300))
    print(output / "morph.png")


if __name__ == "__main__":
    try:
        main(tuple(sys.argv[1:]) or FACES)
    except StippleError as error:
        sys.exit(f"error: {error}")
