"""Latent flow matching: an autoencoder makes a vector of each face, and a flow of vectors draws from text.

    python -m examples.latent      # after `stipple run`: reads data/train_data.pt

The pipeline's network draws each point by itself, which gives the mean of all clouds that a text may mean. Here
text and noise together settle on one latent, and the decoder draws that one face.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fm import autoencoder as latents
from fm import couplings, grids, metrics, networks, sampling, training
from tasks.clouds import density, figures, fitting, generation, scoring, toy_gallery, training_set
from tasks.models.embedder import load_embedder
from tasks.progress import progress
from tasks.settings import Checkpoint
from tasks.store import files

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "examples" / "output"
PROMPT = "Left-facing, laughing expression"
SIDE, LATENT = 64, 48
AUTOENCODER = {"side": SIDE, "latent": LATENT, "widths": (96, 48, 24)}
DENSITIES = 32  # of a step of the autoencoder
CONFIG = training.TrainConfig(steps=900, learning_rate=2e-3, ema=0.99, condition_dropout=0.0)
FLOW = {"name": "film", "dim": LATENT, "condition_dim": 512, "embedding": 128, "bandwidth": 0.2}
VECTORS = 128  # of a step of the flow
FLOW_CONFIG = replace(CONFIG, hidden_learning_rate=0.01, coupling=couplings.independent, condition_dropout=0.1)
DRAWN, COMPARED, SHOWN = 1024, 24, 6


def main(root: Path = ROOT, output: Path = OUTPUT) -> None:
    data = training_set.load(root)
    maps, embeddings = data["density"], data["embeddings"]
    trained, held_out = (training_set.rows_of(data, split) for split in (training_set.TRAIN, training_set.HELD_OUT))

    def some(count: int, generator: torch.Generator) -> Tensor:
        return trained[torch.randint(len(trained), (count,), generator=generator)]

    def draw_densities(generator: torch.Generator) -> Tensor:
        grid = density.raster(maps, some(DENSITIES, generator), SIDE)
        mirrored = torch.rand(DENSITIES, 1, 1, generator=generator) < 0.5
        return torch.where(mirrored, grid.flip(-1), grid)

    torch.manual_seed(0)
    model = latents.Autoencoder(**AUTOENCODER)
    with progress("train, autoencoder", CONFIG.steps, "step") as bar:
        loss = latents.bound(model, draw_densities)
        model = training.optimize(model, loss, CONFIG, on_step=fitting.shown_on(bar)).network

    with torch.no_grad():
        mean, log_variance = model.encode(density.raster(maps, torch.arange(len(embeddings)), SIDE))
    spread = (log_variance / 2).exp()

    def draw_latents(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = some(VECTORS, generator)
        return mean[index] + spread[index] * torch.randn(VECTORS, LATENT, generator=generator), embeddings[index]

    flow = networks.build(FLOW)
    flow.standardize(embeddings[trained])
    flow = toy_gallery.train("flow of latents", flow, draw_latents, FLOW_CONFIG)
    generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def decode(latent: Tensor) -> Tensor:
        noise = torch.randn(len(latent), DRAWN, 2, generator=generator)
        return grids.transport(model.decode(latent).exp(), noise, extent=density.EXTENT)

    def write(conditions: Tensor) -> Tensor:
        noise = torch.randn(len(conditions), LATENT, generator=generator)
        return sampling.sample(flow, conditions, x0=noise, steps=20, guidance=1.5).x

    rows = scoring.spread(held_out, COMPARED)
    truth, again = (density.draw(maps, rows, DRAWN, generator) for _ in range(2))
    clouds = {
        "another sample of the frame": again,
        "encoded and decoded": decode(mean[rows]),
        "drawn from the summary": decode(write(embeddings[rows])),
        "the mean cloud": density.draw(maps, some(DRAWN, generator), len(rows), generator).transpose(0, 1),
    }
    for name, x in clouds.items():
        chamfer, sliced_w2 = (distance(x, truth).mean() for distance in (metrics.chamfer, metrics.sliced_w2))
        print(f"{name}: Chamfer {chamfer:.3f}, sliced W2 {sliced_w2:.3f}")

    few = scoring.spread(torch.arange(len(rows)), SHOWN)
    text = generation.embed([PROMPT], load_embedder(Checkpoint.model_validate(data["embedder"]), root))
    share = torch.linspace(0, 1, len(few)).unsqueeze(1)
    shown = {
        "held-out frames": truth[few],
        "encoded, decoded": clouds["encoded and decoded"][few],
        "from the summary": clouds["drawn from the summary"][few],
        "one short text": decode(write(text.expand(len(few), -1))),
        "between two latents": decode((1 - share) * mean[rows[few[0]]] + share * mean[rows[few[-1]]]),
    }
    files.write(output / "latent.png", figures.cloud_rows(shown))
    print(output / "latent.png")


if __name__ == "__main__":
    main()
