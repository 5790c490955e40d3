"""What `stipple models` and `stipple status` say."""

import json
import os
from datetime import datetime

import pytest

from tasks.clips import sources
from tasks.project import status
from tasks.registry import versions
from tasks.registry.versions import Judgement
from tasks.store import tables
from tests.support import small_project


def publish(root, against, chamfer, clips):
    report = {
        "against": against or "mean cloud",
        "scores": {metric: {"challenger": chamfer} for metric in ("chamfer", "sliced_w2", "retrieval")},
        "trained_on": {"frames": 20, "clips": 2},
    }
    content = {"model.safetensors": b"", "report.json": json.dumps(report).encode()}
    content["clips.json"] = json.dumps(clips).encode()
    return versions.publish(root, Judgement("question", "rules", against, None, (), {}), content)


@pytest.fixture
def root(tmp_path):
    """Champion v2 knows three files; one of them was renamed since, one changed, and one went."""
    (tmp_path / "clips").mkdir()
    for name, content in (("new name.mp4", "a"), ("changed.mp4", "b2"), ("new.mp4", "d")):
        (tmp_path / "clips" / name).write_text(content)
    publish(tmp_path, None, 0.5, {})
    sha256 = sources.digests(tmp_path / settings().params.input)
    clips = {
        "old name.mp4": {"sha256": sha256["new name.mp4"], "use": "train"},
        "changed.mp4": {"sha256": "of b", "use": "train"},
        "gone.mp4": {"sha256": "of c", "use": "held_out"},
    }
    publish(tmp_path, "v1", 0.25, clips)
    return tmp_path


def listed(root):
    return list(status.models_page(status.models(root)))


def said_of(root):
    return list(status.status_page(status.status(settings(), root)))


def settings():
    own = small_project.settings()
    return own.model_copy(update={"params": own.params.model_copy(update={"input": "clips"})})


def test_models_are_listed_with_their_scores_and_the_champion_is_marked(root):
    _, first, second, *legend = listed(root)
    today = f"{datetime.now():%Y-%m-%d}"
    assert first.split()[:6] == ["v1", today, "0.5000", "0.5000", "50%", "mean"]
    assert second.split()[:6] == ["*", "v2", today, "0.2500", "0.2500", "25%"]
    assert "lower is better" in " ".join(legend)
    versions.rollback(root)
    assert [line[0] for line in listed(root)[:3]] == [" ", "*", " "]


def test_the_date_of_a_version_is_that_of_its_folder_and_stands_in_no_file(root):
    os.utime(root / versions.FOLDER / "v1", (1.7e9, 1.7e9))
    assert "2023-11-" in listed(root)[1]


def test_of_the_last_refused_challenger_it_says_why(root):
    reasons = ("enough held-out clips: 9, asked: 8 or more", "not better by the margin: …", "not more than luck: …")
    for said in (("not good",), reasons):
        versions.refuse(root, Judgement("question", "rules", "v2", None, said, {}))
    *_, head, first, second = listed(root)
    assert head == "Refused: 2 challengers; the last one, against v2, was"
    assert (first, second) == ("  not better by the margin: …", "  not more than luck: …")
    assert status.models(root)["refused"][0] == {"against": "v2", "reasons": ["not good"]}


def test_status_knows_files_by_their_content(root):
    said = said_of(root)
    assert said == [
        "Champion: v2, trained on 2 clips, tested on 1.",
        "New since (2):",
        "  changed.mp4",
        "  new.mp4",
        "Gone since (2):",
        "  changed.mp4",
        "  gone.mp4",
        "In quarantine: nothing.",
    ]


def test_status_lists_what_is_in_quarantine(root):
    refused = [{"source": f"bad{i:02}.mp4", "reason": "is empty (0 bytes)"} for i in range(12)]
    tables.write_quarantine(root, "frames", refused)
    tables.write_quarantine(root, "captions", [{"frame_id": "a.mp4/000001", "reason": "no words"}])
    said = said_of(root)
    start = said.index("In quarantine (13):")
    assert said[start + 1] == "  a.mp4/000001: no words (captions)"
    assert said[start + 2] == "  bad00.mp4: is empty (0 bytes) (frames)"
    assert said[-1] == "  … and 3 more"


def test_without_a_champion_both_say_how_to_get_one(tmp_path):
    assert "stipple retrain" in listed(tmp_path)[0]
    assert "stipple retrain" in said_of(tmp_path)[0]
