"""The registry: versions that never change, a pointer that is written last, and a way back."""

import hashlib
import json

import pytest

from tasks.errors import StippleError
from tasks.registry import versions
from tasks.registry.versions import Judgement

CONTENT = {"model.safetensors": b"weights", "model.json": b"{}", "report.json": b'{"scores": 1}', "clips.json": b"{}"}


def judged(against=None, question="data 1", rules="strict") -> Judgement:
    return Judgement(question, rules, against, None, ("better",), {})


@pytest.fixture
def root(tmp_path):
    """Two promotions and a refusal."""
    versions.publish(tmp_path, judged(), CONTENT)
    versions.publish(tmp_path, judged("v1", "data 2"), CONTENT | {"model.safetensors": b"better weights"})
    versions.refuse(tmp_path, judged("v2", "data 3"))
    return tmp_path


def state(root) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_nothing_was_promoted_yet(tmp_path):
    assert versions.champion(tmp_path) is None
    assert versions.settled(versions.load(tmp_path), "data", "rules") is None
    with pytest.raises(StippleError, match="no champion yet; `stipple retrain`"):
        versions.rollback(tmp_path)


def test_the_last_promoted_version_is_the_champion_and_earlier_ones_stay(root):
    assert (root / versions.champion(root)).read_bytes() == b"better weights"
    assert versions.load(root).versions == ["v1", "v2"]
    assert (root / versions.read(root, "v1") / "model.safetensors").read_bytes() == b"weights"
    assert versions.report(root, "v1") == {"scores": 1}


def test_rollback_goes_back_one_at_a_time_and_keeps_what_it_leaves(root):
    before = state(root)
    assert versions.rollback(root) == ("v2", "v1")
    assert (root / versions.champion(root)).read_bytes() == b"weights"
    changed = {name for name, content in state(root).items() if before[name] != content}
    assert changed == {"models/registry/registry.json"}
    with pytest.raises(StippleError, match="v1 is the first champion"):
        versions.rollback(root)


def test_any_version_can_be_the_champion_again(root):
    assert versions.rollback(root) == ("v2", "v1")
    assert versions.rollback(root, "v2") == ("v1", "v2")
    assert (root / versions.champion(root)).read_bytes() == b"better weights"
    assert "those of v2, the champion" in versions.settled(versions.load(root), "data 2", "strict")
    before = state(root)
    for version, says in (("v7", "there is no v7; `stipple models`"), ("v2", "v2 is the champion already")):
        with pytest.raises(StippleError, match=says):
            versions.rollback(root, version)
    assert state(root) == before


def test_the_way_back_skips_what_was_rolled_back(root):
    versions.rollback(root)
    assert versions.publish(root, judged("v1", "data 4"), CONTENT) == "v3"
    assert versions.rollback(root) == ("v3", "v1")


def test_what_was_judged_is_settled_until_data_rules_or_champion_change(root):
    def settled(question, rules="strict"):
        return versions.settled(versions.load(root), question, rules)

    assert "those of v2, the champion" in settled("data 2")
    assert "gave v1 before" in settled("data 1")
    assert "not promoted" in settled("data 3")
    assert settled("data 3", "milder") is None
    assert settled("data 4") is None
    versions.rollback(root)
    assert settled("data 3") is None
    assert "gave v2 before" in settled("data 2"), "a schedule would undo the rollback"


@pytest.mark.parametrize("dies_at", ["the folder is written", "the folder is named"])
def test_a_crash_before_the_pointer_leaves_the_champion_and_the_next_promotion_its_name(root, monkeypatch, dies_at):
    def die(*_):
        raise KeyboardInterrupt

    before = state(root)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if dies_at == "the folder is written":
            patch.setattr(versions.Path, "rename", die)
        else:
            patch.setattr(versions, "_write", die)
        versions.publish(root, judged("v2", "data 4"), CONTENT | {"model.safetensors": b"half"})
    assert state(root).items() >= before.items()
    assert versions.load(root).champion == "v2"
    assert versions.publish(root, judged("v2", "data 4"), CONTENT) == "v3"
    assert (root / versions.champion(root)).read_bytes() == b"weights"
    assert {path.name for path in (root / versions.FOLDER).iterdir()} == {"v1", "v2", "v3", "registry.json"}


@pytest.mark.parametrize("name", CONTENT)
def test_a_changed_or_missing_file_of_the_champion_is_named(root, name):
    path = root / "models" / "registry" / "v2" / name
    path.write_bytes(b"something else")
    with pytest.raises(StippleError, match=f"{name} is not what was promoted"):
        versions.champion(root)
    path.unlink()
    with pytest.raises(StippleError, match=f"{name} is missing; `dvc pull`"):
        versions.champion(root)


def test_rollback_to_a_damaged_version_changes_nothing(root):
    (root / "models" / "registry" / "v1" / "model.safetensors").unlink()
    before = state(root)
    with pytest.raises(StippleError, match="missing"):
        versions.rollback(root)
    assert state(root) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"champion": "v1"}', '{"champion": "v1", "history": [{}]}'])
def test_a_damaged_pointer_is_named_in_one_line(root, text):
    (root / versions.POINTER).write_text(text)
    with pytest.raises(StippleError, match=r"registry\.json cannot be read") as caught:
        versions.champion(root)
    assert "\n" not in str(caught.value)


def test_a_champion_that_the_history_lacks_is_named(root):
    content = json.loads((root / versions.POINTER).read_text())
    (root / versions.POINTER).write_text(json.dumps(content | {"champion": "v7"}))
    with pytest.raises(StippleError, match="knows no v7"):
        versions.champion(root)


def test_nothing_is_decided_when_the_champion_changed_meanwhile(root):
    versions.rollback(root)
    before = state(root)
    for decide in (lambda: versions.publish(root, judged("v2"), CONTENT), lambda: versions.refuse(root, judged("v2"))):
        with pytest.raises(StippleError, match="changed from v2 to v1"):
            decide()
    assert state(root) == before


def test_every_file_of_a_version_can_be_checked_from_the_pointer(root):
    history = json.loads((root / versions.POINTER).read_text())["history"]
    assert history[0]["sha256"] == {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
