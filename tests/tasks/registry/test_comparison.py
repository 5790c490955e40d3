"""Challenger against champion with real models: one knows the held-out figures, one draws beside the page."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from tasks import dataset
from tasks.clouds import artifacts, fitting, generation, training_set
from tasks.errors import StippleError
from tasks.registry import comparison, gate, versions
from tasks.settings import Tolerance
from tests.support import small_project


@pytest.fixture(scope="module")
def settings():
    """More clips held out than trained on, and rules that so few can meet."""
    own = small_project.settings()
    promote = own.params.promote.model_copy(update={"min_clips": 3})
    held_out = own.params.dataset.model_copy(update={"held_out": 0.7})
    params = own.params.model_copy(update={"input": "clips", "dataset": held_out, "promote": promote})
    return own.model_copy(update={"params": params})


@pytest.fixture(scope="module")
def project(settings, models_folder, tmp_path_factory) -> Path:
    """A project with its training data and two models: `knowing` was shown the held-out figures, too."""
    root = small_project.make(tmp_path_factory.mktemp("contest"), models_folder / "embedder")
    (root / "clips").mkdir()
    for clip in small_project.CLIPS:
        (root / "clips" / clip).write_text(clip)
    dataset.run(settings, root)
    data = training_set.load(root)
    for name, steps in (("knowing", 80), ("misled", 1)):
        recipe = small_project.settings(steps=steps, clouds=8).params.train.recipe("film")
        network = fitting.fit("film", recipe, data, torch.arange(len(data["split"])), seed=0).network
        if name == "misled":
            torch.nn.init.constant_(network.head.bias, 3.0)
        card = {
            "network": fitting.network_config("film", data, 0),
            "embedder": data["embedder"],
            "num_points": data["num_points"],
            "start": {"version": None, "sha256": None},
            "trained_on": {"frames": 4, "clips": 2},
        }
        (root / name).mkdir()
        (root / name / versions.MODEL).write_bytes(save(network.state_dict()))
        (root / name / versions.CARD).write_text(json.dumps(card))
    return root


@pytest.fixture
def root(project, tmp_path) -> Path:
    return shutil.copytree(project, tmp_path / "project")


def run(root: Path, settings, model: str, question: str | None = None) -> dict:
    for name in (versions.MODEL, versions.CARD):
        shutil.copy(root / model / name, root / "data" / name)
    return comparison.judge(settings, root, question or model)


def published(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in (root / versions.FOLDER).glob("v*/*")}


def test_the_first_model_is_promoted_if_it_beats_the_mean_cloud(root, settings):
    report = run(root, settings, "knowing")
    assert report["version"] == "v1" and report["against"] == comparison.MEAN_CLOUD
    assert report["scores"]["chamfer"]["challenger"] < report["scores"]["chamfer"][comparison.MEAN_CLOUD]
    assert (root / versions.champion(root)).read_bytes() == (root / "knowing" / versions.MODEL).read_bytes()
    way = generation.path_of("a circle", root, steps=2, guidance=1.0, seed=0, points=40, model=versions.champion(root))
    assert way.shape == (3, 40, 2)


def test_a_first_model_that_draws_beside_the_page_is_not(root, settings):
    report = run(root, settings, "misled")
    assert report["version"] is None and "mean cloud stays" in comparison.summary(report)
    assert versions.champion(root) is None and published(root) == {}


def test_a_worse_challenger_leaves_the_champion_as_it_was(root, settings):
    run(root, settings, "knowing")
    before = published(root)
    report = run(root, settings, "misled")
    assert report["version"] is None and report["against"] == "v1"
    assert "not better by the margin" in comparison.summary(report)
    assert published(root) == before and versions.load(root).champion == "v1"


def test_a_better_challenger_replaces_the_champion_and_rollback_brings_it_back(root, settings):
    run(root, settings, "knowing")
    content = {name: (root / "misled" / name).read_bytes() for name in (versions.MODEL, versions.CARD)}
    content |= {versions.CLIPS: b"{}", versions.REPORT: b"{}"}
    versions.publish(root, versions.Judgement("question", "rules", "v1", None, (), {}), content)
    report = run(root, settings, "knowing", "better")
    assert report["version"] == "v3" and report["against"] == "v2"
    assert versions.rollback(root) == ("v3", "v2")


def test_a_blur_wins_by_distance_and_loses_by_the_energy_score():
    """A text leaves open where its ring lies: one model draws a ring, another the average of all rings."""
    generator = torch.Generator().manual_seed(0)

    def rings(points_a_ring: int) -> torch.Tensor:
        angle = 2 * torch.pi * torch.rand(128, 256, 1, generator=generator)
        middle = 0.2 * torch.randn(128, 256 // points_a_ring, 2, generator=generator)
        ring = torch.cat([angle.cos(), angle.sin()], dim=-1)
        return ring + middle.repeat_interleave(points_a_ring, dim=1)

    truth = rings(256)
    truths, crisp, blurred, floor = [truth] * 2, [rings(256), rings(256)], [rings(1), rings(1)], [truth, truth]
    texts, clips = ["a ring"] * 128, tuple(map(str, range(128)))
    one, other, best = (
        gate.Scores(clips, comparison.scored(drawn, truths, texts)) for drawn in (blurred, crisp, floor)
    )
    rules = small_project.settings().params.promote
    rules = rules.model_copy(update={"tolerance": Tolerance(energy=1, chamfer=1, sliced_w2=1, retrieval=1)})
    by_distance, by_energy = (rules.model_copy(update={"metric": metric}) for metric in ("chamfer", "energy"))
    assert gate.decide(one, other, best, by_energy).promote and not gate.decide(other, one, best, by_energy).promote
    assert gate.decide(other, one, best, by_distance).promote and not gate.decide(one, other, best, by_distance).promote


def test_both_meet_the_same_frames_and_noise_and_every_run_the_same(root, settings):
    run(root, settings, "knowing")
    again = run(root, settings, "knowing", "again")
    for scores in again["scores"].values():
        assert scores["challenger"] == scores["champion"]
    assert run(root, settings, "misled") == run(root, settings, "misled", "once more")


def test_what_was_judged_is_not_judged_again_until_the_rules_change(root, settings):
    run(root, settings, "misled", "question")
    assert "not promoted" in versions.nothing_new(settings, root, "question")
    assert versions.nothing_new(settings, root, "another question") is None
    milder = settings.params.promote.model_copy(update={"margin": 0.01})
    params = settings.params.model_copy(update={"promote": milder})
    assert versions.nothing_new(settings.model_copy(update={"params": params}), root, "question") is None


def test_clips_that_the_champion_was_trained_on_test_nobody(root, settings):
    """Known by content: a clip that was renamed changes sides of the split, but not what was seen."""
    data = training_set.load(root)
    clips = comparison.clips_of(settings, root, data)
    assert {clip["use"] for clip in clips.values()} == {"train", "held_out"}
    held_out = sorted(name for name, clip in clips.items() if clip["use"] == "held_out")
    rows = comparison.unseen(data, clips, {clips[held_out[0]]["sha256"], "of a clip that went"}, 100)
    assert sorted({training_set.clip_of(data["frame_ids"][i]) for i in rows}) == held_out[1:]
    with pytest.raises(StippleError, match="trained on every clip that is held out"):
        comparison.unseen(data, clips, {clip["sha256"] for clip in clips.values()}, 100)


def test_what_belongs_to_a_clip_that_was_trained_on_tests_nobody(root, settings):
    data = training_set.load(root)
    clips = comparison.clips_of(settings, root, data)
    first, second, third = sorted(name for name, clip in clips.items() if clip["use"] == "held_out")[:3]
    joined = data["clips"][data["frame_ids"].index(f"{second}/000000")]
    data["clips"] = [
        joined if training_set.clip_of(frame_id) in (first, second) else clip
        for frame_id, clip in zip(data["frame_ids"], data["clips"], strict=True)
    ]
    rows = comparison.unseen(data, clips, {clips[first]["sha256"]}, 100)
    assert {training_set.clip_of(data["frame_ids"][i]) for i in rows}.isdisjoint({first, second})
    rows = comparison.unseen(data, clips, {joined}, 100)
    assert third in {training_set.clip_of(data["frame_ids"][i]) for i in rows}
    assert {training_set.clip_of(data["frame_ids"][i]) for i in rows}.isdisjoint({first, second})


def test_what_the_challenger_began_as_has_seen_its_clips_too(root, settings):
    """v1 was trained on a clip that is held out today; v2 began as v1 and is not the champion any more."""
    held_out = comparison.clips_of(settings, root, training_set.load(root))
    name = next(name for name, clip in held_out.items() if clip["use"] == "held_out")
    content = {part: (root / "knowing" / part).read_bytes() for part in (versions.MODEL, versions.CARD)}
    lineage: dict = {"version": None, "sha256": None}
    for version, clips in (("v1", {"then.mp4": held_out[name] | {"use": "train"}}), ("v2", {})):
        card = json.loads(content[versions.CARD]) | {"start": lineage}
        content |= {versions.CARD: json.dumps(card).encode(), versions.CLIPS: json.dumps(clips).encode()}
        against = versions.load(root).champion
        versions.publish(root, versions.Judgement("question", "rules", against, None, (), {}), content)
        lineage = {"version": version, "sha256": None}
    (root / "misled" / versions.CARD).write_text(json.dumps(card | {"start": lineage}))
    report = run(root, settings, "misled")
    assert report["start"] == "v2" and "beginning as v2" in comparison.markdown(report)
    assert report["held_out"]["clips"] == [clip["use"] for clip in held_out.values()].count("held_out") - 1


def test_a_champion_of_another_embedder_hears_the_texts_from_its_own(root, settings):
    """The figures' embeddings are random; a card that names another embedder makes it read the texts instead."""
    data = training_set.load(root)
    frames = training_set.rows_of(data, training_set.HELD_OUT)
    shutil.copytree(root / "knowing", root / "data", dirs_exist_ok=True)
    card = json.loads((root / "knowing" / versions.CARD).read_text())
    card["embedder"]["batch_size"] += 1
    (root / "knowing" / versions.CARD).write_text(json.dumps(card))

    def measured() -> list[np.ndarray]:
        scores = comparison.measure(settings, root, data, frames, Path("knowing") / versions.MODEL)
        return [scores[name].values["chamfer"] for name in ("challenger", "champion")]

    as_stored, as_read = measured()
    assert not np.allclose(as_stored, as_read)
    embedder = generation.embedder_of(generation.load(root / artifacts.MODEL), root)
    data["embeddings"] = generation.embed(data["summaries"], embedder)
    np.testing.assert_allclose(*measured(), rtol=1e-3)


def test_a_clip_that_left_during_the_run_is_named(root, settings):
    (root / "clips" / small_project.CLIPS[0]).unlink()
    with pytest.raises(StippleError, match=r"circle\.mp4 left the input folder"):
        run(root, settings, "knowing")
    assert versions.champion(root) is None
