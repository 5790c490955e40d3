"""Who may be paired with whom when there is a condition: from 8 gaussians to two moons, each moon a class.

    python -m benchmarks.coupling

The same network, data and steps with four couplings of 512 samples. W2 between what is drawn for a class and the class,
mean over both classes, at 1, 4 and 100 Euler steps. Writes benchmarks/results/coupling.json and coupling.png.
"""

from __future__ import annotations

import statistics
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks import harness
from fm import couplings, metrics, networks, sampling, toys, training
from tasks.clouds import figures

SEEDS, TRAINING_STEPS, BATCH, DRAWN = (0, 1, 2), 3000, 512, 1000
EULER_STEPS = (1, 4, 100)
SOURCE, CLASSES = toys.gaussians(8), 2

TRANSPORT = partial(couplings.exact_ot, block=128)


def blind(
    x0: Tensor, x1: Tensor, *, condition: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    return TRANSPORT(x0, x1)


COUPLINGS: dict[str, couplings.Coupling] = {
    "independent": couplings.independent,
    "OT, blind to the condition": blind,
    "OT that weighs the condition": partial(couplings.condition_weighted_ot, weight=100.0, block=128),
    "OT inside each condition": TRANSPORT,
}


def draw_batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    moons = toys.moons(BATCH, generator)
    return moons.x, torch.eye(CLASSES)[moons.label]


def source(x1: Tensor, generator: torch.Generator) -> Tensor:
    return SOURCE(len(x1), generator).x


def moon(label: int, generator: torch.Generator) -> Tensor:
    """`DRAWN` points of one class."""
    both = toys.moons(4 * DRAWN, generator)
    return both.x[both.label == label][:DRAWN]


def trained(coupling: couplings.Coupling, seed: int) -> nn.Module:
    network = networks.build(
        {"name": "baseline", "layers": 4, "width": 128, "dim": 2, "condition_dim": CLASSES, "seed": seed}
    )
    config = training.TrainConfig(
        steps=TRAINING_STEPS,
        learning_rate=2e-3,
        condition_dropout=0.0,
        seed=seed,
        source=source,
        coupling=coupling,
    )
    return training.train(network, draw_batch, config).network


def drawn(network: nn.Module, label: int, steps: int, generator: torch.Generator) -> Tensor:
    condition = torch.eye(CLASSES)[label].expand(DRAWN, -1)
    return sampling.sample(network, condition, x0=SOURCE(DRAWN, generator).x, steps=steps).x


@figures.png
def picture(clouds: dict[str, dict[int, Tensor]]) -> Figure:
    """What each coupling learned, one class dark and one light, at each number of steps."""
    figure = Figure(figsize=(2.6 * len(clouds), 2.4 * len(EULER_STEPS)), layout="constrained")
    panels = figure.subplots(len(EULER_STEPS), len(clouds), squeeze=False, sharex=True, sharey=True)
    for column, (name, by_steps) in enumerate(clouds.items()):
        for row, (steps, classes) in enumerate(by_steps.items()):
            axes = panels[row, column]
            for points, color in zip(classes, ("#1c2230", "#e07a3f"), strict=True):
                axes.scatter(points[:, 0], points[:, 1], s=1.5, color=color, linewidths=0)
            axes.set(xlim=(-4.5, 4.5), ylim=(-3.5, 3.5), xticks=[], yticks=[], aspect="equal")
            if row == 0:
                axes.set_title(name, fontsize=9)
            if column == 0:
                axes.set_ylabel(f"{steps} step{'s' * (steps > 1)}", fontsize=9)
    return figure


def main() -> None:
    floor = [
        metrics.w2(moon(label, generator), moon(label, generator))
        for seed in SEEDS
        for label in range(CLASSES)
        for generator in [torch.Generator().manual_seed(seed)]
    ]
    table: dict[str, dict[str, float]] = {}
    clouds: dict[str, dict[int, Tensor]] = {}
    for name, coupling in COUPLINGS.items():
        learned, wall, _ = harness.timed(list, map(partial(trained, coupling), SEEDS))
        table[name] = {"seconds_a_run": round(wall / len(SEEDS), 1)}
        clouds[name] = {}
        for steps in EULER_STEPS:
            distances = []
            for seed, network in zip(SEEDS, learned, strict=True):
                generator = torch.Generator().manual_seed(1000 + seed)
                both = torch.stack([drawn(network, label, steps, generator) for label in range(CLASSES)])
                distances += [metrics.w2(points, moon(label, generator)) for label, points in enumerate(both)]
                clouds[name].setdefault(steps, both)
            table[name][f"w2_{steps}"] = round(statistics.fmean(distances), 3)
        print(f"{name:30}", table[name], flush=True)
    result = {
        "w2": table,
        "floor": round(statistics.fmean(floor), 3),
        "protocol": {"training_steps": TRAINING_STEPS, "batch": BATCH, "drawn": DRAWN, "seeds": SEEDS},
    }
    harness.write("coupling", result, "scipy", picture=picture(clouds))


if __name__ == "__main__":
    main()
