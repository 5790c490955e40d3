"""What training begins as: chosen by a retraining, part of what determines the model."""

import json

import pytest
from safetensors.torch import load_file

from tasks import train
from tasks.errors import StippleError
from tasks.registry import versions, warm_start
from tests.support import ROOT, small_project


@pytest.fixture
def root(trained, tmp_path):
    """A small project whose trained model is the champion."""
    for name in ("data/train_data.pt", "data/model.safetensors", "data/model.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    publish(tmp_path, None)
    return tmp_path


def publish(root, against, **card):
    content = {name: (root / "data" / name).read_bytes() for name in (versions.MODEL, versions.CARD)}
    content[versions.CARD] = json.dumps(json.loads(content[versions.CARD]) | card).encode()
    versions.publish(root, versions.Judgement("question", "rules", against, None, (), {}), content)


def settings(begin="champion", **train):
    own = small_project.settings(**train)
    params = own.params.model_copy(update={"retrain": own.params.retrain.model_copy(update={"start": begin})})
    return own.model_copy(update={"params": params})


def weights(root):
    return load_file(root / "data" / "model.safetensors")


def furthest(one, other):
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_training_begins_as_the_champion_and_gives_the_same_bytes_again(root):
    gentle = settings(learning_rate=1e-7, hidden_learning_rate=None)
    champion = weights(root)
    train.run(gentle, root)
    from_scratch = weights(root)
    assert warm_start.choose(gentle, root) == "as v1"
    train.run(gentle, root)
    begun = (root / "data" / "model.safetensors").read_bytes()
    assert furthest(weights(root), champion) < 1e-5 < furthest(from_scratch, champion)
    assert json.loads((root / "data" / "model.json").read_text())["start"]["version"] == "v1"
    train.run(gentle, root)
    assert (root / "data" / "model.safetensors").read_bytes() == begun


def test_a_checkpoint_of_another_start_is_not_taken_over(root):
    own = settings()
    scratch = train.run_digest(root, own)
    warm_start.choose(own, root)
    assert train.run_digest(root, own) != scratch


def test_scratch_is_the_default_and_the_way_back(root):
    assert small_project.settings().params.retrain.start == "scratch"
    warm_start.choose(settings(), root)
    assert warm_start.load(root).version == "v1"
    assert warm_start.choose(settings("scratch"), root) == "with random weights"
    assert warm_start.load(root) == warm_start.WarmStart() == warm_start.load(ROOT)


def test_what_does_not_fit_is_no_start(root):
    publish(root, "v1", network={"name": "baseline"})
    assert "v2 is another kind of network" in warm_start.choose(settings(), root)
    publish(root, "v2", embedder={"model": "another"})
    assert "v3 is another kind of network or reads with another embedder" in warm_start.choose(settings(), root)
    (root / versions.POINTER).unlink()
    assert "no champion yet" in warm_start.choose(settings(), root)
    assert warm_start.load(root) == warm_start.WarmStart()


def test_a_version_of_another_registry_is_an_error_with_a_remedy(root):
    (root / warm_start.FILE).write_text('{"version": "v1", "sha256": "of another"}')
    with pytest.raises(StippleError, match=r"models/start\.json means another v1 .* restore"):
        train.run(settings(), root)
    (root / warm_start.FILE).write_text("v1")
    with pytest.raises(StippleError, match="cannot be read"):
        train.run(settings(), root)
