"""`stipple toy`: pictures of a flow that learned a toy or a picture, and one line for what cannot be drawn."""

import logging
import re

import numpy as np
import pytest
import torch
from PIL import Image

from flows import cli
from fm import metrics, sampling, trajectories
from fm.toys import TOYS, by_class
from tasks import progress
from tasks.clouds import toy_gallery

PICTURES = {"samples.png", "trajectories.png", "velocity.png", "density.png", "why-paths-bend.png"}


@pytest.fixture
def stipple(monkeypatch, capsys, caplog, tmp_path):
    """Run the command in a folder of its own, with fewer points and coarser pictures: its exit code, stderr and log."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "stipple")
    monkeypatch.setattr("flows.logs.on_console", lambda: None)  # this process is not the command's own
    for every in ("EVERY", "SHARE"):
        monkeypatch.setattr(progress, every, 0.0)
    for name, few in {"BATCH": 128, "PAIRS": 128, "SHOWN": 128, "CELLS": 12, "GIF_POINTS": 60, "GIF_FRAMES": 3}.items():
        monkeypatch.setattr(toy_gallery, name, few)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["stipple", "toy", *words])
        with pytest.raises(SystemExit) as done:
            cli.main()
        return done.value.code, capsys.readouterr().err + caplog.text

    return run


def grey(path, pixels):
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)
    return str(path)


def read(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_toy_is_learned_and_shown(stipple, tmp_path):
    code, log = stipple("moons", "--steps", "2")
    assert code == 0 and "train, ot: 1 of 2 steps, loss " in log and "draw: 4 of 5 pictures" in log
    assert set(read(tmp_path / "toys" / "moons")) == PICTURES
    for name in PICTURES:
        with Image.open(tmp_path / "toys" / "moons" / name) as picture:
            assert min(picture.size) > 200 and len(picture.convert("L").getcolors()) > 20


def test_a_picture_is_a_density_and_moves_and_the_seed_decides_every_byte(stipple, tmp_path):
    pixels = np.full((30, 40), 255)
    pixels[10:20, 5:15] = 0
    picture = grey(tmp_path / "square.png", pixels)

    def drawn(folder, *words):
        assert stipple(picture, "--steps", "2", "--output", folder, "--gif", f"{folder}/way.gif", *words)[0] == 0
        return read(tmp_path / folder)

    first = drawn("first")
    with Image.open(tmp_path / "first" / "way.gif") as animation:
        assert animation.n_frames == 4
    assert set(first) == PICTURES | {"way.gif"}
    assert drawn("again") == first
    assert all(first[name] != content for name, content in drawn("other", "--seed", "1").items())
    assert drawn("by-chance", "--coupling", "independent")["samples.png"] != first["samples.png"]


def test_classes_are_learned_and_coloured_by_one_flow(stipple, tmp_path):
    code, log = stipple("moons", "--classes", "--steps", "2", "--gif", "way.gif")
    assert code == 0 and "train, classes: 1 of 2 steps" in log and "train, ot" not in log
    pictures = {"class-samples.png", "class-trajectories.png"}
    assert set(read(tmp_path / "toys" / "moons")) == pictures and (tmp_path / "way.gif").is_file()
    for name in pictures:
        with Image.open(tmp_path / "toys" / "moons" / name) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        red, cyan = pixels[..., 0] - pixels[..., 2] > 60, pixels[..., 2] - pixels[..., 0] > 60
        assert red.any() and cyan.any()


def test_each_class_is_drawn_under_its_own_condition():
    network = toy_gallery.learn_classes(TOYS["moons"], 2, toy_gallery.COUPLINGS["ot"], steps=100, seed=0)
    drawn = toy_gallery.follow(network, 500, 0, 2).x
    truth = by_class(TOYS["moons"], 2, 500, torch.Generator().manual_seed(0))
    right, wrong = metrics.sliced_w2(drawn, truth), metrics.sliced_w2(drawn, truth.flip(0))
    assert bool((right < 0.3 * wrong).all())


def test_dark_gets_the_points_or_light_if_wanted(tmp_path):
    pixels = np.full((30, 40), 250)
    pixels[:, :10] = 5
    path = tmp_path / "edge.png"
    grey(path, pixels)
    dark, light = (toy_gallery.picture(path, light=wanted)(500).x for wanted in (False, True))
    assert bool((dark[:, 0] < -1.5).all()) and bool((light[:, 0] > -1.5).all())


def test_what_lay_in_the_folder_stays(stipple, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert stipple("4-gaussians", "--steps", "1", "--output", ".")[0] == 0
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_flows_come_nearer_to_the_truth_than_noise_and_transport_and_reflow_are_straighter():
    flows = toy_gallery.learn(TOYS["checkerboard"], steps=100, seed=0)
    generator = torch.Generator().manual_seed(0)
    truth = TOYS["checkerboard"](1000, generator).x[None]
    noise = torch.randn(1, 1000, 2, generator=generator)
    bend = {}
    for name, flow in flows.items():
        way = sampling.sample(flow.network, None, 1000, x0=noise, steps=20, trajectory=True)
        assert float(metrics.sliced_w2(way.x, truth)) < 0.3 * float(metrics.sliced_w2(noise, truth))
        bend[name] = trajectories.straightness(way.trajectory, way.times)
    assert max(bend["ot"], bend["reflow"]) < 0.5 * bend["independent"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: "checkerbord", "'checkerbord'; the toys are checkerboard, 4-gaussians"),
        (lambda p: str(p / "missing.png"), "missing.png'; the toys are"),
        (lambda p: str(p), "no toy and no picture is called"),
        (lambda p: (p / "torn.png").write_bytes(b"\x89PNG torn") and "torn.png", "torn.png is not a .*picture"),
        (
            lambda p: (grey(p / "dark.png", np.eye(9) * 255), "--classes"),
            "dark.png has no classes; those that have are",
        ),
        (lambda p: grey(p / "white.png", np.full((9, 9), 255)), "white.png has one even tone.* nothing to draw"),
    ],
)
def test_what_cannot_be_drawn_is_named_in_one_line(stipple, tmp_path, make, reason):
    words = make(tmp_path)
    code, log = stipple(*([words] if isinstance(words, str) else words))
    assert code == 1 and log.startswith("stipple: ") and log.count("\n") == 1
    assert re.search(reason, log)
    assert not (tmp_path / "toys").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--coupling", "chance"], "no coupling is called 'chance'; there are independent, ot"),
        (["--output", "taken"], "taken"),
        (["--gif", "taken/way.gif"], "taken"),
        (["--classes", "--output", "taken"], "taken"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_trained(stipple, tmp_path, words, reason):
    (tmp_path / "taken").write_text("a file")
    code, log = stipple("moons", *words)
    assert code == 1 and log.count("\n") == 1 and reason in log
