"""A network fitted to frames of the training set, by one of the recipes of params.yaml."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from fm import couplings, networks, times, training
from tasks.clouds import density, latents, stops, training_set
from tasks.errors import StippleError
from tasks.progress import Progress, progress
from tasks.settings import LatentRecipe, Recipe

CURVE_EVERY = 10  # steps averaged into one row of the curve

OnStep = Callable[[training.Progress], None]


def fit(
    network: str,
    recipe: Recipe | LatentRecipe,
    data: dict[str, Any],
    rows: Tensor,
    *,
    seed: int,
    weights: Mapping[str, Tensor] | None = None,
    autoencoder: Path | None = None,
    checkpoint_dir: Path | None = None,
    on_step: OnStep | None = None,
) -> training.TrainResult:
    """Train `network` by `recipe` on the frames `rows` [M] of the training data, from `weights` if they are given.

    A latent network takes its autoencoder as it is from the folder `autoencoder`, or else trains one of its own. A
    signal that comes meanwhile ends it after a step, with a checkpoint in `checkpoint_dir`.
    """
    model = networks.build(network_config(network, data, seed, autoencoder))
    model.standardize(data["embeddings"][rows])
    if weights is not None:
        model.load_state_dict(weights)
    config = config_of(recipe, seed)
    try:
        with stops.held() as let_through:

            def then(shown: OnStep | None) -> OnStep:
                def after_step(done: training.Progress) -> None:
                    if shown is not None:
                        shown(done)
                    let_through()

                return after_step

            after_step = then(on_step)
            if isinstance(recipe, Recipe):
                draw = batches(recipe, data, rows)
                return training.train(model, draw, config, checkpoint_dir=checkpoint_dir, on_step=after_step)
            assert isinstance(model, networks.Latent), f"{network} has a recipe of another kind of network"
            if autoencoder is not None:
                model.autoencoder = latents.load(autoencoder)
            else:
                _fit_autoencoder(model, recipe, data, rows, config, checkpoint_dir, then)
            draw = latents.batches(model, recipe, data, rows)
            result = training.train(model.flow, draw, config, checkpoint_dir=checkpoint_dir, on_step=after_step)
            model.cpu().flow.load_state_dict(result.network.state_dict())
            return replace(result, network=model.eval())
    except (training.NotFinite, ValueError) as error:
        raise StippleError(f"train ({network}): {error}") from None


def _fit_autoencoder(
    model: networks.Latent,
    recipe: LatentRecipe,
    data: dict[str, Any],
    rows: Tensor,
    config: training.TrainConfig,
    checkpoint_dir: Path | None,
    then: Callable[[OnStep], OnStep],
) -> None:
    config = _autoencoder_config(recipe, config)
    folder = None if checkpoint_dir is None else checkpoint_dir / "autoencoder"
    with progress("train, autoencoder", config.steps, "step", kept=True, shown=PartialState().is_main_process) as bar:
        latents.fit(model, recipe, data, rows, config, checkpoint_dir=folder, on_step=then(shown_on(bar)))


def config_of(recipe: Recipe | LatentRecipe, seed: int) -> training.TrainConfig:
    return training.TrainConfig(
        steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        hidden_learning_rate=recipe.hidden_learning_rate,
        warmup=_warmup(recipe.steps, recipe.schedule),
        schedule=recipe.schedule,
        clip=recipe.clip or float("inf"),
        ema=recipe.ema,
        condition_dropout=recipe.condition_dropout,
        times_per_cloud=recipe.times_per_cloud if isinstance(recipe, Recipe) else 1,
        checkpoint_every=recipe.checkpoint_every,
        seed=seed,
        coupling=couplings.COUPLINGS[recipe.coupling if isinstance(recipe, Recipe) else "independent"],
        times=times.TIMES[recipe.times],
    )


def _autoencoder_config(recipe: LatentRecipe, config: training.TrainConfig) -> training.TrainConfig:
    own = recipe.autoencoder
    return replace(
        config,
        steps=own.steps,
        learning_rate=own.learning_rate,
        hidden_learning_rate=None,
        warmup=_warmup(own.steps, recipe.schedule),
    )


def _warmup(steps: int, schedule: str) -> int:
    return min(100, steps // 10) if schedule == "cosine" else 0


def network_config(network: str, data: dict[str, Any], seed: int, autoencoder: Path | None = None) -> dict[str, Any]:
    config = {"name": network, "condition_dim": data["embeddings"].shape[1], "seed": seed}
    if network != "latent":
        return config | {"dim": data["point_clouds"].shape[2]}
    return config | ({} if autoencoder is None else {"autoencoder": latents.sizes(autoencoder)})


def batches(recipe: Recipe, data: dict[str, Any], rows: Tensor) -> training.DrawBatch:
    """Random frames out of `rows` [M]: their points [clouds, points, D] and conditions [clouds, C]."""
    if not recipe.fresh_points and recipe.points > data["num_points"]:
        raise StippleError(
            f"params.yaml: a recipe asks for {recipe.points} points without fresh_points, but data/train_data.pt "
            f"holds {data['num_points']} of each frame; lower it, or raise points.num_points"
        )

    conditions = training_set.conditions(data, rows, wordings=recipe.wordings, noise=recipe.condition_noise)

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = rows[torch.randint(len(rows), (recipe.clouds,), generator=generator)]
        if recipe.fresh_points:
            clouds = density.draw(data["density"], index, recipe.points, generator)
        else:
            order = torch.randperm(data["num_points"], generator=generator)[: recipe.points]
            clouds = data["point_clouds"][index][:, order]
        return clouds, conditions(index, generator)

    return draw


def curve(losses: Tensor, recipe: Recipe | LatentRecipe, seed: int) -> str:
    """CSV of the loss, averaged over every `CURVE_EVERY` steps, and the learning rate."""
    config = config_of(recipe, seed)
    lines = ["step,loss,learning_rate\n"]
    for first, part in enumerate(losses.split(CURVE_EVERY)):
        step = first * CURVE_EVERY + len(part)
        lines.append(f"{step},{part.mean():.6f},{config.learning_rate_at(step - 1):.8f}\n")
    return "".join(lines)


def shown_on(bar: Progress) -> OnStep:
    """A callback that moves `bar` and shows the running mean of the loss."""
    mean = 0.0

    def on_step(progress: training.Progress) -> None:
        nonlocal mean
        if bar.done == 0:
            bar.skip(progress.step - 1)  # where a checkpoint let it start
            mean = progress.loss
        mean += (progress.loss - mean) * 0.03
        bar.advance(said=f"loss {mean:.4f}")

    return on_step
