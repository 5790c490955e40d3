"""Stage `train`: a velocity network learns `data/train_data.pt` by the recipe that params.yaml has for it.

It begins with random weights, or as the promoted version that `models/start.json` names. A killed run, started again,
goes on from its last checkpoint in `.stipple/checkpoints/` to the same bytes, also if it was killed between its end and
DVC's record: what the last finished training left stays there as `*.done`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import save
from torch import Tensor
from tqdm.auto import tqdm

from fm import couplings, networks, times, training
from tasks import dataset
from tasks.registry import warm_start
from tasks.clouds import distributed
from tasks.clouds import density
from tasks.store import files
from tasks.errors import StippleError
from tasks.store.rows import Previous, key, no_previous
from tasks.settings import Recipe, Settings, Train

VERSION = 2
MODEL, CARD, CURVE = Path("data/model.safetensors"), Path("data/model.json"), Path("data/training.csv")
CHECKPOINTS = Path(".stipple/checkpoints")
CURVE_EVERY = 10  # steps averaged into one row of the curve

Callback = Callable[[training.Progress], None]


def run(settings: Settings, root: Path, *, previous: Previous = no_previous) -> dict[str, Any]:
    """Train, and write the weights (safetensors), the card that `tasks.clouds.generation` needs to use them, and the curve.

    With `processes` above 1 all of them train, each on an accelerator of its own where there are some, and one writes.
    """
    number = settings.params.train.processes
    return _run(settings, root) if number == 1 else distributed.run(number, _run, settings, root)


def _run(settings: Settings, root: Path) -> dict[str, Any]:
    params, seed = settings.params.train, settings.params.seed
    recipe = params.recipe(params.network)
    data = dataset.load(root)
    rows = dataset.rows_of(data, dataset.TRAIN)
    begin = warm_start.load(root)
    checkpoint_dir = root / CHECKPOINTS / run_digest(root, params, seed)
    finished = checkpoint_dir.with_suffix(".done")
    main = PartialState().is_main_process
    with PartialState().main_process_first():
        if finished.exists():
            finished.rename(checkpoint_dir)
    with tqdm(total=recipe.steps, desc="train", unit="step", disable=not main) as bar:
        result = fit(
            params.network,
            recipe,
            data,
            rows,
            seed=seed,
            weights=begin.weights(root),
            checkpoint_dir=checkpoint_dir,
            on_step=shown_on(bar),
        )
    if main:
        card = {
            "network": network_config(params.network, data, seed),
            "embedder": data["embedder"],
            "num_points": data["num_points"],
            "recipe": recipe.model_dump(),
            "processes": params.processes,
            "seed": seed,
            "start": asdict(begin),
            "trained_on": {"frames": len(rows), "clips": len({dataset.clip_of(data["frame_ids"][i]) for i in rows})},
        }
        files.write(root / CURVE, curve(result.losses, recipe, seed))
        files.write(root / MODEL, save(result.network.state_dict()))
        files.write(root / CARD, json.dumps(card, indent=2, ensure_ascii=False) + "\n")
        for earlier in checkpoint_dir.parent.glob("*.done"):
            shutil.rmtree(earlier)
        checkpoint_dir.rename(finished)
    parameters = sum(p.numel() for p in result.network.parameters())
    return {"steps": recipe.steps, "resumed_at": result.resumed_at, "parameters": parameters, "frames": len(rows)}


def fit(
    network: str,
    recipe: Recipe,
    data: dict[str, Any],
    rows: Tensor,
    *,
    seed: int,
    weights: Mapping[str, Tensor] | None = None,
    checkpoint_dir: Path | None = None,
    on_step: Callback | None = None,
) -> training.TrainResult:
    """Train `network` by `recipe` on the frames `rows` [M] of the training data, from `weights` if they are given."""
    model = networks.build(network_config(network, data, seed))
    model.standardize(data["embeddings"][rows])
    if weights is not None:
        model.load_state_dict(weights)
    try:
        return training.train(
            model, batches(recipe, data, rows), config_of(recipe, seed), checkpoint_dir=checkpoint_dir, on_step=on_step
        )
    except (training.NotFinite, ValueError) as error:
        raise StippleError(f"train ({network}): {error}") from None


def config_of(recipe: Recipe, seed: int) -> training.TrainConfig:
    return training.TrainConfig(
        steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        hidden_learning_rate=recipe.hidden_learning_rate,
        warmup=min(100, recipe.steps // 10) if recipe.schedule == "cosine" else 0,
        schedule=recipe.schedule,
        clip=recipe.clip or float("inf"),
        ema=recipe.ema,
        condition_dropout=recipe.condition_dropout,
        times_per_cloud=recipe.times_per_cloud,
        checkpoint_every=recipe.checkpoint_every,
        seed=seed,
        coupling=couplings.COUPLINGS[recipe.coupling],
        times=times.TIMES[recipe.times],
    )


def network_config(network: str, data: dict[str, Any], seed: int) -> dict[str, Any]:
    return {"name": network, "dim": 2, "condition_dim": data["embeddings"].shape[1], "seed": seed}


def batches(recipe: Recipe, data: dict[str, Any], rows: Tensor) -> training.DrawBatch:
    """Random frames out of `rows` [M]: their points [clouds, points, 2] and conditions [clouds, C]."""
    if not recipe.fresh_points and recipe.points > data["num_points"]:
        raise StippleError(
            f"params.yaml: a recipe asks for {recipe.points} points without fresh_points, but data/train_data.pt "
            f"holds {data['num_points']} of each frame; lower it, or raise points.num_points"
        )

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = rows[torch.randint(len(rows), (recipe.clouds,), generator=generator)]
        if recipe.fresh_points:
            clouds = density.draw(data["density"], index, recipe.points, generator)
        else:
            order = torch.randperm(data["num_points"], generator=generator)[: recipe.points]
            clouds = data["point_clouds"][index][:, order]
        return clouds, data["embeddings"][index]

    return draw


def run_digest(root: Path, train: Train, seed: int) -> str:
    """What decides a training run: its data, network, recipe, number of processes, seed, start and code."""
    with (root / dataset.OUTPUT).open("rb") as file:
        data = hashlib.file_digest(file, "sha256").hexdigest()
    modules = [__file__, density.__file__, distributed.__file__, *sorted(Path(training.__file__).parent.glob("*.py"))]
    return key(
        version=VERSION,
        data=data,
        network=train.network,
        recipe=train.recipe(train.network).model_dump(),
        processes=train.processes,
        seed=seed,
        start=asdict(warm_start.load(root)),
        code=[Path(module).read_text(encoding="utf-8") for module in modules],
    )[:16]


def curve(losses: Tensor, recipe: Recipe, seed: int) -> str:
    """CSV of the loss, averaged over every `CURVE_EVERY` steps, and the learning rate."""
    config = config_of(recipe, seed)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "loss", "learning_rate"])
    for first, part in enumerate(losses.split(CURVE_EVERY)):
        step = first * CURVE_EVERY + len(part)
        writer.writerow([step, f"{part.mean():.6f}", f"{config.learning_rate_at(step - 1):.8f}"])
    return text.getvalue()


def shown_on(bar: tqdm) -> Callback:
    """A callback that moves `bar` and shows the running mean of the loss."""
    mean = 0.0

    def on_step(progress: training.Progress) -> None:
        nonlocal mean
        if bar.n == 0:
            bar.initial = bar.n = progress.step - 1  # where a checkpoint let it start
            mean = progress.loss
        mean += (progress.loss - mean) * 0.03
        bar.update()
        bar.set_postfix(loss=f"{mean:.4f}", refresh=False)

    return on_step
