"""Latents of the training set's frames: an autoencoder of their weight maps, and the vectors that it makes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from fm import networks, training
from fm.autoencoder import Autoencoder, bound
from tasks.clouds import density, training_set
from tasks.settings import LatentRecipe

ENCODED = 64  # frames at once


def sizes(folder: Path) -> dict[str, Any]:
    """Of the autoencoder in `folder`."""
    return json.loads((folder / "config.json").read_text())


def load(folder: Path) -> Autoencoder:
    """The autoencoder in `folder`."""
    autoencoder = Autoencoder(**sizes(folder))
    autoencoder.load_state_dict(load_file(folder / "model.safetensors"))
    return autoencoder.eval()


def fit(
    network: networks.Latent,
    recipe: LatentRecipe,
    data: dict[str, Any],
    rows: Tensor,
    config: training.TrainConfig,
    *,
    checkpoint_dir: Path | None,
    on_step: Callable[[training.Progress], None],
) -> None:
    """Train the autoencoder of `network` on the frames `rows` [M]."""
    maps, side = data["density"], network.autoencoder.side

    def draw_densities(generator: torch.Generator) -> Tensor:
        """A frame or its mirror image: what a face looks like is the same from both sides, what words mean is not."""
        index = rows[torch.randint(len(rows), (recipe.autoencoder.clouds,), generator=generator)]
        grid = density.raster(maps, index, side)
        mirrored = torch.rand(len(index), 1, 1, generator=generator) < 0.5
        return torch.where(mirrored, grid.flip(-1), grid)

    loss = bound(network.autoencoder, draw_densities)
    result = training.optimize(network.autoencoder, loss, config, checkpoint_dir=checkpoint_dir, on_step=on_step)
    network.cpu().autoencoder.load_state_dict(result.network.state_dict())


def batches(network: networks.Latent, recipe: LatentRecipe, data: dict[str, Any], rows: Tensor) -> training.DrawBatch:
    """Random frames out of `rows` [M]: a latent of each [clouds, L], and conditions [clouds, C]."""
    mean, std = network.encode(
        density.raster(data["density"], few, network.autoencoder.side) for few in rows.split(ENCODED)
    )
    conditions = training_set.conditions(data, rows, wordings=recipe.wordings, noise=recipe.condition_noise)

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = torch.randint(len(rows), (recipe.clouds,), generator=generator)
        noise = torch.randn(recipe.clouds, mean.shape[1], generator=generator)
        return mean[index] + std[index] * noise, conditions(rows[index], generator)

    return draw
