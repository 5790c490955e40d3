"""DVC's private API is as `tasks.project.dvc` uses it, and asking leaves the project as it is."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from dvc.dvcfile import Lockfile
from dvc.lock import make_lock
from dvc.output import Output
from dvc.repo import Repo
from dvc.rwlock import rwlock
from dvc.stage import PipelineStage
from dvc.stage.cache import StageCache
from typer.testing import CliRunner

from flows import cli
from tasks.errors import StippleError
from tasks.project import forecast
from tasks.store.rows import STORE, RowStore
from tests.support import ROOT

USED: list[tuple[Callable, tuple[str, ...]]] = [
    (Repo.__init__, ("root_dir", "_wait_for_lock")),
    (Repo._reset, ()),
    (PipelineStage.changed, ()),
    (PipelineStage.changed_stage, ()),
    (PipelineStage.changed_outs, ()),
    (PipelineStage.save_deps, ()),
    (PipelineStage.save_outs, ()),
    (PipelineStage.save, ()),
    (PipelineStage.commit, ()),
    (PipelineStage.dump, ("kwargs",)),
    (PipelineStage.remove_outs, ("ignore_remove", "force")),
    (PipelineStage.checkout, ("allow_missing",)),
    (PipelineStage.get_used_objs, ()),
    (Output.get_obj, ()),
    (Output.status, ()),
    (StageCache.restore, ("stage",)),
    (StageCache._load, ("stage",)),
    (StageCache._create_stage, ("cache", "wdir")),
    (StageCache._load_cache, ("key", "value")),
    (Lockfile.load, ()),
    (make_lock, ("tmp_dir",)),
    (rwlock, ("tmp_dir", "fs", "cmd", "read", "write", "hardlink")),
]


@pytest.mark.parametrize("function, parameters", USED, ids=[function.__qualname__ for function, _ in USED])
def test_dvcs_api_is_as_it_is_used(function: Callable, parameters: tuple[str, ...]) -> None:
    lacking = set(parameters) - set(inspect.signature(function).parameters)
    assert not lacking, (
        f"{function.__qualname__} of DVC {version('dvc')} takes no {', '.join(lacking)} any more: read what "
        "tasks/project/dvc.py makes of it, mend that, and only then widen the pin in pyproject.toml"
    )


def contents(folder: Path) -> dict[Path, bytes]:
    """Everything in the project that is not DVC's own scratch."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".dvc/tmp" not in str(path)}


@pytest.fixture
def root(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained project with a row store and a draft that a kill left in DVC's run cache."""
    root = shutil.copytree(trained, tmp_path / "project")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, root)
    for name in ("profiles", "tasks", "fm", "demo", "models"):
        (root / name).symlink_to(ROOT / name)
    monkeypatch.chdir(root)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "dvc"))
    Repo.init(no_scm=True).close()
    with RowStore(root / STORE) as store:
        store.put("captions", {})
    draft = root / ".dvc/cache/runs/ab/abcd/.draft.tmp"
    draft.parent.mkdir(parents=True)
    draft.write_text("half")
    return root


@pytest.mark.parametrize("question", [["status"], ["run", "--dry-run"], ["cache"]])
def test_asking_mends_nothing_and_writes_nothing(root: Path, question: list[str]) -> None:
    before = contents(root)
    answer = CliRunner().invoke(cli.app, question)
    assert answer.exit_code == 0, answer.output
    assert contents(root) == before


@pytest.mark.parametrize(
    "name, half", [("dvc.lock", "schema: '2.0'\nstages:\n  frames:\n    cmd"), (".dvc/tmp/rwlock", "")]
)
def test_a_damaged_note_of_dvc_is_named_and_left_alone_by_who_asks(root: Path, name: str, half: str) -> None:
    (root / name).write_text(half)
    with pytest.raises(StippleError, match=f"{name} is damaged; `stipple run` sets it aside"):
        forecast.stages()
    assert (root / name).read_text() == half


def test_a_damaged_row_store_is_left_to_the_next_run(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / STORE).write_bytes(b"not a database at all, but some text")
    before = contents(root)
    assert CliRunner().invoke(cli.app, ["status"]).exit_code == 0
    assert contents(root) == before
    assert "rows.sqlite is damaged" in caplog.text
