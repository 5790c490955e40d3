"""The latent network in the pipeline: trained, cut and gone on with, drawn from, and the scale of its latents."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fm import networks
from fm.autoencoder import Autoencoder
from tasks import dataset, draw, evaluate, train
from tasks.clouds import artifacts, drawing, fitting, generation, training_set
from tasks.errors import StippleError
from tasks.models import checkpoints
from tasks.settings import Pinned
from tests.support import small_project

OUTPUTS = ("model.safetensors", "model.json", "training.csv")


@pytest.fixture(scope="module")
def settings():
    own = small_project.settings()
    return own.model_copy(
        update={
            "params": own.params.model_copy(
                update={"train": own.params.train.model_copy(update={"network": "latent"})}
            )
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def project(settings, models_folder, tmp_path_factory):
    root = small_project.make(tmp_path_factory.mktemp("latent"), models_folder / "embedder")
    dataset.run(settings, root)
    train.run(settings, root)
    return root


def outputs(root):
    return {name: (root / "data" / name).read_bytes() for name in OUTPUTS}


def test_a_trained_one_is_evaluated_and_draws_the_prompts(project, settings):
    assert isinstance(generation.load(project / artifacts.MODEL).network, networks.Latent)
    assert evaluate.run(settings, project)["chamfer"] > 0
    assert draw.run(settings, project)["drawings"] == len(settings.params.draw.prompts)
    path = generation.path_of("a circle", project, steps=3, guidance=2.0, seed=0, points=40)
    assert path.shape == (4, 40, 2) and np.isfinite(path).all()
    np.testing.assert_allclose(path[1], path[0] + (path[3] - path[0]) / 3, atol=1e-5)  # straight


def test_its_latents_have_mean_0_and_variance_1(project):
    data, network = training_set.load(project), generation.load(project / artifacts.MODEL).network
    rows = training_set.rows_of(data, training_set.TRAIN)
    grids = [fitting.density.raster(data["density"], rows, network.autoencoder.side)]
    mean, std = network.encode(grids)
    torch.testing.assert_close(mean.mean(0), torch.zeros(mean.shape[1]), atol=1e-3, rtol=0)
    torch.testing.assert_close(mean.var(0, correction=0) + std.square().mean(0), torch.ones(mean.shape[1]))


def test_noise_chooses_the_cloud_and_what_is_drawn_beside_it_does_not(project):
    network = generation.load(project / artifacts.MODEL).network
    conditions = torch.randn(3, 512, generator=torch.Generator().manual_seed(0))
    settings = {"steps": 3, "guidance": 1.0}
    together = drawing.draw(network, conditions, 40, seed=0, alike=True, **settings)
    alone = drawing.draw(network, conditions[1:2], 40, seed=0, alike=True, **settings)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)
    assert not torch.equal(alone, drawing.draw(network, conditions[1:2], 40, seed=1, alike=True, **settings))


@pytest.mark.parametrize("cut_at", [3, 6])  # of 4 steps of the autoencoder and 5 of the flow
def test_a_run_that_was_cut_goes_on_to_the_same_bytes(project, settings, tmp_path, monkeypatch, cut_at):
    root = shutil.copytree(project, tmp_path / "project")
    shutil.rmtree(root / ".stipple")
    steps = 0
    optimize = fitting.training.optimize

    def counted(*given, on_step, **options):
        def after(progress):
            nonlocal steps
            on_step(progress)
            steps += 1
            if steps == cut_at:
                raise KeyboardInterrupt

        return optimize(*given, on_step=after, **options)

    monkeypatch.setattr(fitting.training, "optimize", counted)
    with pytest.raises(KeyboardInterrupt):
        train.run(settings, root)
    assert train.run(settings, root)["steps"] == 5
    assert steps == 4 + 5
    assert outputs(root) == outputs(project)


def test_it_may_begin_as_an_earlier_one(project, settings):
    data = training_set.load(project)
    rows = training_set.rows_of(data, training_set.TRAIN)
    weights = generation.load(project / artifacts.MODEL).network.state_dict()
    again = fitting.fit("latent", settings.params.train.recipes.latent, data, rows, seed=0, weights=weights)
    fresh = fitting.fit("latent", settings.params.train.recipes.latent, data, rows, seed=0)
    assert again.losses[0] != fresh.losses[0]


def test_an_autoencoder_that_came_along_is_taken_as_it_is(project, settings, tmp_path):
    root = shutil.copytree(project, tmp_path / "project")
    config = {"side": 64, "latent": 5, "widths": [32, 16]}
    (root / "encoder").mkdir()
    own = Autoencoder(**config)
    save_file(
        {name: weight.half() for name, weight in own.state_dict().items()}, root / "encoder" / "model.safetensors"
    )
    (root / "encoder" / "config.json").write_text(json.dumps(config))
    pinned = Pinned(model="encoder", revision=checkpoints.folder_digest(root / "encoder"))
    given = settings.model_copy(update={"profile": settings.profile.model_copy(update={"autoencoder": pinned})})
    assert train.run_digest(root, given) != train.run_digest(root, settings)
    train.run(given, root)
    network = generation.load(root / artifacts.MODEL).network
    assert all(
        torch.equal(network.autoencoder.state_dict()[name], weight.half().float())
        for name, weight in own.state_dict().items()
    )
    assert draw.run(given, root)["drawings"] == len(given.params.draw.prompts)
    (root / "encoder" / "config.json").write_text(json.dumps(config | {"latent": 6}))
    with pytest.raises(StippleError, match="encoder: its files have the digest sha256:"):
        train.run(given, root)
