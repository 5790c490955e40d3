"""The recipes on data that are no faces: icons, drawn from their names, and 2-D densities, drawn from their class.

    python -m benchmarks.others

Icons are signs of a font, turned, sized and placed at random; their condition says which words their names have (the
demo's embedder knows no words but a face's). Densities are the toys' and two more, turned and sized likewise, their
condition a row of the identity. The latent network, its autoencoder trained on the same pictures, stands beside the one
that moves points. A drawing is right if the nearest (sliced W2) of the held-out pictures is of its class. Beside them
stands another picture of the class. Writes benchmarks/results/others.json and others.png.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks import harness
from benchmarks.harness import ROOT
from fm import metrics, toys
from tasks import points, settings
from tasks.clouds import density, drawing, figures, fitting, scoring

ICONS = "☀☁☂☃★☎☕☘☠☢☮☯☹☺☼☾♀♂♔♕♗♘♛♞♠♣♥♪♿⚀⚅⚐⚓⚔⚖⚙⚛✂✈✉✎✿❄❤"
EACH, HELD_OUT = 24, 4  # pictures of a class; of these not in training
SIDE, MARGIN = 128, 20
STEPS, EULER_STEPS, SHOWN = 1000, 20, 9

Shape = Callable[[int, torch.Generator], Tensor]
Data = dict[str, Any]


def icons() -> Data:
    """Pictures of `ICONS` as the pipeline weighs them."""
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(fonts / "DejaVuSans.ttf", SIDE - 2 * MARGIN)
    names = [unicodedata.name(icon).lower() for icon in ICONS]
    words = sorted({word for name in names for word in name.split()})
    said = torch.tensor([[word in name.split() for word in words] for name in names], dtype=torch.float32)
    conditions = torch.nn.functional.normalize(said, dim=1)

    def maps() -> Iterator[bytes]:
        rng = np.random.default_rng(0)
        for icon in ICONS:
            for _ in range(EACH):
                picture = Image.new("L", (SIDE, SIDE), 255)
                ImageDraw.Draw(picture).text((SIDE / 2, SIDE / 2), icon, 0, font, anchor="mm")
                turned = _moved(picture, rng)
                rgb = np.asarray(turned.convert("RGB"), dtype=np.float32) / 255
                yield points.encode(points.weigh(rgb, "contour"))

    return _data(list(maps()), conditions)


def _moved(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    angle, size = math.radians(rng.uniform(-12, 12)), rng.uniform(0.9, 1.15)
    (x, y), half = rng.uniform(-6, 6, 2), SIDE / 2
    a, b = math.cos(angle) / size, math.sin(angle) / size
    matrix = (a, b, half - a * (half + x) - b * (half + y), -b, a, half + b * (half + x) - a * (half + y))
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=255)


def shapes() -> Data:
    """Histograms of samples."""

    def ring(n: int, generator: torch.Generator) -> Tensor:
        angle = 2 * math.pi * torch.rand(n, generator=generator)
        return torch.stack([angle.cos(), angle.sin()], dim=1)

    def spiral(n: int, generator: torch.Generator) -> Tensor:
        reach = torch.rand(n, 1, generator=generator).sqrt()
        return reach * torch.cat([(9 * reach).cos(), (9 * reach).sin()], dim=1)

    def toy(draw: Callable[..., Any]) -> Shape:
        return lambda n, generator: draw(n, generator).x

    kinds = [ring, spiral, *map(toy, (toys.gaussians(8, std=0.4), toys.moons, toys.s_curve, toys.checkerboard))]

    def maps() -> Iterator[bytes]:
        generator = torch.Generator().manual_seed(0)
        for kind in kinds:
            for _ in range(4 * EACH):
                x = kind(20_000, generator)
                x = (x - x.mean(0)) / x.abs().max()
                angle, size = torch.rand(2, generator=generator).tolist()
                c, s = math.cos(0.6 * (angle - 0.5)), math.sin(0.6 * (angle - 0.5))
                x = (0.55 + 0.3 * size) * x @ torch.tensor([[c, s], [-s, c]])
                counts = torch.histogramdd(x.flip(1), [SIDE // 2] * 2, range=[-1.0, 1.0, -1.0, 1.0]).hist
                yield points.encode((counts / counts.quantile(0.99)).clamp(max=1).numpy())

    return _data(list(maps()), torch.eye(len(kinds)))


def _data(maps: list[bytes], conditions: Tensor) -> Data:
    """As a training set's, with the class of each picture."""
    each = len(maps) // len(conditions)
    labels = torch.arange(len(conditions)).repeat_interleave(each)
    return {
        "embeddings": conditions[labels],
        "density": density.from_maps(maps),
        "wordings": [[] for _ in maps],
        "num_points": points.SIDE,
        "point_clouds": torch.empty(0, points.SIDE, 2),
        "labels": labels,
        "held_out": torch.arange(len(maps)) % each >= each - HELD_OUT,
    }


def scores(clouds: Tensor, truth: Tensor, labels: Tensor) -> dict[str, float]:
    nearest = metrics.pairwise_sliced_w2(clouds, truth).argmin(dim=1)
    few = scoring.spread(torch.arange(len(truth)), 64)
    return {
        "chamfer": scoring.rounded(metrics.chamfer(clouds, truth).mean()),
        "sliced_w2": scoring.rounded(metrics.sliced_w2(clouds, truth).mean()),
        "right_class": scoring.rounded((labels[nearest] == labels).double().mean()),
        "told_apart": scoring.rounded(scoring.told_apart(clouds[few], truth[few])),
    }


def main() -> None:
    params, result, shown = settings.load(ROOT).params.train, {}, {}
    for name, data in {"icons": icons(), "shapes": shapes()}.items():
        rows, held = ((~data["held_out"]).nonzero().squeeze(1), data["held_out"].nonzero().squeeze(1))
        labels, generator = data["labels"][held], torch.Generator().manual_seed(0)
        of_same_class = held - HELD_OUT  # the pictures before them, which are in training
        truth, other = (density.draw(data["density"], index, 1024, generator) for index in (held, of_same_class))
        found = {"another of its class": scores(other, truth, labels)}
        few = scoring.spread(torch.arange(len(held)), SHOWN)
        shown |= {name: truth[few]}
        for network in ("latent", "film"):
            recipe = params.recipe(network).model_copy(update={"steps": STEPS, "wordings": False})
            trained, wall, _ = harness.timed(fitting.fit, network, recipe, data, rows, seed=0)
            clouds = drawing.draw(
                trained.network, data["embeddings"][held], 1024, steps=EULER_STEPS, guidance=1.5, seed=0
            )
            found[network] = {"seconds": round(wall, 1), **scores(clouds, truth, labels)}
            shown[f"{name},\n{network}"] = clouds[few]
            print(name, network, found[network], flush=True)
        result[name] = {"scores": found, "classes": len(labels.unique()), "training_pictures": len(rows)}
    harness.write("others", {**result, "steps": STEPS}, picture=figures.cloud_rows(shown))


if __name__ == "__main__":
    main()
