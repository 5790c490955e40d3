"""The committed reader on true clouds of the demo clips, whose faces it never saw."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from demo import reader
from demo.checkpoints import scores, train_reader
from demo.faces.characters import CAST, Pose
from tasks import settings
from tests.support import ROOT

EVERY = 5  # frames; `python -m demo.checkpoints.scores` takes all
FEWER = 0.03  # what half the points may cost


Shown = tuple[dict[int, Tensor], list[dict[str, str]]]


@pytest.fixture(scope="module")
def shown() -> Shown:
    """True clouds by number of points, and the facts they show."""
    maps, true = scores.true_maps(settings.load(ROOT), root=ROOT, every=EVERY)
    clouds = {
        number: scores.density.draw(maps, torch.arange(len(true)), number, torch.Generator().manual_seed(0))
        for number in (512, reader.POINTS, 2048)
    }
    return clouds, true


@pytest.mark.parametrize(("points", "noise"), [(reader.POINTS, 0.0), (512, 0.0), (2048, 0.0), (reader.POINTS, 0.03)])
def test_true_clouds_are_read_right(shown: Shown, points: int, noise: float) -> None:
    clouds, true = shown
    blur = noise * torch.randn(clouds[points].shape, generator=torch.Generator().manual_seed(1))
    scored = scores.score_reader(clouds[points] + blur, true)
    scores.show(scored)
    for name, goal in scores.READER_GOALS.items():
        assert scored[name] >= goal - (FEWER if points < reader.POINTS else 0), name


def test_noise_is_read_at_random(shown: Shown) -> None:
    clouds, true = shown
    noise = torch.randn(clouds[reader.POINTS].shape, generator=torch.Generator().manual_seed(2))
    scored = scores.score_reader(noise, true)
    assert scored["the reader tells orientation"] < 0.6
    assert scored["the reader tells expression"] < 0.4


def test_a_cloud_in_the_mirror_looks_the_other_way(shown: Shown) -> None:
    clouds, _ = shown
    seen, turned = (reader.read(some) for some in (clouds[reader.POINTS], reader.mirrored(clouds[reader.POINTS])))
    assert turned["orientation"] == [reader.MIRRORED.get(value, value) for value in seen["orientation"]]
    assert turned["expression"] == seen["expression"]


def test_every_point_inside_counts_once_whatever_the_grid() -> None:
    clouds = torch.rand(3, 2000, 2, generator=torch.Generator().manual_seed(3)) * 5 - 2.5
    for side in (32, 96):
        total = reader.grid(clouds, side).flatten(1).sum(1)
        assert torch.allclose(total, torch.full((3,), reader.POINTS * (side / 64) ** 2 / 2), rtol=1e-4)
    corner = reader.grid(torch.tensor([[[-2.9, 2.9]]]), 4)[0, 0]  # to the left, and down
    assert corner.argmax() == 12


def test_a_fact_that_is_not_shown_clearly_is_no_truth() -> None:
    member, truth = CAST[0], json.loads((ROOT / scores.TRUTH).read_text())
    faint, aslant = Pose(-0.8, 0.0, "sad", 0.5), Pose(0.5, 0.5, "sad")
    assert reader.truth_of(member, Pose(-0.8, 0.0, "sad"))["orientation"] == "left"
    assert "expression" not in reader.truth_of(member, faint) and "orientation" not in reader.truth_of(member, aslant)
    frame = next(frame for frame in truth.values() if not frame["expression_clear"])
    assert "expression" not in reader.truth_of(member, frame)
    assert reader.truth_of(member, frame)["hair_style"] == member.hair_style


def test_the_checkpoint_is_small() -> None:
    assert (reader.FOLDER / "model.safetensors").stat().st_size <= 1.5e6


def test_training_repeats(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        train_reader.train(tmp_path / name, faces=6, steps=2, batch=16)
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert a == b
