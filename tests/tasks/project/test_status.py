"""What `stipple models` and `stipple status` say."""

import json

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


def settings():
    own = small_project.settings()
    return own.model_copy(update={"params": own.params.model_copy(update={"input": "clips"})})


def test_models_are_listed_with_their_scores_and_the_champion_is_marked(root):
    _, first, second = status.models(root)
    assert first.split()[:5] == ["v1", "0.5000", "0.5000", "50%", "mean"]
    assert second.split()[:5] == ["*", "v2", "0.2500", "0.2500", "25%"]
    versions.rollback(root)
    assert [line[0] for line in status.models(root)] == [" ", "*", " "]


def test_status_knows_files_by_their_content(root):
    said = list(status.status(settings(), root))
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
    said = list(status.status(settings(), root))
    start = said.index("In quarantine (13):")
    assert said[start + 1] == "  a.mp4/000001: no words (captions)"
    assert said[start + 2] == "  bad00.mp4: is empty (0 bytes) (frames)"
    assert said[-1] == "  … and 3 more"


def test_without_a_champion_both_say_how_to_get_one(tmp_path):
    assert "stipple retrain" in next(status.models(tmp_path))
    assert "stipple retrain" in next(status.status(settings(), tmp_path))
