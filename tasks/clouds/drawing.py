"""Clouds drawn by a trained network, of whatever kind."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from fm import latent, networks, sampling, solvers

CLOUDS = 8  # drawn at once

Sample = Callable[..., solvers.Solution]


def draw(
    network: nn.Module,
    conditions: Tensor,
    points: int,
    *,
    steps: int,
    guidance: float,
    seed: int,
    alike: bool = False,
    trajectory: bool = False,
    on_clouds: Callable[[int], None] = lambda number: None,
) -> Tensor:
    """A cloud for each condition [F, C]: [F, points, D], or with `trajectory` [steps + 1, F, points, D].

    Each starts from noise of its own, or with `alike` all from the same, so that a cloud does not depend on what else
    is drawn beside it. `on_clouds` hears of every few.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        drawn = torch.randn(1 if alike else len(conditions), *shape, generator=generator)
        return drawn.expand(len(conditions), *shape)

    x0 = noise(points, network.dim if isinstance(network, networks.Conditioned) else 2)
    z0 = noise(network.autoencoder.latent) if isinstance(network, networks.Latent) else None
    found = []
    for few in torch.arange(len(conditions)).split(CLOUDS):
        sample: Sample = sampling.sample if z0 is None else partial(latent.sample, latent=z0[few])
        solution = sample(network, conditions[few], x0=x0[few], steps=steps, guidance=guidance, trajectory=trajectory)
        found.append((solution.x if solution.trajectory is None else solution.trajectory).cpu())
        on_clouds(len(few))
    return torch.cat(found, dim=1 if trajectory else 0)
