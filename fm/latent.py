"""Clouds from a flow of latents: text and noise settle on one latent, and its density is drawn point by point.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", arXiv 2112.10752, with flow matching in
the place of diffusion.
"""

import torch
from torch import Tensor

from fm import grids, networks, sampling, solvers, times
from fm._checks import require


def sample(
    network: networks.Latent,
    condition: Tensor | None,
    x0: Tensor,
    *,
    latent: Tensor,
    steps: int = 50,
    guidance: float = 1.0,
    trajectory: bool = False,
) -> solvers.Solution:
    """Clouds drawn by the network: the flow carries `latent` [B, L] ~ N(0, I), and x0 [B, N, 2] goes where that says.

    Args:
        condition: [B, C], one for each cloud, or None.
        steps: Euler steps of the flow of latents. guidance: as in `fm.sampling.sample`.
        trajectory: keep the points on their straight ways (see `fm.grids.transport`) at as many times, too.
    """
    require(len(latent) == len(x0), "the number of latents", len(latent), f"{len(x0)}, as of clouds")
    moved = sampling.sample(network.flow, condition, x0=latent, steps=steps, guidance=guidance)
    x0 = x0.to(moved.x)
    x1 = grids.transport(network.density(moved.x), x0, extent=network.extent)
    grid = times.grid(steps)
    way = torch.stack([torch.lerp(x0, x1, float(t)) for t in grid]) if trajectory else None
    return solvers.Solution(x1, moved.evaluations, grid, way)
