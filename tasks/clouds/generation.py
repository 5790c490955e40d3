"""A trained model draws texts: load it, embed the words with the embedder it was trained with, carry noise to a cloud.

`write` is what `stipple generate` calls. Imports that cost seconds happen where they are needed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from fm import networks
from tasks.clouds import artifacts, drawing, pictures
from tasks.errors import StippleError
from tasks.settings import PARAMS, Checkpoint
from tasks.store import files

if TYPE_CHECKING:
    from tasks.models.embedder import Embedder

GIF_FRAMES = 48


@dataclass(frozen=True)
class Model:
    """A trained velocity network, its card (model.json: network, embedder, points, training) and its file."""

    network: networks.Network
    card: dict[str, Any]
    path: Path


def load(path: Path) -> Model:
    """Read `path` (safetensors) and the card beside it (same name, .json)."""
    card_path = path.with_suffix(".json")
    for part in (path, card_path):
        if not part.is_file():
            raise StippleError(f"{part} is missing; `stipple run` trains a model, or `dvc pull` fetches one")
    try:
        card = json.loads(card_path.read_text())
        network = networks.build(card["network"])
        network.load_state_dict(load_file(path))
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise StippleError(f"{path} and {card_path} make no model ({reason}); run `stipple stage train`") from None
    return Model(network.eval(), card, path)


def embedder_of(model: Model, root: Path) -> Embedder:
    """The embedder whose conditions the model was trained on.

    The card names it by hub name and commit, or by folder and digest. The folder is looked for under `root`, then
    beside the model, then in the project that the model lies in.
    """
    from tasks.models import checkpoints
    from tasks.models.embedder import load_embedder

    checkpoint = Checkpoint.model_validate(model.card["embedder"])
    beside = model.path.absolute().parent
    projects = [folder for folder in (beside, *beside.parents) if (folder / PARAMS).is_file()]
    places = [root, beside, *projects[:1]]
    place = checkpoints.first_with(checkpoint, places)
    digest = checkpoint.revision or ""
    if place is None and digest.startswith("sha256:"):
        others = [folder for folder in (path / checkpoint.model for path in places) if folder.is_dir()]
        raise StippleError(
            f"{model.path} reads with the embedder {checkpoint.model} of the digest {digest[:19]}…, which is "
            f"neither here nor beside it nor in its project{f' ({others[0]} is another)' if others else ''}; copy that "
            f"folder from where the model was trained to {beside / checkpoint.model}"
        )
    return load_embedder(checkpoint, place or root)


def embed(texts: Sequence[str], embedder: Embedder) -> Tensor:
    """Conditions [N, C] of `texts`, none of which may be longer than the embedder reads."""
    for text in texts:
        if not text.strip():
            raise StippleError("the text is empty; say what to draw, for example: Front-facing, smiling expression")
        if (tokens := embedder.count_tokens(text)) > embedder.max_tokens:
            raise StippleError(
                f"the text takes {tokens} tokens, but the embedder reads at most {embedder.max_tokens}; "
                f"shorten it: {text[:60]!r}…"
            )
    return torch.from_numpy(embedder(list(texts)))


def path_of(
    text: str, root: Path, *, steps: int, guidance: float, seed: int, points: int, model: Path = artifacts.MODEL
) -> np.ndarray:
    """The way from noise to the cloud of `text`: float32 [steps + 1, points, D]."""
    loaded = load(root / model)
    condition = embed([text], embedder_of(loaded, root))
    path = drawing.draw(
        loaded.network, condition, points, steps=steps, guidance=guidance, seed=seed, alike=True, trajectory=True
    )
    return path[:, 0].numpy()


def write(
    text: str,
    root: Path,
    output: Path,
    *,
    steps: int,
    guidance: float,
    seed: int,
    points: int,
    model: Path = artifacts.MODEL,
    npy: Path | None = None,
    gif: Path | None = None,
) -> None:
    """Draw `text` to a PNG, and if asked its points to .npy and its way from noise to an animated GIF."""
    path = path_of(text, root, steps=steps, guidance=guidance, seed=seed, points=points, model=model)
    files.write(output, pictures.png(pictures.picture(path[-1])))
    if npy is not None:
        buffer = io.BytesIO()
        np.save(buffer, path[-1])
        files.write(npy, buffer.getvalue())
    if gif is not None:
        shown = np.unique(np.linspace(0, steps, min(steps + 1, GIF_FRAMES)).round().astype(int))
        files.write(gif, pictures.gif(path[shown]))
