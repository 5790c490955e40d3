"""Drawing texts: the same text and seed give the same picture, the right way up, and nothing is cut in silence."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tasks import dataset, evaluate, train
from tasks.clouds import artifacts, density, drawing, generation, pictures
from tasks.errors import StippleError
from tests.support import clips, small_project

SETTINGS = {"steps": 3, "guidance": 1.0, "seed": 0, "points": 40}


@pytest.fixture
def root(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "project")


def generate(root, text="a circle", **changes):
    return generation.path_of(text, root, **SETTINGS | changes)[-1]


def test_the_same_text_and_seed_give_the_same_points(trained):
    first = generate(trained)
    assert first.shape == (40, 2) and first.dtype == np.float32 and np.isfinite(first).all()
    np.testing.assert_array_equal(first, generate(trained))


@pytest.mark.parametrize("change", [{"seed": 1}, {"text": "a bar"}, {"steps": 4}, {"guidance": 2.0}])
def test_each_of_text_seed_steps_and_guidance_matters(trained, change):
    assert not np.array_equal(generate(trained), generate(trained, **change))


def test_any_number_of_points(trained):
    assert generate(trained, points=2000).shape == (2000, 2)


def test_a_cloud_does_not_depend_on_what_is_drawn_beside_it(trained):
    model = generation.load(trained / artifacts.MODEL)
    conditions = torch.randn(3, 512, generator=torch.Generator().manual_seed(0))
    together = drawing.draw(model.network, conditions, alike=True, **SETTINGS)
    alone = drawing.draw(model.network, conditions[1:2], alike=True, **SETTINGS)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)


def test_writes_a_picture_points_and_the_way_from_noise(trained, tmp_path):
    paths = {name: tmp_path / "new folder" / f"a face.{name}" for name in ("png", "npy", "gif")}

    def written():
        generation.write("a circle", trained, paths["png"], npy=paths["npy"], gif=paths["gif"], **SETTINGS)
        return {name: path.read_bytes() for name, path in paths.items()}

    first = written()
    np.testing.assert_array_equal(np.load(paths["npy"]), generate(trained))
    with Image.open(paths["png"]) as picture, Image.open(paths["gif"]) as animation:
        assert picture.size[0] == picture.size[1] and picture.format == "PNG"
        assert animation.n_frames == SETTINGS["steps"] + 1
    assert written() == first


def test_a_text_that_is_too_long_is_refused_with_its_length_and_never_cut(trained):
    text = "left " * 40
    with pytest.raises(StippleError, match=r"takes \d+ tokens, but the embedder reads at most 77; shorten it"):
        generate(trained, text=text)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_refused(trained, text):
    with pytest.raises(StippleError, match="the text is empty"):
        generate(trained, text=text)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_missing_model_is_named_with_the_command_that_makes_one(root, name):
    (root / "data" / name).unlink()
    with pytest.raises(StippleError, match=rf"{name} is missing; `stipple run` trains a model"):
        generate(root)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: (data / "model.safetensors").write_bytes(b"half a fi"),
        lambda data: (data / "model.json").write_text("{"),
        lambda data: (data / "model.json").write_text(json.dumps({"network": {"name": "baseline"}})),
    ],
)
def test_a_damaged_model_ends_in_one_line(root, spoil):
    spoil(root / "data")
    with pytest.raises(StippleError, match="make no model") as caught:
        generate(root)
    assert "\n" not in str(caught.value)


def test_another_embedder_than_the_one_trained_with_is_refused(root):
    with (root / "embedder" / "config.json").open("a") as file:
        file.write("\n")
    with pytest.raises(StippleError, match="digest"):
        generate(root)


def travelled(trained, folder):
    """The model's two files under another name in a folder of their own, and what they draw at home."""
    folder.mkdir(parents=True)
    for suffix in (".safetensors", ".json"):
        shutil.copy((trained / artifacts.MODEL).with_suffix(suffix), (folder / "velocity").with_suffix(suffix))
    return folder / "velocity.safetensors", generate(trained)


def test_a_model_that_travelled_alone_says_which_embedder_to_bring_and_draws_once_it_is_beside_it(trained, tmp_path):
    model, at_home = travelled(trained, tmp_path / "elsewhere")
    with pytest.raises(StippleError, match=r"embedder embedder of the digest sha256:\w+") as caught:
        generate(tmp_path, model=model)
    assert str(caught.value).endswith(f"to {tmp_path}/elsewhere/embedder") and "\n" not in str(caught.value)
    shutil.copytree(trained / "embedder", tmp_path / "elsewhere" / "embedder")
    np.testing.assert_array_equal(generate(tmp_path, model=model), at_home)


def test_a_model_finds_the_embedder_of_its_project_from_anywhere_even_past_another_one(trained, tmp_path):
    project, here = tmp_path / "project", tmp_path / "here"
    model, at_home = travelled(trained, project / "models" / "registry" / "v1")
    (project / "params.yaml").touch()
    for root in (project, here):
        shutil.copytree(trained / "embedder", root / "embedder")
    (here / "embedder" / "config.json").write_text("{}")
    np.testing.assert_array_equal(generate(here, model=model), at_home)
    (project / "params.yaml").unlink()
    with pytest.raises(StippleError, match=rf"\({here}/embedder is another\)"):
        generate(here, model=model)


def test_a_hub_embedder_is_fetched_by_its_name_and_commit(trained, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    model, at_home = travelled(trained, tmp_path / "elsewhere")
    card = json.loads(model.with_suffix(".json").read_text())
    card["embedder"] |= {"model": "some/embedder", "revision": commit}
    model.with_suffix(".json").write_text(json.dumps(card))
    shutil.copytree(trained / "embedder", tmp_path / "hub" / "models--some--embedder" / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    np.testing.assert_array_equal(generate(tmp_path, model=model), at_home)


def test_in_colour_from_the_table_of_points_to_the_drawing(models_folder, tmp_path):
    root = small_project.make(tmp_path / "project", models_folder / "embedder")
    small_project.change(root, "points", lambda rows: [row | {"weights": painted(row["weights"])} for row in rows])
    dataset.run(small_project.settings(), root)
    train.run(small_project.settings(steps=60, ema=0.0), root)
    evaluate.run(small_project.settings(), root)
    paths = {name: tmp_path / f"drawn.{name}" for name in ("png", "npy", "gif")}
    generation.write("a circle", root, paths["png"], npy=paths["npy"], gif=paths["gif"], **SETTINGS)
    cloud = np.load(paths["npy"])
    assert cloud.shape == (40, 5)
    red, green, blue = density.levels(cloud).mean(0)
    assert red > green + 60 and red > blue + 60
    for name in ("png", "gif"):
        with Image.open(paths[name]) as picture:
            picture.seek(getattr(picture, "n_frames", 1) - 1)
            shades = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
        assert (shades[:, 0] > shades[:, 2] + 60).any()


def painted(weights):
    """The map with one colour, a red, on all of its pixels."""
    grey = np.asarray(Image.open(io.BytesIO(weights["bytes"])))
    red = np.full(grey.shape, 220, np.uint8), *[np.full(grey.shape, 40, np.uint8)] * 2
    return {"bytes": clips.png(Image.fromarray(np.dstack([*red, grey]))), "path": None}


def test_pictures_show_y_downwards_and_x_to_the_right():
    low_right = np.random.default_rng(0).uniform((1, 1), (3, 3), size=(300, 2))
    ink = np.asarray(pictures.picture(low_right, 100).convert("L")) < 128
    assert ink[60:, 60:].any() and not ink[:60].any() and not ink[:, :60].any()
