"""Evaluation: every score beside what it can be compared with, and the same bytes for the same model."""

import json
import shutil

import pytest
import torch

from fm import metrics
from tasks import evaluate
from tasks.clouds import scoring, training_set
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
    scores = json.loads((root / "data" / "evaluation" / "scores.json").read_text())
    for score in ("chamfer", "sliced_w2", "emd", "retrieval_frame", "retrieval_summary", "retrieval_clip"):
        assert {"model", "floor", "baseline", "mean_cloud"} <= scores[score].keys()
    for score in ("chamfer", "sliced_w2", "emd"):
        assert 0 < scores[score]["floor"] < scores[score]["mean_cloud"]
    assert -1 <= scores["cosine"]["min"] <= scores["cosine"]["mean"] <= scores["cosine"]["max"] <= 1
    first = outputs(root)
    assert first.keys() == {
        "gallery.png", "scores.png", "steps.png", "cosine.png", "training.png", "report.md", "scores.json",
        "metrics.json",
    }  # fmt: skip
    report = first["report.md"].decode()
    assert all(f"({name})" in report for name in first if name.endswith(".png"))
    assert json.loads(first["metrics.json"]) == {
        "chamfer": scores["chamfer"]["model"],
        "energy": scores["energy"]["model"],
        "own_frame": scores["retrieval_frame"]["model"],
        "told_apart": scores["told_apart"]["model"],
    }
    assert scores["texts"]["prompts"].keys() == set(small_project.settings().params.draw.prompts)
    assert all(-1 <= near <= 1 for near, _ in scores["texts"]["prompts"].values())
    evaluate.run(small_project.settings(), root)
    assert outputs(root) == first


def test_another_frame_of_the_same_words_is_a_floor_where_there_is_one(root):
    evaluate.run(small_project.settings(), root)
    assert "same_words" not in json.loads((root / "data" / "evaluation" / "scores.json").read_text())["chamfer"]
    data = training_set.load(root)
    data["summaries"] = [name.partition(".")[0] for name in data["frame_ids"]]
    torch.save(data, root / "data" / "train_data.pt")
    evaluate.run(small_project.settings(), root)
    chamfer = json.loads((root / "data" / "evaluation" / "scores.json").read_text())["chamfer"]
    assert chamfer["floor"] < chamfer["same_words"] < chamfer["mean_cloud"]
    assert "another frame of the very same words" in (root / "data" / "evaluation" / "report.md").read_text()


def test_a_blur_is_told_apart_from_faces_though_it_is_nearer_to_them():
    """Four kinds of cloud that nothing in a text tells apart: the mean of all is nearer to each than a wrong one."""
    generator = torch.Generator().manual_seed(0)

    def kind(number, points=200):
        corner = torch.tensor([number % 2, number // 2]) * 2.0 - 1
        return torch.randn(points, 2, generator=generator) * 0.05 + corner

    def crisp(count):
        return torch.stack([kind(int(torch.randint(4, (1,), generator=generator))) for _ in range(count)])

    def blurred(count):
        return torch.stack([torch.cat([kind(number, 50) for number in range(4)]) for _ in range(count)])

    truth = crisp(24)
    chamfer = {name: metrics.chamfer(draw(24), truth).mean() for name, draw in (("crisp", crisp), ("blur", blurred))}
    assert chamfer["blur"] < chamfer["crisp"]
    energy = {
        name: scoring.energy([draw(24), draw(24)], [truth, truth]).mean()
        for name, draw in (("crisp", crisp), ("blur", blurred))
    }
    assert energy["crisp"] < energy["blur"]
    assert scoring.told_apart(crisp(24), truth) < 0.75 and scoring.told_apart(blurred(24), truth) == 1


def test_the_report_counts_the_held_out_clips_and_not_those_that_happen_to_be_drawn(root, monkeypatch):
    monkeypatch.setattr(evaluate, "FRAMES", 1)
    data = training_set.load(root)
    data["split"] = ["train" if name.startswith("circle") else "held_out" for name in data["frame_ids"]]
    torch.save(data, root / "data" / "train_data.pt")
    evaluate.run(small_project.settings(), root)
    assert "1 of 10 frames of 4 held-out clips" in (root / "data" / "evaluation" / "report.md").read_text()


def test_the_baseline_can_be_left_out(root):
    settings = small_project.settings()
    without = settings.params.evaluate.model_copy(update={"baseline_steps": 0})
    params = settings.params.model_copy(update={"evaluate": without})
    evaluate.run(settings.model_copy(update={"params": params}), root)
    assert "baseline" not in json.loads((root / "data" / "evaluation" / "scores.json").read_text())["chamfer"]


@pytest.mark.parametrize("name", ["train_data.pt", "training.csv", "frames.parquet", "model.safetensors"])
def test_what_is_missing_is_named(root, name):
    (root / "data" / name).unlink()
    with pytest.raises(StippleError, match=f"{name} is missing"):
        evaluate.run(small_project.settings(), root)
