"""Training: by the recipe, to the same bytes, also after it was killed."""

import json
import logging
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from fm import networks
from tasks import dataset, progress, train
from tasks.clouds import fitting, training_set
from tasks.errors import StippleError
from tasks.settings import Settings, load
from tests.support import small_project

OUTPUTS = ("model.safetensors", "model.json", "training.csv")


@pytest.fixture
def settings():
    return small_project.settings()


@pytest.fixture
def root(tmp_path, settings):
    dataset.run(settings, small_project.make(tmp_path))
    return tmp_path


def outputs(root):
    return {name: (root / "data" / name).read_bytes() for name in OUTPUTS}


def with_train(settings, **changes):
    train = settings.params.train.model_copy(update=changes)
    return settings.model_copy(update={"params": settings.params.model_copy(update={"train": train})})


def checkpoint_dir(root, settings):
    return root / train.CHECKPOINTS / train.run_digest(root, settings)


def test_writes_a_network_that_its_card_describes(root, settings):
    summary = train.run(settings, root)
    card = json.loads((root / "data" / "model.json").read_text())
    network = networks.build(card["network"])
    network.load_state_dict(load_file(root / "data" / "model.safetensors"))
    assert sum(p.numel() for p in network.parameters()) == summary["parameters"]
    assert card["num_points"] == small_project.POINTS and card["embedder"]["model"] == "embedder"
    assert (
        card["trained_on"]["frames"] == summary["frames"] == len(training_set.rows_of(training_set.load(root), "train"))
    )
    rows = (root / "data" / "training.csv").read_text().splitlines()
    assert rows[0] == "step,loss,learning_rate" and rows[-1].startswith("8,")


def test_the_condition_is_standardized_by_the_training_clips_alone(root, settings):
    train.run(settings, root)
    data = training_set.load(root)
    mean = load_file(root / "data" / "model.safetensors")["condition_mean"]
    torch.testing.assert_close(mean, data["embeddings"][training_set.rows_of(data, "train")].mean(0))


def test_the_same_run_gives_the_same_bytes(root, settings):
    train.run(settings, root)
    first = outputs(root)
    shutil.rmtree(root / ".stipple")
    train.run(settings, root)
    assert outputs(root) == first


def test_a_training_that_ended_before_it_was_recorded_is_not_done_again(root, settings):
    steps = train.run(settings, root)["steps"]
    first = outputs(root)
    (root / "data" / "model.safetensors").unlink()
    assert train.run(settings, root)["resumed_at"] == steps
    assert outputs(root) == first
    other = small_project.settings(learning_rate=0.1)
    train.run(other, root)
    assert list((root / train.CHECKPOINTS).iterdir()) == [checkpoint_dir(root, other).with_suffix(".done")]


def test_an_interrupted_run_goes_on_to_the_same_bytes(root, settings):
    train.run(settings, root)
    uninterrupted = outputs(root)
    shutil.rmtree(root / ".stipple")

    def cut(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    data, params = training_set.load(root), settings.params
    rows = training_set.rows_of(data, "train")
    directory = checkpoint_dir(root, settings)
    with pytest.raises(KeyboardInterrupt):
        fitting.fit("film", params.train.recipe("film"), data, rows, seed=0, checkpoint_dir=directory, on_step=cut)
    assert train.run(settings, root)["resumed_at"] == 5
    assert outputs(root) == uninterrupted


class Press(logging.Handler):
    """Ctrl-C at the first line that training says."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger("stipple.progress").removeHandler(self)
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_costs_no_step_and_the_next_run_goes_on_to_the_same_bytes(root, settings, monkeypatch):
    settings = small_project.settings(checkpoint_every=100)
    train.run(settings, root)
    uninterrupted = outputs(root)
    shutil.rmtree(root / ".stipple")
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(progress, "SHARE", 0.0)
    log = logging.getLogger("stipple.progress")
    log.setLevel(logging.INFO)
    log.addHandler(Press())
    with pytest.raises(KeyboardInterrupt) as stop:
        train.run(settings, root)
    assert stop.value.__notes__ == ["in train at 1 of 8 steps"]
    assert train.run(settings, root)["resumed_at"] == 1
    assert outputs(root) == uninterrupted


def test_a_run_of_other_settings_does_not_take_over_a_checkpoint(root, settings):
    other = checkpoint_dir(root, small_project.settings(learning_rate=0.1))
    other.mkdir(parents=True)
    (other / "checkpoint.pt").write_bytes(b"of a run that still waits to go on")
    assert train.run(settings, root)["resumed_at"] == 0
    assert (other / "checkpoint.pt").is_file()


def by_two() -> Settings:
    return with_train(small_project.settings(steps=24), processes=2)


def test_two_processes_train_one_network_and_go_on_to_the_same_bytes_after_sigkill(root):
    summary = train.run(by_two(), root)
    whole = outputs(root)
    assert summary["resumed_at"] == 0 and json.loads(whole["model.json"])["processes"] == 2
    train.run(with_train(by_two(), processes=1), root)
    assert outputs(root)["model.safetensors"] != whole["model.safetensors"]

    code = f"from tests.tasks.test_train import *; from pathlib import Path; train.run(by_two(), Path({str(root)!r}))"
    run = psutil.Popen([sys.executable, "-c", code], cwd=small_project.ROOT, stderr=subprocess.DEVNULL)
    while not (checkpoint_dir(root, by_two()) / "checkpoint.pt").is_file():
        assert run.poll() is None
        time.sleep(0.01)
    members = run.children(recursive=True)
    run.kill()
    run.wait()
    assert len(psutil.wait_procs(members, timeout=60)[1]) == 0
    assert train.run(by_two(), root)["resumed_at"] > 0
    assert outputs(root) == whole


def test_what_is_wrong_in_one_of_two_processes_is_said_in_one_line(root):
    with pytest.raises(StippleError, match=r"times_per_cloud is 5") as error:
        train.run(with_train(small_project.settings(times_per_cloud=5), processes=2), root)
    assert "\n" not in str(error.value)


def test_the_original_recipe_is_what_it_was():
    """One cloud a step, Adam at a constant rate, a checkpoint every 1000 steps, independent pairs."""
    train = load(small_project.ROOT).params.train
    for network, rate, parameters in (("baseline", 2e-4, 1_315_842), ("baseline-small", 5e-4, 264_194)):
        recipe = train.recipe(network)
        assert (recipe.clouds, recipe.points, recipe.checkpoint_every, recipe.steps) == (1, 1024, 1000, 20_000)
        config = fitting.config_of(recipe, seed=0)
        assert [config.learning_rate_at(step) for step in (0, 19_999)] == [rate, rate]
        assert config.coupling.__name__ == "independent" and config.ema == config.condition_dropout == 0
        network = networks.build({"name": network, "dim": 2, "condition_dim": 512})
        assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("network", ["baseline", "set-film"])
def test_other_networks_train_as_a_stage_too(root, settings, network):
    train.run(with_train(settings, network=network), root)
    assert json.loads((root / "data" / "model.json").read_text())["network"]["name"] == network


def test_batches_are_fresh_points_of_the_frames_whose_conditions_they_carry(root, settings):
    data = training_set.load(root)
    rows = training_set.rows_of(data, "train")
    draw = fitting.batches(settings.params.train.recipe("film"), data, rows)
    generator = torch.Generator().manual_seed(0)
    (first, conditions), (second, _) = draw(generator), draw(generator)
    assert first.shape == (4, 32, 2) and not torch.equal(first, second)
    owners = [*range(len(data["frame_ids"])), *(frame for frame, texts in enumerate(data["wordings"]) for _ in texts)]
    known = torch.cat([data["embeddings"], data["wording_embeddings"]])
    for cloud, condition in zip(first, conditions, strict=True):
        frame = owners[int((known - condition).norm(dim=1).argmin())]
        assert frame in rows
        nearest = torch.cdist(cloud, data["point_clouds"][frame]).amin(1)
        assert nearest.max() < 1.5


def test_without_fresh_points_batches_are_the_stored_points(root, settings):
    data = training_set.load(root)
    rows = training_set.rows_of(data, "train")
    clouds, conditions = fitting.batches(settings.params.train.recipe("baseline"), data, rows)(torch.Generator())
    frame = int((data["embeddings"] == conditions[0]).all(1).nonzero())
    stored = {tuple(point) for point in data["point_clouds"][frame].tolist()}
    assert {tuple(point) for point in clouds[0].tolist()} == stored


def test_the_loss_that_is_no_number_stops_the_run_and_names_the_step(root, settings):
    data = training_set.load(root)
    data["embeddings"][:] = float("nan")
    (root / "data" / "train_data.pt").write_bytes(dataset.serialized(data))
    with pytest.raises(StippleError, match="step 0"):
        train.run(settings, root)
    assert not (root / "data" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "recipe, says",
    [
        ({"points": 30, "times_per_cloud": 4}, "times_per_cloud is 4"),
        ({"fresh_points": False, "points": 4096}, "4096 points"),
    ],
)
def test_a_recipe_that_cannot_be_is_an_error_with_a_remedy(root, recipe, says):
    with pytest.raises(StippleError, match=says):
        train.run(small_project.settings(**recipe), root)
