"""What a run says of its stages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.pipeline import STAGES
from tasks.project.accounts import Account, closing
from tasks.project.reproduction import Outcome
from tasks.store import tables
from tests.support import small_project


def test_a_stage_is_one_line() -> None:
    counts = {"rows": 450, "computed": 440, "reused": 10, "quarantined": 4, "words_mean": 250.9, "cut": 0}
    account = Account("captions", Outcome.COMPUTED, 62.3, counts)
    assert str(account) == "captions:   454 in, 450 out, 440 computed, 10 reused, 4 quarantined, 1 min 2 s"
    counts = {"rows": 454, "sources": 70, "computed": 0, "quarantined": 2}
    assert str(Account("frames", Outcome.COMPUTED, 0.4, counts)).startswith("frames:     70 in, 454 out, 0 computed,")
    assert str(Account("draw", Outcome.RESTORED, 0.4)) == "draw:       restored from DVC's cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    small_project.make(tmp_path)
    tables.write_quarantine(tmp_path, "frames", [{"source": "bad.mp4", "reason": "is empty (0 bytes)"}])
    scores = {
        "chamfer": {"model": 0.1213, "floor": 0.056, "mean_cloud": 0.229},
        "retrieval_clip": {"model": 0.719, "chance": 0.03},
    }
    (tmp_path / "data" / "evaluation").mkdir()
    (tmp_path / "data" / "evaluation" / "scores.json").write_text(json.dumps(scores))
    grouped = {"copies": ["a.mp4", "b.mp4"], "in_sequences": [], "near_copies": ["dot.png"]}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"grouped": grouped}))
    return tmp_path


def test_the_end_of_a_run_says_what_matters_in_a_few_lines(root: Path) -> None:
    accounts = [Account(name, Outcome.COMPUTED, 1.0) for name in STAGES]
    accounts[2] = Account("captions", Outcome.COMPUTED, 40.0, {"unfamiliar_sources": 3, "cut": 2})
    assert list(closing(accounts, root)) == [
        "Done in 48 s: captions 40 s, the rest 8 s.",
        "6 files in, 13 frames out; in quarantine: 1 by frames (data/quarantine/ has the reasons).",
        "On one side of the split, as they belong together: 2 copies, 1 near copies (data/dataset.json names them).",
        "The captioner does not know the like of 3 files: what it says of them is a guess.",
        "The captioner did not come to the end of 2 captions; they stop at their last whole sentence.",
        "On held-out clips: Chamfer 0.121 (another sample of the frame 0.056, points of all frames 0.229); "
        "own clip nearest 72% (by chance 3%).",
        "Look at data/drawings/, data/evaluation/gallery.png and data/evaluation/report.md, which has all scores.",
    ]


def test_where_nothing_changed_there_is_nothing_to_say(root: Path) -> None:
    assert list(closing([Account(name, Outcome.UNCHANGED, 0.1) for name in STAGES], root)) == []
