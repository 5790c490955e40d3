"""Clouds in space: five solids learned as five classes, or a cloud of your own, drawn and turned.

    python -m examples.three_d               # torus, knot, helix, dumb-bell, chair
    python -m examples.three_d my.ply        # or .npy: learns the points of that file

The network is the pipeline's with dim = 3; a class is a condition, its one-hot row. Writes a turntable GIF, and each
drawn cloud as .ply and .npy.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from examples import cloud_files, pictures
from fm import metrics, networks, sampling, training
from tasks.clouds import toy_gallery
from tasks.errors import StippleError
from tasks.store import files

OUTPUT = Path(__file__).parent / "output"
CONFIG = training.TrainConfig(
    steps=700, learning_rate=2e-3, hidden_learning_rate=0.01, ema=0.99, times_per_cloud=4, condition_dropout=0.0
)
CLOUDS, POINTS = 16, 128  # of a training step
DRAWN = 2500
SIZES = {"width": 64, "blocks": 4, "embedding": 128, "bandwidth": 2.5}

Solid = Callable[[int, torch.Generator], Tensor]
"""n and a generator → points [n, 3] on a surface, z up"""


def tube(curve: Callable[[Tensor], tuple[Tensor, ...]], radius: float) -> Solid:
    """The skin around a curve, u [n] in [0, 2π] → x, y, z [n], that is nowhere upright."""

    def draw(n: int, generator: torch.Generator) -> Tensor:
        u, v = 2 * math.pi * torch.rand(2, n, 1, generator=generator)
        before, middle, after = (torch.cat(curve(at), dim=1) for at in (u - 1e-3, u, u + 1e-3))
        along = F.normalize(after - before)
        side = F.normalize(torch.linalg.cross(along, torch.tensor([[0.0, 0.0, 1.0]]).expand(n, 3)))
        return middle + radius * (v.cos() * side + v.sin() * torch.linalg.cross(along, side))

    return draw


def ball(x: float, radius: float) -> Solid:
    def draw(n: int, generator: torch.Generator) -> Tensor:
        return F.normalize(torch.randn(n, 3, generator=generator)) * radius + torch.tensor([x, 0.0, 0.0])

    return draw


def box(middle: tuple[float, ...], sides: tuple[float, ...]) -> Solid:
    a, b, c = sides
    areas = torch.tensor([b * c, a * c, a * b])

    def draw(n: int, generator: torch.Generator) -> Tensor:
        inside = 2 * torch.rand(n, 3, generator=generator) - 1
        face = torch.multinomial(areas, n, replacement=True, generator=generator)
        on = inside.scatter(1, face[:, None], inside.sign().gather(1, face[:, None]))
        return on * torch.tensor(sides) / 2 + torch.tensor(middle)

    return draw


def joined(parts: dict[Solid, float]) -> Solid:
    """Several surfaces, each with its share of the points."""

    def draw(n: int, generator: torch.Generator) -> Tensor:
        part = torch.multinomial(torch.tensor(list(parts.values())), n, replacement=True, generator=generator)
        return torch.stack([solid(n, generator) for solid in parts])[part, torch.arange(n)]

    return draw


SOLIDS: dict[str, Solid] = {
    "torus": tube(lambda u: (1.6 * u.cos(), 1.6 * u.sin(), 0 * u), 0.6),
    "knot": tube(
        lambda u: (0.7 * (u.sin() + 2 * (2 * u).sin()), 0.7 * (u.cos() - 2 * (2 * u).cos()), -0.9 * (3 * u).sin()), 0.3
    ),
    "helix": tube(lambda u: (1.4 * (3 * u).cos(), 1.4 * (3 * u).sin(), 0.6 * (u - math.pi)), 0.25),
    "dumb-bell": joined(
        {ball(-1.6, 0.8): 0.4, ball(1.6, 0.8): 0.4, tube(lambda u: (0.4 * (u - 3), 0 * u, 0 * u), 0.25): 0.2}
    ),
    "chair": joined(
        {
            box((0, 0, 0), (2.4, 2.4, 0.3)): 0.34,
            box((1.05, 0, 1.15), (0.3, 2.4, 2.0)): 0.34,
            **{box((x, y, -1.15), (0.3, 0.3, 2.0)): 0.08 for x in (-1.05, 1.05) for y in (-1.05, 1.05)},
        }
    ),
}


def own(path: Path) -> tuple[dict[str, Solid], Tensor, float]:
    """The cloud in a file, moved to the middle and scaled to the size of the noise; where it was, and how large."""
    points = torch.from_numpy(cloud_files.read(path))[:, :3]
    if points.shape[1] < 3:
        raise StippleError(f"{path} holds points of {points.shape[1]} coordinates; give a cloud of 3 or more")
    middle = points.mean(0)
    scale = float((points - middle).square().mean().sqrt())
    if scale == 0:
        raise StippleError(f"{path} holds one place alone; give a cloud with two or more")
    unit = (points - middle) / scale
    return {path.stem: lambda n, generator: unit[torch.randint(len(unit), (n,), generator=generator)]}, middle, scale


def main(path: Path | None = None, output: Path = OUTPUT) -> None:
    solids, middle, scale = (SOLIDS, torch.zeros(3), 1.0) if path is None else own(path)
    names, classes = list(solids), torch.eye(len(solids))

    def sample(index: Tensor, n: int, generator: torch.Generator) -> Tensor:
        return torch.stack([solids[names[i]](n, generator) for i in index])

    def draw_batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = torch.randint(len(names), (CLOUDS,), generator=generator)
        return sample(index, POINTS, generator), classes[index]

    config = {"name": "film", "dim": 3, "condition_dim": len(names), **SIZES}
    network = toy_gallery.train("in space", networks.build(config), draw_batch, CONFIG)

    generator = torch.Generator().manual_seed(0)
    drawn = sampling.sample(network, classes, DRAWN, steps=20, method="midpoint", generator=generator).x
    true, again = (sample(torch.arange(len(names)), DRAWN, generator) for _ in range(2))
    scores = [(metrics.chamfer(x, true), metrics.sliced_w2(x, true)) for x in (drawn, again)]
    for i, name in enumerate(names):
        chamfer, w2, floor, w2_floor = (float(score[i]) for pair in scores for score in pair)
        print(f"{name}: Chamfer {chamfer:.3f} (floor {floor:.3f}), sliced W2 {w2:.3f} (floor {w2_floor:.3f})")
        for suffix in (".ply", ".npy"):
            cloud_files.write(output / f"{name}{suffix}", (drawn[i] * scale + middle).numpy())
    gif = output / ("solids.gif" if path is None else f"{path.stem}.gif")
    files.write(gif, pictures.turntable(drawn))
    print(gif)


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:2]))
    except StippleError as error:
        sys.exit(f"error: {error}")
