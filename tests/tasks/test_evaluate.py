"""Evaluation: every score beside what it can be compared with, and the same bytes for the same model."""

import json
import shutil

import pytest
import torch

from tasks import evaluate
from tasks.clouds import scoring
from tasks.errors import StippleError
from tests.support import small_project


@pytest.fixture
def root(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "project")


def outputs(root):
    folder = root / "data" / "evaluation"
    return {path.name: path.read_bytes() for path in [*folder.iterdir(), root / "data" / "metrics.json"]}


def test_scores_stand_beside_floor_baseline_and_mean_cloud_and_repeat_to_the_byte(root):
    (root / "data" / "evaluation").mkdir()
    (root / "data" / "evaluation" / "of-yesterday.png").write_bytes(b"")
    evaluate.run(small_project.settings(), root)
    scores = json.loads((root / "data" / "metrics.json").read_text())
    for score in ("chamfer", "sliced_w2", "emd", "retrieval_frame", "retrieval_summary", "retrieval_clip"):
        assert {"model", "floor", "baseline", "mean_cloud"} <= scores[score].keys()
    for score in ("chamfer", "sliced_w2", "emd"):
        assert 0 < scores[score]["floor"] < scores[score]["mean_cloud"]
    assert -1 <= scores["cosine"]["min"] <= scores["cosine"]["mean"] <= scores["cosine"]["max"] <= 1
    first = outputs(root)
    assert first.keys() == {
        "gallery.png", "scores.png", "steps.png", "cosine.png", "training.png", "report.md", "metrics.json",
    }  # fmt: skip
    report = first["report.md"].decode()
    assert all(f"({name})" in report for name in first if name.endswith(".png"))
    evaluate.run(small_project.settings(), root)
    assert outputs(root) == first


def test_the_baseline_can_be_left_out(root):
    settings = small_project.settings()
    without = settings.params.evaluate.model_copy(update={"baseline_steps": 0})
    params = settings.params.model_copy(update={"evaluate": without})
    evaluate.run(settings.model_copy(update={"params": params}), root)
    assert "baseline" not in json.loads((root / "data" / "metrics.json").read_text())["chamfer"]


@pytest.mark.parametrize("name", ["train_data.pt", "training.csv", "frames.parquet", "model.safetensors"])
def test_what_is_missing_is_named(root, name):
    (root / "data" / name).unlink()
    with pytest.raises(StippleError, match=f"{name} is missing"):
        evaluate.run(small_project.settings(), root)


def clouds(n=6, points=200):
    """Rings of different sizes: two samples of each."""
    angle = torch.rand(2, n, points, generator=torch.Generator().manual_seed(0)) * 6.283
    ring = torch.stack([angle.cos(), angle.sin()], dim=-1)
    return ring * torch.linspace(0.5, 3, n).reshape(-1, 1, 1)


def test_the_truth_itself_is_at_distance_zero_and_finds_itself():
    truth, again = clouds()
    scores = scoring.distances({"truth": truth, "again": again}, truth)
    assert all(values["truth"] == 0 < values["again"] for values in scores.values())
    found = scoring.retrievals({"again": again}, truth, list("abcdef"), list("abcdef"))
    assert all(values["again"] == 1 for values in found.values())


def test_a_frame_with_the_same_text_or_of_the_same_clip_counts_as_found():
    truth, again = clouds()
    swapped = {"swapped": again[[1, 0, 3, 2, 5, 4]]}
    found = scoring.retrievals(swapped, truth, summaries=list("aabbcd"), clips=list("xxyyzz"))
    shares = {kind: (values["swapped"], values["chance"]) for kind, values in found.items()}
    assert shares == {
        "retrieval_frame": (0, pytest.approx(1 / 6, abs=1e-3)),
        "retrieval_summary": (pytest.approx(4 / 6, abs=1e-3), pytest.approx(10 / 36, abs=1e-3)),
        "retrieval_clip": (1, pytest.approx(2 / 6, abs=1e-3)),
    }
