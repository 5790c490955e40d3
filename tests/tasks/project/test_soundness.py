"""Bytes that DVC believes and that are wrong: found in its cache, and mended where it brought them back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.project import forecast, reproduction, soundness
from tasks.project.reproduction import Outcome
from tests.support import doubling
from tests.support.doubling import damage_cache, double, forbidden

CACHE_TYPES = ("copy", "hardlink", "symlink")


@pytest.fixture(params=CACHE_TYPES)
def damaged(request: pytest.FixtureRequest, project: Path) -> Path:
    """A project whose output `dvc repro` brought back from a damaged cache, and believes."""
    doubling.dvc(project, "config", "cache.type", request.param)
    double(project)
    (project / "out.txt").unlink()
    damage_cache(project)
    doubling.dvc(project, "repro")
    assert (project / "out.txt").read_text() == "43\n"
    assert "up to date" in doubling.dvc(project, "status")
    return project


def test_what_dvc_repro_brought_back_damaged_is_computed_again(damaged: Path) -> None:
    assert [found.outcome for found in forecast.stages()] == [Outcome.COMPUTED]
    assert double(damaged) is Outcome.COMPUTED
    assert (damaged / "out.txt").read_text() == "42\n"
    assert soundness.cache()["damaged"] == []
    assert "up to date" in doubling.dvc(damaged, "status")
    assert reproduction.reproduce("double", forbidden) is Outcome.UNCHANGED


def test_a_sound_file_is_read_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    double(project)
    monkeypatch.setattr("tasks.store.files.md5", lambda path: "of other bytes")
    assert reproduction.reproduce("double", forbidden) is Outcome.UNCHANGED
    assert [found.outcome for found in forecast.stages()] == [Outcome.UNCHANGED]


def test_damaged_objects_of_the_cache_are_named_with_what_they_are_of(project: Path) -> None:
    double(project)
    assert list(soundness.cache_page(soundness.cache())) == ["All 1 objects in DVC's cache are sound."]
    cached = damage_cache(project).relative_to(project)
    assert soundness.cache() == {"objects": 1, "damaged": [{"path": str(cached), "of": "out.txt"}]}
    named, remedy = soundness.cache_page(soundness.cache())
    assert named == f"{cached} is damaged, a version of out.txt" and "Remove them: `stipple run`" in remedy
    assert cached.is_file()


def test_a_run_has_nothing_to_do_where_all_is_sound_and_only_there(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not forecast.nothing_stale(["double"])
    doubling.dvc(project, "repro")
    assert forecast.nothing_stale(["double"])
    with monkeypatch.context() as read_again:
        read_again.setattr("tasks.store.files.md5", lambda path: "of other bytes")
        assert forecast.nothing_stale(["double"])
    (project / "out.txt").unlink()
    damage_cache(project)
    doubling.dvc(project, "repro")
    assert not forecast.nothing_stale(["double"])
    double(project)
    (project / "dvc.lock").write_text("stages: [")
    assert not forecast.nothing_stale(["double"])
