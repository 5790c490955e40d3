"""The demo's autoencoder: faces as vectors and back, learned from the weight maps of random characters.

Which characters, and what their words say, has no part in it: it learns how faces are drawn, as the published
autoencoders of latent diffusion learned how photographs are.
"""

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from demo.faces import render
from demo.faces.characters import Character, Pose, random_character, random_pose
from fm import training
from fm.autoencoder import Autoencoder, bound
from tasks.points import SIDE, weigh

CONFIG: dict[str, Any] = {"side": 128, "latent": 64, "widths": [128, 64, 40, 16]}
CLOSER = 3  # what a face says is told by few of its points


def train(folder: Path, *, faces: int = 10_000, steps: int = 17_000, clouds: int = 16, seed: int = 501) -> None:
    """Train the autoencoder and save it, each weight in 16 bits."""
    maps, areas = map(torch.from_numpy, drawn(faces, seed))
    torch.manual_seed(seed)
    model = Autoencoder(**CONFIG)

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Densities of faces or of their mirror images, and where their features are."""
        chosen = torch.randint(len(maps), (clouds,), generator=generator)
        mirrored = torch.rand(clouds, 1, 1, generator=generator) < 0.5
        density, area = (torch.where(mirrored, all_[chosen].flip(-1), all_[chosen]) for all_ in (maps, areas))
        return density.float(), area

    loss = bound(model, draw, closer=CLOSER)
    config = training.TrainConfig(steps=steps, learning_rate=1.5e-3, ema=0.998, seed=seed)
    with tqdm(total=steps, desc="autoencoder", unit="step") as bar:

        def shown(progress: training.Progress) -> None:
            bar.update()
            if progress.step % 10 == 0:
                bar.set_postfix(loss=f"{progress.loss:.4f}")

        trained = training.optimize(model, loss, config, on_step=shown).network
    save_file({name: weight.half() for name, weight in trained.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight maps of random faces, uint8 [count, side, side] with a largest weight of 255; where their features are."""
    rng = np.random.default_rng(seed)
    faces = [(random_character(rng), random_pose(rng)) for _ in range(count)]
    maps = np.empty((count, CONFIG["side"], CONFIG["side"]), np.uint8)
    with ProcessPoolExecutor() as pool:
        found = pool.map(_draw, faces, chunksize=50)
        for number, found_map in enumerate(tqdm(found, total=count, desc="faces", unit="face")):
            maps[number] = found_map
    return maps, np.stack([render.features_area(*face, CONFIG["side"]) for face in faces])


def _draw(face: tuple[Character, Pose]) -> np.ndarray:
    picture = render.draw(*face, SIDE)
    weights = np.rint(255 * weigh(np.asarray(picture, dtype=np.float32) / 255, "contour"))
    each = SIDE // CONFIG["side"]
    cells = weights.reshape(CONFIG["side"], each, CONFIG["side"], each).sum((1, 3))
    return np.rint(255 * cells / cells.max()).astype(np.uint8)
