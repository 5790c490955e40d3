"""Latent flow matching: an autoencoder makes a vector of each face, and a flow of vectors draws from text.

    python -m examples.latent      # after `stipple run`: reads data/train_data.pt

The pipeline's network draws each point by itself, which gives the mean of all clouds that a text may mean. Here
text and noise together settle on one latent, and the decoder draws that one face.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from fm import couplings, metrics, networks, sampling, training
from fm.autoencoder import Autoencoder
from tasks.clouds import density, figures, generation, scoring, toy_gallery, training_set
from tasks.models.embedder import load_embedder
from tasks.settings import Checkpoint
from tasks.store import files

ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "examples" / "output"
PROMPT = "Left-facing, laughing expression"
LATENT = 32
CLOUDS, POINTS, SEEN = 24, 64, 256  # of a step of the autoencoder: clouds, points to draw and to encode of each
CONFIG = training.TrainConfig(
    steps=900, learning_rate=2e-3, hidden_learning_rate=0.01, ema=0.99, times_per_cloud=1, condition_dropout=0.0
)
FLOW = {"name": "film", "dim": LATENT, "condition_dim": 512, "embedding": 128, "bandwidth": 0.2}
VECTORS = 128  # of a step of the flow
# Each vector has a text of its own: transport pairs noise with latents among those of equal text, along the batch.
FLOW_CONFIG = replace(CONFIG, coupling=partial(couplings.exact_ot, block=None), condition_dropout=0.1)
DRAWN, COMPARED, SHOWN = 1024, 24, 6


def main(root: Path = ROOT, output: Path = OUTPUT) -> None:
    data = training_set.load(root)
    maps, embeddings = data["density"], data["embeddings"]
    trained, held_out = (training_set.rows_of(data, split) for split in (training_set.TRAIN, training_set.HELD_OUT))

    def some(count: int, generator: torch.Generator) -> Tensor:
        return trained[torch.randint(len(trained), (count,), generator=generator)]

    def draw_clouds(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = some(CLOUDS, generator)
        return tuple(density.draw(maps, index, n, generator) for n in (POINTS, SEEN))

    torch.manual_seed(0)
    autoencoder = toy_gallery.train(
        "autoencoder", Autoencoder(dim=2, latent=LATENT, decoder={"blocks": 4}), draw_clouds, CONFIG
    )

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        latents = autoencoder.encode(density.draw(maps, trained, SEEN, generator))
    mean, std = latents.mean(0), latents.std(0)
    normal = torch.zeros(len(embeddings), LATENT).index_copy(0, trained, (latents - mean) / std)

    def draw_latents(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = some(VECTORS, generator)
        return normal[index], embeddings[index]

    flow = networks.build(FLOW)
    flow.standardize(embeddings[trained])
    flow = toy_gallery.train("flow of latents", flow, draw_latents, FLOW_CONFIG)

    def decode(latents: Tensor) -> Tensor:
        return sampling.sample(autoencoder.decoder, latents, DRAWN, steps=20, generator=generator).x

    def write(conditions: Tensor) -> Tensor:
        noise = torch.randn(len(conditions), LATENT, generator=generator)
        return sampling.sample(flow, conditions, x0=noise, steps=20, guidance=1.5).x * std + mean

    rows = scoring.spread(held_out, COMPARED)
    truth, again = (density.draw(maps, rows, DRAWN, generator) for _ in range(2))
    with torch.no_grad():
        codes = autoencoder.encode(again[:, :SEEN])
    clouds = {
        "another sample of the frame": again,
        "encoded and decoded": decode(codes),
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
        "between two latents": decode((1 - share) * codes[few[0]] + share * codes[few[-1]]),
    }
    files.write(output / "latent.png", figures.cloud_rows(shown))
    print(output / "latent.png")


if __name__ == "__main__":
    main()
