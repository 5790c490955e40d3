"""Stage `train`: a velocity network learns `data/train_data.pt` by the recipe that params.yaml has for it.

It begins with random weights, or as the promoted version that `models/start.json` names. A killed run, started again,
goes on from its last checkpoint in `.stipple/checkpoints/` to the same bytes, also if it was killed between its end and
DVC's record: what the last finished training left stays there as `*.done`.
"""

import hashlib
import inspect
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from safetensors.torch import save

from fm import training
from tasks.clouds import artifacts, density, distributed, fitting, latents, training_set
from tasks.models import checkpoints
from tasks.progress import progress
from tasks.registry import warm_start
from tasks.settings import Settings
from tasks.store import files
from tasks.store.digests import digest_of

VERSION = 2
CHECKPOINTS = Path(".stipple/checkpoints")


def run(settings: Settings, root: Path) -> dict[str, Any]:
    """Train, and write the weights (safetensors), the card that `clouds.generation` needs to use them, and the curve.

    With `processes` above 1 all of them train, each on an accelerator of its own where there are some, and one writes.
    """
    number = settings.params.train.processes
    return _run(settings, root) if number == 1 else distributed.run(number, _run, settings, root)


def _run(settings: Settings, root: Path) -> dict[str, Any]:
    params, seed = settings.params.train, settings.params.seed
    recipe = params.recipe(params.network)
    given = settings.profile.autoencoder
    autoencoder = None if given is None else checkpoints.folder(given, root)
    data = training_set.load(root)
    rows = training_set.rows_of(data, training_set.TRAIN)
    begin = warm_start.load(root)
    checkpoint_dir = root / CHECKPOINTS / run_digest(root, settings)
    finished = checkpoint_dir.with_suffix(".done")
    main = PartialState().is_main_process
    with PartialState().main_process_first():
        if finished.exists():
            finished.rename(checkpoint_dir)
    with progress("train", recipe.steps, "step", kept=True, shown=main) as bar:
        result = fitting.fit(
            params.network,
            recipe,
            data,
            rows,
            seed=seed,
            weights=begin.weights(root),
            autoencoder=autoencoder,
            checkpoint_dir=checkpoint_dir,
            on_step=fitting.shown_on(bar),
        )
    if main:
        card = {
            "network": fitting.network_config(params.network, data, seed, autoencoder),
            "embedder": data["embedder"],
            "num_points": data["num_points"],
            "recipe": recipe.model_dump(),
            "processes": params.processes,
            "seed": seed,
            "start": asdict(begin),
            "trained_on": {
                "frames": len(rows),
                "clips": len({data["clips"][i] for i in rows}),
            },
        }
        files.write(root / artifacts.CURVE, fitting.curve(result.losses, recipe, seed))
        files.write(root / artifacts.MODEL, save(result.network.state_dict()))
        files.write(root / artifacts.CARD, json.dumps(card, indent=2, ensure_ascii=False) + "\n")
        for earlier in checkpoint_dir.parent.glob("*.done"):
            shutil.rmtree(earlier)
        checkpoint_dir.rename(finished)
    parameters = sum(p.numel() for p in result.network.parameters())
    return {"steps": recipe.steps, "resumed_at": result.resumed_at, "parameters": parameters, "frames": len(rows)}


def run_digest(root: Path, settings: Settings) -> str:
    """What decides a training run: data, network, recipe, number of processes, seed, start, autoencoder and code."""
    train, given = settings.params.train, settings.profile.autoencoder
    with (root / artifacts.TRAIN_DATA).open("rb") as file:
        data = hashlib.file_digest(file, "sha256").hexdigest()
    here = [
        Path(inspect.getfile(module)) for module in (fitting, latents, density, training_set, distributed, warm_start)
    ]
    modules = [Path(__file__), *here, *sorted(Path(training.__file__).parent.glob("*.py"))]
    return digest_of(
        version=VERSION,
        data=data,
        network=train.network,
        recipe=train.recipe(train.network).model_dump(),
        processes=train.processes,
        seed=settings.params.seed,
        start=asdict(warm_start.load(root)),
        autoencoder=given and checkpoints.locate(given, root).digest,
        code=[module.read_text(encoding="utf-8") for module in modules],
    )[:16]
