"""Latents of the training set's frames: an autoencoder of their weight maps, and the vectors that it makes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fm import autoencoder, networks, training
from tasks.clouds import density
from tasks.settings import LatentRecipe

ENCODED = 64  # frames at once


def batches(
    network: networks.Latent,
    recipe: LatentRecipe,
    data: dict[str, Any],
    rows: Tensor,
    config: training.TrainConfig,
    *,
    checkpoint_dir: Path | None,
    on_step: Callable[[training.Progress], None],
) -> training.DrawBatch:
    """Train the autoencoder of `network` on the frames `rows` [M]; then random latents [clouds, L] and conditions.

    `config` is the autoencoder's, and `on_step` is called after each of its steps.
    """
    maps, side = data["density"], network.autoencoder.side

    def draw_densities(generator: torch.Generator) -> Tensor:
        """A frame or its mirror image: what a face looks like is the same from both sides, what words mean is not."""
        index = rows[torch.randint(len(rows), (recipe.autoencoder.clouds,), generator=generator)]
        grid = density.raster(maps, index, side)
        mirrored = torch.rand(len(index), 1, 1, generator=generator) < 0.5
        return torch.where(mirrored, grid.flip(-1), grid)

    folder = None if checkpoint_dir is None else checkpoint_dir / "autoencoder"
    loss = autoencoder.bound(network.autoencoder, draw_densities)
    result = training.optimize(network.autoencoder, loss, config, checkpoint_dir=folder, on_step=on_step)
    network.cpu().autoencoder.load_state_dict(result.network.state_dict())
    mean, std = network.encode(density.raster(maps, few, side) for few in rows.split(ENCODED))

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = torch.randint(len(rows), (recipe.clouds,), generator=generator)
        noise = torch.randn(recipe.clouds, mean.shape[1], generator=generator)
        return mean[index] + std[index] * noise, data["embeddings"][rows[index]]

    return draw
