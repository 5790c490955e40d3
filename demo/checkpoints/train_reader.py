"""The demo's reader: a small convolutional network that tells of a cloud of points what face it shows."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from demo.faces import render
from demo.faces.characters import Character, Pose, random_character, random_pose
from demo.reader import FACTS, MIRRORED, POINTS, Reader, mirrored, save, truth_of
from fm.training import Objective, Progress, TrainConfig, optimize
from tasks import points
from tasks.clouds import density

UNCLEAR = -100  # the target of a fact that a face does not show clearly
WEIGHTS = {"expression": 2, "glasses": 2, "headwear": 3}  # the hardest
NOISE, SIZE, SHIFT = 0.03, 0.04, 0.04  # a point's, a cloud's size as a share, its place


def train(folder: Path, *, faces: int = 8000, steps: int = 1800, batch: int = 64, seed: int = 501) -> None:
    """Train the reader and save it.

    Every step draws fresh points, half to twice as many as usual, and turns every other cloud about as a mirror does.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    shown = [(random_character(rng), random_pose(rng)) for _ in range(faces)]
    maps = rendered(tqdm(shown, desc="pictures", unit="picture"))
    facts = [truth_of(*face) for face in shown]
    turned = [{fact: MIRRORED.get(value, value) for fact, value in face.items()} for face in facts]
    true = {
        fact: torch.tensor([values.index(face[fact]) if fact in face else UNCLEAR for face in (*facts, *turned)])
        for fact, values in FACTS.items()
    }
    network = Reader(side=96, stride=3, widths=[32, 64, 128, 128], hidden=128)

    def draw(generator: torch.Generator, _step: int) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(2 * faces, (batch,), generator=generator)
        number = POINTS * 2 ** (2 * float(torch.rand((), generator=generator)) - 1)
        clouds = density.draw(maps, chosen % faces, int(number), generator)
        clouds = torch.where((chosen < faces)[:, None, None], clouds, mirrored(clouds))
        return disturbed(clouds, generator), chosen

    def loss(network: Callable[..., Any], clouds: Tensor, chosen: Tensor) -> tuple[Tensor, Callable[[], str]]:
        losses = [
            WEIGHTS.get(fact, 1) * cross_entropy(logits, true[fact][chosen], ignore_index=UNCLEAR, label_smoothing=0.02)
            for fact, logits in network(clouds).items()
        ]
        return torch.stack(losses).sum(), str

    config = TrainConfig(
        steps, learning_rate=2e-3, hidden_learning_rate=0.02, weight_decay=0.01, ema=0, precision="no", seed=seed
    )
    with tqdm(total=steps, desc="reader", unit="step") as bar:

        def on_step(progress: Progress) -> None:
            bar.set_postfix(loss=f"{progress.loss:.4f}", refresh=False)
            bar.update()

        optimize(network, Objective(draw, loss), config, on_step=on_step)
    save(network.eval(), folder)


def disturbed(clouds: Tensor, generator: torch.Generator) -> Tensor:
    """The clouds [B, N, 2] a little larger or smaller, elsewhere, and some of them blurred."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(len(clouds), *shape, generator=generator)

    blur = NOISE * torch.rand(len(clouds), 1, 1, generator=generator)
    return (clouds + blur * normal(*clouds.shape[1:])) * (1 + SIZE * normal(1, 1)) + SHIFT * normal(1, 2)


def rendered(faces: Iterable[tuple[Character, Pose]]) -> dict[str, Tensor]:
    """Where the faces' lines are, as the pipeline finds them in pictures: what `density.draw` draws points from."""
    pictures = (np.asarray(render.draw(*face, points.SIDE), dtype=np.float32) / 255 for face in faces)
    return density.from_maps(points.encode(points.weigh(picture, "contour")) for picture in pictures)
