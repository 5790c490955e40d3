"""How the time t of each training pair is drawn: t [n] in [0, 1], decided by a `torch.Generator`."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fm._checks import require
from fm._random import device_of

Times = Callable[[int, torch.Generator | None], Tensor]


def uniform(n: int, generator: torch.Generator | None = None) -> Tensor:
    """n independent times, uniform in [0, 1)."""
    require(n >= 1, "n", n, "1 or more")
    return torch.rand(n, generator=generator, device=device_of(generator))


def stratified(n: int, generator: torch.Generator | None = None) -> Tensor:
    """n uniform times, one in each of n equal intervals, in random order.

    Each is uniform by itself; together they cover [0, 1] evenly, so the loss of a batch varies less.
    """
    device = device_of(generator)
    order = torch.randperm(n, generator=generator, device=device) if n > 1 else torch.zeros(1, device=device)
    return ((order + uniform(n, generator)) / n).clamp(max=1 - 2**-24)


def logit_normal(
    n: int, generator: torch.Generator | None = None, *, mean: float = 0.0, std: float = 1.0, base: Times = stratified
) -> Tensor:
    """t = sigmoid(mean + std · z), z ~ N(0, 1): more weight in the middle. Esser et al., arXiv 2403.03206, eq. 19.

    `base` draws the uniforms that are turned into z, so that these times can be stratified too.
    """
    require(std > 0, "std", std, "positive")
    u = base(n, generator).clamp(1e-6, 1 - 1e-6)
    return torch.sigmoid(mean + std * torch.special.ndtri(u))


def mode_heavy(
    n: int, generator: torch.Generator | None = None, *, scale: float = 1.29, base: Times = stratified
) -> Tensor:
    """t = 1 - u - scale (cos²(πu/2) - 1 + u): more weight in the middle.

    Esser et al., arXiv 2403.03206, eq. 20. At scale 0 it is uniform; from -1 to 2 / (π - 2) the map is monotonic. A
    negative scale favours the ends.
    """
    limit = 2 / (math.pi - 2)
    require(-1 <= scale <= limit, "scale", scale, f"in [-1, {limit:.4f}]")
    u = base(n, generator)
    return (1 - u - scale * ((math.pi / 2 * u).cos().square() - 1 + u)).clamp(0, 1)


def shift(t: Tensor, factor: float) -> Tensor:
    """Times moved towards the noise (factor > 1) or the data (factor < 1), ends kept: t / (t + factor (1 - t)).

    Stable Diffusion 3 and Flux train and sample larger pictures with more time near the noise (arXiv 2403.03206,
    eq. 23, with t = 0 for the data; here t = 0 is the noise). Apply it in one place: to the law in training
    (`shifted`), or to the grid in sampling (`grid`), and to both if both should have it, each once.
    """
    require(factor > 0, "factor", factor, "positive")
    return t / (t + factor * (1 - t))


def shifted(n: int, generator: torch.Generator | None = None, *, factor: float, base: Times = stratified) -> Tensor:
    """Times of `base`, shifted."""
    return shift(base(n, generator), factor)


def grid(steps: int, *, factor: float = 1.0) -> Tensor:
    """The steps + 1 times of a solver from 0 to 1, equal steps at factor 1, else shifted."""
    require(steps >= 1, "steps", steps, "1 or more")
    return shift(torch.linspace(0, 1, steps + 1, dtype=torch.float64), factor)


TIMES: dict[str, Times] = {
    "uniform": uniform,
    "stratified": stratified,
    "logit-normal": logit_normal,
    "mode-heavy": mode_heavy,
}
