"""The data set: rows joined by frame, split by clip, the same bytes for the same tables."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks import dataset
from tasks.clouds import density, training_set
from tasks.errors import StippleError
from tasks.store import tables
from tests.support import small_project


@pytest.fixture
def root(tmp_path):
    return small_project.make(tmp_path)


@pytest.fixture
def settings():
    return small_project.settings()


def test_holds_what_people_know_from_the_first_system_and_what_training_needs(root, settings):
    summary = dataset.run(settings, root)
    data = torch.load(root / "data" / "train_data.pt", weights_only=True)
    n = len(small_project.frame_ids())
    assert data["embeddings"].shape == (n, 512) and data["point_clouds"].shape == (n, small_project.POINTS, 2)
    assert data["num_points"] == small_project.POINTS and data["num_samples"] == n == len(data["image_paths"])
    assert data["model"] == "embedder" and data["embedder"]["revision"].startswith("sha256:")
    assert data["frame_ids"] == small_project.frame_ids()
    fresh = density.draw(data["density"], torch.arange(n), 100, torch.Generator().manual_seed(0))
    assert fresh.shape == (n, 100, 2)
    report = json.loads((root / "data" / "dataset.json").read_text())
    assert report["frames"] == summary["frames"] == n and report["clips"] == len(small_project.CLIPS)


def test_rows_meet_by_frame_whatever_their_order(root, settings):
    expected = {row["frame_id"]: row for row in tables.read(root / "data" / "embeddings.parquet")}
    small_project.change(root, "embeddings", lambda rows: rows[::-1])
    small_project.change(root, "summaries", lambda rows: rows[3:] + rows[:3])
    dataset.run(settings, root)
    data = training_set.load(root)
    for i, frame_id in enumerate(data["frame_ids"]):
        np.testing.assert_array_equal(data["embeddings"][i], expected[frame_id]["embedding"])
        assert data["summaries"][i].startswith(f"A {frame_id.partition('.')[0]}, moved {int(frame_id[-6:])} times")


def test_the_same_tables_give_the_same_bytes(root, settings):
    dataset.run(settings, root)
    first = {path.name: path.read_bytes() for path in (root / "data").glob("*.*")}
    dataset.run(settings, root)
    assert {path.name: path.read_bytes() for path in (root / "data").glob("*.*")} == first


def test_a_frame_that_a_stage_refused_is_in_quarantine_and_not_in_the_data(root, settings):
    small_project.change(root, "points", lambda rows: rows[1:])
    small_project.change(root, "summaries", lambda rows: [row for row in rows if row["frame_id"] != "bar.mp4/000001"])
    small_project.change(root, "embeddings", lambda rows: [row for row in rows if row["frame_id"] != "bar.mp4/000001"])
    summary = dataset.run(settings, root)
    refused = {r["frame_id"]: r for r in tables.read(root / "data" / "quarantine" / "dataset.parquet")}
    assert refused["circle.mp4/000000"]["reason"] == "it has no points"
    assert refused["bar.mp4/000001"]["reason"] == "it has no summary and no embedding"
    assert summary["quarantined"] == 2 and summary["frames"] == len(small_project.frame_ids()) - 2
    assert not set(refused) & set(training_set.load(root)["frame_ids"])


def test_copies_are_on_one_side_and_the_summary_and_the_report_say_so(root, settings):
    """The last file alone would be held out, by its content; the others are copies of each other."""
    digest = dict.fromkeys(small_project.CLIPS[:-1], "a")
    small_project.change(
        root,
        "frames",
        lambda rows: [row | {"source_sha256": digest.get(row["source"], row["source_sha256"])} for row in rows],
    )
    summary = dataset.run(settings, root)
    assert (summary["clips"], summary["held_out_clips"], summary["copies"], summary["in_sequences"]) == (2, 1, 3, 0)
    data, report = training_set.load(root), json.loads((root / "data" / "dataset.json").read_text())
    copies = [training_set.clip_of(frame_id) in digest for frame_id in data["frame_ids"]]
    assert {(copy, side) for copy, side in zip(copies, data["split"], strict=True)} in (
        {(True, "train"), (False, "held_out")},
        {(True, "held_out"), (False, "train")},
    )
    assert report["grouped"]["copies"] == ["square.mp4", "bar.mp4", "cross.mp4"]


def allowing(settings, share):
    section = settings.params.dataset.model_copy(update={"max_quarantined": share})
    return settings.model_copy(update={"params": settings.params.model_copy(update={"dataset": section})})


def test_too_many_frames_in_quarantine_end_the_run_and_the_table_to_look_at_is_named(root, settings):
    small_project.change(root, "summaries", lambda rows: rows[2:])  # of 13 frames
    refused = [{"frame_id": frame_id, "reason": "no words"} for frame_id in small_project.frame_ids()[:2]]
    tables.write_quarantine(root, "captions", refused)
    with pytest.raises(StippleError, match=r"2 of 13 frames .*max_quarantined: 0.15; data/quarantine/captions.parquet"):
        dataset.run(allowing(settings, 0.15), root)
    assert not (root / "data" / "train_data.pt").exists()
    assert dataset.run(allowing(settings, 0.16), root)["frames"] == 11


def test_too_many_files_in_quarantine_end_the_run(root, settings):
    tables.write_quarantine(
        root, "frames", [{"source": "bad.mp4", "reason": "is empty (0 bytes)"}]
    )  # beside 5 good ones
    with pytest.raises(StippleError, match=r"1 of 6 files are in quarantine.* 0.1; data/quarantine/frames.parquet has"):
        dataset.run(allowing(settings, 0.1), root)
    assert dataset.run(allowing(settings, 0.2), root)["frames"] == 13


def test_a_file_that_kept_frames_is_not_refused_though_a_part_of_it_is_in_quarantine(root, settings):
    torn = [{"source": clip, "reason": "is damaged from frame 9 on"} for clip in small_project.CLIPS]
    tables.write_quarantine(root, "frames", torn)
    assert dataset.run(allowing(settings, 0.0), root)["frames"] == 13


def test_no_clip_is_on_both_sides(root, settings):
    dataset.run(settings, root)
    data = training_set.load(root)
    train, held_out = (
        {training_set.clip_of(data["frame_ids"][i]) for i in training_set.rows_of(data, side)}
        for side in ("train", "held_out")
    )
    assert train and held_out and not train & held_out and train | held_out == set(small_project.CLIPS)


@given(st.sets(st.text(max_size=8), min_size=2, max_size=30), st.floats(0, 0.99))
def test_both_sides_of_the_split_have_a_clip(clips, share):
    held_out = dataset.held_out_clips({clip: clip for clip in clips}, share)
    assert 1 <= len(held_out) < len(clips) and held_out <= clips


def test_new_clips_do_not_move_old_ones():
    old, new = [{f"{name} {i}.mp4" for i in range(50)} for name in ("old", "new")]
    before = dataset.held_out_clips({clip: clip for clip in old}, 0.2)
    assert 3 <= len(before) <= 20
    assert dataset.held_out_clips({clip: clip for clip in old | new}, 0.2) & old == before


@pytest.mark.parametrize(
    "edit, says",
    [
        (lambda rows: [], "nothing to train on"),
        (lambda rows: rows[:2], "circle.mp4"),
        (lambda rows: [row | {"points": row["points"][:9]} for row in rows], "points.num_points: 64"),
    ],
)
def test_what_cannot_be_trained_on_is_an_error_with_a_remedy(root, settings, edit, says):
    small_project.change(root, "points", edit)
    with pytest.raises(StippleError, match=says):
        dataset.run(settings, root)


@pytest.mark.parametrize("table", ["points", "summaries", "embeddings"])
def test_a_missing_table_is_named_with_the_command_that_makes_it(root, settings, table):
    (root / "data" / f"{table}.parquet").unlink()
    with pytest.raises(StippleError, match=f"{table}.parquet is missing; run `stipple stage {table}`"):
        dataset.run(settings, root)


def test_a_missing_or_torn_data_set_is_named(tmp_path):
    with pytest.raises(StippleError, match=r"train_data\.pt is missing"):
        training_set.load(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train_data.pt").write_bytes(b"half a fi")
    with pytest.raises(StippleError, match=r"train_data\.pt cannot be read"):
        training_set.load(tmp_path)
