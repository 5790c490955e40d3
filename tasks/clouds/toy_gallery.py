"""The command `stipple toy`: flows learn to draw a toy or a picture, and pictures show what they learned and how.

Three flows are trained: on independent pairs, on pairs of optimal transport, and, by reflow, on the pairs that the
first one makes. One of the first two draws; all three stand side by side on the page that says why paths bend. With
classes there is one flow, whose condition is the class.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from fm import couplings, distillation, likelihood, metrics, networks, sampling, solvers, toys, training, trajectories
from fm import plots as show
from tasks.clips import media
from tasks.clouds import figures, pictures
from tasks.clouds.fitting import shown_on
from tasks.errors import Refused, StippleError
from tasks.progress import progress
from tasks.store import files

NETWORK = {
    "name": "film", "dim": 2, "condition_dim": 1, "width": 64, "blocks": 3, "embedding": 128, "bandwidth": 3.0
}  # fmt: skip
DETAIL = 256  # pixels on the longer side of a picture as a density
BATCH = 2048  # points of a training step
PAIRS = 16_384  # that reflow learns from
SHOWN = 4096  # points of a drawn cloud
ASSIGNED = 1024  # of them, for the exact Wasserstein distance
CELLS = 88  # of a density, along each side
GIF_POINTS, GIF_SIDE, GIF_FRAMES = 4000, 360, 32
AT = (0.0, 0.25, 0.5, 0.75, 1.0)

COUPLINGS: dict[str, couplings.Coupling] = {
    "independent": couplings.independent,
    "ot": partial(couplings.exact_ot, block=128),
}
COLUMNS = {
    "independent": ("independent", "noise and data paired at random:\nthe lines cross, so the paths bend"),
    "ot": ("optimal transport", "paired so that the way is short:\nfew lines cross"),
    "reflow": ("reflow", "paired by the first flow, whose paths\nnever cross: straight lines"),
}


@dataclass(frozen=True)
class Learned:
    """A trained network, and some x0 with the x1 that its training paired them with: [2, N, 2]."""

    network: nn.Module
    pairs: Tensor


def run(
    name: str,
    output: Path,
    *,
    gif: Path | None = None,
    coupling: str = "ot",
    classes: bool = False,
    light: bool = False,
    steps: int = 700,
    seed: int = 0,
) -> list[Path]:
    """Learn the toy or picture `name`, write pictures into `output`, and return the paths of all that was written.

    Args:
        gif: where the way from noise to the data goes. coupling: of the flow that draws, a key of `COUPLINGS`.
        classes: whether to learn each class of the toy by itself, under a one-hot condition, and to colour it so.
        light: whether light, instead of dark, is where a picture has its points. steps: of training, of each flow.
    """
    if coupling not in COUPLINGS:
        raise StippleError(f"no coupling is called {coupling!r}; there are {', '.join(COUPLINGS)}")
    toy = toys.TOYS[name] if name in toys.TOYS else picture(Path(name), light=light)
    if classes and name not in toys.CLASSES:
        raise StippleError(f"the picture {name} has no classes; those that have are {', '.join(toys.CLASSES)}")
    for folder in (output, *([] if gif is None else [gif.parent])):
        make(folder)
    limit = max(3.0, 1.1 * float(toy(SHOWN, seeded(seed)).x.abs().quantile(0.998)))
    draw: dict[Path, Callable[[], bytes]]
    if classes:
        k = toys.CLASSES[name]
        network = learn_classes(toy, k, COUPLINGS[coupling], steps=steps, seed=seed)
        draw = {
            output / "class-samples.png": figures.png(lambda: samples(network, toy, k, limit, seed)),
            output / "class-trajectories.png": figures.png(lambda: ways(network, k, limit, seed)),
        }
    else:
        flows = learn(toy, steps=steps, seed=seed)
        network = flows[coupling].network
        draw = {
            output / "samples.png": figures.png(lambda: samples(network, toy, None, limit, seed)),
            output / "trajectories.png": figures.png(lambda: ways(network, None, limit, seed)),
            output / "velocity.png": figures.png(lambda: velocity(network, limit, seed)),
            output / "density.png": figures.png(lambda: density(network, limit)),
            output / "why-paths-bend.png": figures.png(lambda: why_paths_bend(flows, toy, limit, seed)),
        }
    if gif is not None:
        draw[gif] = lambda: animation(network, limit, seed, k if classes else None)
    with progress("draw", len(draw), "picture") as bar:
        for path, content in draw.items():
            files.write(path, content())
            bar.advance()
    return list(draw)


def make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StippleError(f"no folder can be made at {folder} ({error.strerror}); choose another") from None


def picture(path: Path, *, light: bool = False) -> toys.Picture:
    """The picture in `path` as a density: dark, or light, gets the points, and the other end of its tones none."""
    if not path.is_file():
        raise StippleError(f"no toy and no picture is called {str(path)!r}; the toys are {', '.join(toys.TOYS)}")
    try:
        image = next(media.pictures(path, 1, DETAIL)).image
    except Refused as error:
        raise StippleError(f"{path} {error}") from None
    tone = np.asarray(image.convert("L"), dtype=np.float32) / 255
    ink = tone - tone.min() if light else tone.max() - tone
    if not ink.any():
        raise StippleError(f"{path} has one even tone, there is nothing to draw; give a picture with dark on light")
    return toys.Picture(torch.from_numpy(np.square(ink / ink.max())))


def learn(toy: toys.Toy, *, steps: int, seed: int) -> dict[str, Learned]:
    """Train the three flows. Reflow starts as a copy of the independent one and takes half as many steps."""
    config = recipe(steps, seed)

    def batch(generator: torch.Generator) -> tuple[Tensor]:
        return (toy(BATCH, generator).x.unsqueeze(0),)

    flows = {}
    for name, coupling in COUPLINGS.items():
        network = networks.build(NETWORK | {"seed": seed})
        generator = seeded(seed + 1)
        x1 = toy(BATCH, generator).x
        x0 = coupling(torch.randn(x1.shape, generator=generator), x1)
        trained = train(name, network, batch, replace(config, coupling=coupling))
        flows[name] = Learned(trained, torch.stack([x0, x1]))
    teacher = flows["independent"].network
    ends = distillation.teacher_trajectories(
        teacher, None, PAIRS, steps=20, method="midpoint", generator=seeded(seed + 2)
    )
    again = distillation.reflow_batches(ends, None, clouds=1, points=BATCH)
    student = train("reflow", copy.deepcopy(teacher), again, replace(config, steps=math.ceil(steps / 2)))
    return flows | {"reflow": Learned(student, ends[:, 0])}


def learn_classes(toy: toys.Toy, classes: int, coupling: couplings.Coupling, *, steps: int, seed: int) -> nn.Module:
    """A flow for all classes: a cloud of each with its one-hot condition, pairs made inside each cloud."""
    network = networks.build(NETWORK | {"seed": seed, "condition_dim": classes})

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return toys.by_class(toy, classes, BATCH // classes, generator), torch.eye(classes)

    config = replace(recipe(steps, seed), coupling=coupling, times_per_cloud=32 // classes)
    return train("classes", network, batch, config)


def recipe(steps: int, seed: int) -> training.TrainConfig:
    return training.TrainConfig(
        steps=steps, learning_rate=4e-3, hidden_learning_rate=0.02, warmup=min(50, steps // 10),
        times_per_cloud=32, ema=0.99, seed=seed,
    )  # fmt: skip


def train(name: str, network: nn.Module, batch: training.DrawBatch, config: training.TrainConfig) -> nn.Module:
    with progress(f"train, {name}", config.steps, "step") as bar:
        return training.train(network, batch, config, on_step=shown_on(bar)).network


def samples(network: nn.Module, toy: toys.Toy, classes: int | None, limit: float, seed: int) -> Figure:
    """What the flow draws beside the truth, every class in its colour, and how far they are apart."""
    each = SHOWN // (classes or 1)
    drawn = follow(network, each, seed, classes).x
    truth, more = (true(toy, classes, each, seeded(seed + i)) for i in (3, 4))
    apart, floor = (float(metrics.sliced_w2(x, truth).mean()) for x in (drawn, more))
    titles = [f"drawn · sliced W2 to the truth {apart:.3f}", f"the truth · another sample of it is at {floor:.3f}"]
    labels = None if classes is None else torch.arange(classes).repeat_interleave(each).expand(2, -1)
    both = torch.stack([drawn, truth]).flatten(1, 2)
    return show.clouds(both, titles, limit=limit, side=4.5, size=3, labels=labels)


def true(toy: toys.Toy, classes: int | None, each: int, generator: torch.Generator) -> Tensor:
    """A cloud of the toy [1, each, 2], or one of each class [classes, each, 2]."""
    return toy(each, generator).x[None] if classes is None else toys.by_class(toy, classes, each, generator)


def ways(network: nn.Module, classes: int | None, limit: float, seed: int) -> Figure:
    """Where noise goes, under each class if there are."""
    each = 500 // (classes or 1)
    drawn = trajectory_of(follow(network, each, seed, classes)).flatten(1, 2)
    labels = None if classes is None else torch.arange(classes).repeat_interleave(each)
    return show.trajectories(drawn, count=500, limit=limit, side=6, labels=labels)


def velocity(network: nn.Module, limit: float, seed: int) -> Figure:
    """The velocity field at a few times, over the points that it moves then."""
    solution = follow(network, SHOWN // 2, seed)
    behind = [trajectory_of(solution)[int((solution.times - t).abs().argmin()), 0] for t in AT[:-1]]
    return show.field(sampling.guided(network, None), at=AT[:-1], arrows=22, limit=limit, side=3, behind=behind)


def density(network: nn.Module, limit: float) -> Figure:
    """The density that the flow has reached at a few times, by the change of variables.

    A flow that is stopped at t is a flow, too: its velocity at s in [0, 1] is t · v(x, t s).
    """
    points, times, moving = show.lattice(CELLS, limit), torch.tensor(AT[1:]), sampling.guided(network, None)

    def stopped(x: Tensor, s: Tensor) -> Tensor:
        return times[:, None, None] * moving(x, s * times)

    later = likelihood.log_likelihood(stopped, points.expand(len(times), -1, -1), steps=12, method="midpoint")
    values = [likelihood.standard_normal(points), *later.detach()]
    return show.density(values, [f"t = {t:.2f}" for t in AT], limit=limit, side=2.6)


def why_paths_bend(flows: dict[str, Learned], toy: toys.Toy, limit: float, seed: int) -> Figure:
    """The three flows side by side, and in numbers how straight their paths are and what few steps cost them."""
    truth = toy(SHOWN, seeded(seed + 3)).x.unsqueeze(0)
    columns = []
    for name, (title, note) in COLUMNS.items():
        network = flows[name].network
        solution = follow(network, SHOWN, seed)
        way, times = trajectory_of(solution), solution.times
        few = {n: sampling.sample(network, None, SHOWN, x0=way[0], steps=n).x for n in (1, 2, 8)}
        some = way[:, :, :ASSIGNED]
        shortest = metrics.w2(some[0, 0], some[-1, 0]) ** 2
        numbers = {
            "straightness (0: straight lines)": f"{trajectories.straightness(way, times):.3f}",
            "turn on the way": f"{math.degrees(trajectories.curvature(way, times)):.0f}°",
            "path energy / least possible": f"{trajectories.path_energy(some, times) / shortest:.2f}",
            "sliced W2, 1 · 2 · 8 Euler steps": " · ".join(
                f"{float(metrics.sliced_w2(x, truth)):.2f}" for x in few.values()
            ),
        }
        columns.append(show.Flow(title, note, flows[name].pairs[:, :200], way[:, 0, :200], few[2][0], numbers))
    return show.why_paths_bend(columns, limit=limit)


def animation(network: nn.Module, limit: float, seed: int, classes: int | None = None) -> bytes:
    """The way from noise to the data, of all classes at once if there are, as a GIF.

    The noise is a Sobol sequence under the normal quantile function: evenly spread, as a stippler's dots are, which
    the flow, being smooth, keeps.
    """
    even = torch.quasirandom.SobolEngine(2, scramble=True, seed=seed).draw(GIF_POINTS)
    condition = None if classes is None else torch.eye(classes)
    noise = torch.special.ndtri(even.clamp(1e-4, 1 - 1e-4)).reshape(classes or 1, -1, 2)
    way = sampling.sample(
        network, condition, noise.shape[1], x0=noise, steps=GIF_FRAMES, method="midpoint", trajectory=True
    )
    upright = torch.tensor([1.0, -1.0]) * (pictures.HALF_WIDTH / limit)
    return pictures.gif((trajectory_of(way).flatten(1, 2) * upright).numpy(), GIF_SIDE)


def follow(network: nn.Module, points: int, seed: int, classes: int | None = None) -> solvers.Solution:
    """One cloud, or one for each class."""
    condition, generator = None if classes is None else torch.eye(classes), seeded(seed + 5)
    return sampling.sample(
        network, condition, points, steps=40, method="midpoint", generator=generator, trajectory=True
    )


def trajectory_of(solution: solvers.Solution) -> Tensor:
    """The trajectory [S + 1, B, N, 2], which the solver was asked to keep."""
    assert solution.trajectory is not None
    return solution.trajectory


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
