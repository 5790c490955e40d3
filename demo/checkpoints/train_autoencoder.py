"""The demo's autoencoder: faces as vectors and back, learned from the weight maps of random characters.

Which characters, and what their words say, has no part in it: it learns how faces are drawn, as the published
autoencoders of latent diffusion learned how photographs are.
"""

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from demo.faces import render
from demo.faces.characters import Character, Pose, random_character, random_pose
from fm import autoencoder, training
from fm.autoencoder import Autoencoder
from tasks.points import SIDE, weigh

CONFIG = {"side": 128, "latent": 64, "widths": [128, 64, 40, 16]}


def train(folder: Path, *, faces: int = 10_000, steps: int = 13_000, clouds: int = 16, seed: int = 501) -> None:
    """Train the autoencoder and save it, each weight in 16 bits."""
    maps = torch.from_numpy(drawn(faces, seed))
    torch.manual_seed(seed)
    model = Autoencoder(side=CONFIG["side"], latent=CONFIG["latent"], widths=tuple(CONFIG["widths"]))

    def draw_densities(generator: torch.Generator) -> Tensor:
        chosen = maps[torch.randint(len(maps), (clouds,), generator=generator)].float()
        mirrored = torch.rand(clouds, 1, 1, generator=generator) < 0.5
        return torch.where(mirrored, chosen.flip(-1), chosen)

    config = training.TrainConfig(steps=steps, learning_rate=1.5e-3, ema=0.998, seed=seed)
    with tqdm(total=steps, desc="autoencoder", unit="step") as bar:

        def shown(progress: training.Progress) -> None:
            bar.update()
            if progress.step % 10 == 0:
                bar.set_postfix(loss=f"{progress.loss:.4f}")

        model = training.optimize(model, autoencoder.bound(model, draw_densities), config, on_step=shown).network
    save_file({name: weight.half() for name, weight in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


def drawn(count: int, seed: int) -> np.ndarray:
    """Weight maps of `count` random faces: uint8 [count, side, side], the largest weight of each 255."""
    rng = np.random.default_rng(seed)
    faces = [(random_character(rng), random_pose(rng)) for _ in range(count)]
    maps = np.empty((count, CONFIG["side"], CONFIG["side"]), np.uint8)
    with ProcessPoolExecutor() as pool:
        found = pool.map(_draw, faces, chunksize=50)
        for number, found_map in enumerate(tqdm(found, total=count, desc="faces", unit="face")):
            maps[number] = found_map
    return maps


def _draw(face: tuple[Character, Pose]) -> np.ndarray:
    picture = render.draw(*face, SIDE)
    weights = np.rint(255 * weigh(np.asarray(picture, dtype=np.float32) / 255, "contour"))
    each = SIDE // CONFIG["side"]
    cells = weights.reshape(CONFIG["side"], each, CONFIG["side"], each).sum((1, 3))
    return np.rint(255 * cells / cells.max()).astype(np.uint8)
