"""What DVC is asked, and what it is told: the only place that talks to it.

A stage is described once, in dvc.yaml. `reproduce` does to one stage what `dvc repro` does, but the work itself is a
Python call in this process instead of a command in a new one. Both doors ask the same question, and leave the same
record.
Like `dvc` itself it works on the project in the current folder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from dvc.dependency.base import DependencyDoesNotExistError
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError

from tasks import rows
from tasks.errors import StippleError

logging.getLogger("dvc").setLevel(logging.WARNING)


class Outcome(Enum):
    """How a stage came to be up to date."""

    UNCHANGED = "unchanged"
    RESTORED = "restored from DVC's cache"
    COMPUTED = "computed"


def reproduce(name: str, compute: Callable[[], None]) -> Outcome:
    """Bring stage `name` of dvc.yaml up to date and record it in dvc.lock.

    `compute` is called only if neither the outputs on disk nor DVC's cache hold the result for the present deps and
    params. If it fails, or if a dep or param changes while it runs, nothing is recorded and the outputs that were
    there come back.
    """
    with _open() as repo:
        stage = _stage(repo, name)
        with repo.lock:
            if not stage.changed():
                return Outcome.UNCHANGED
            asked = _question(_stage(repo, name))
            stage.remove_outs(ignore_remove=False, force=False)
            restored = _restore(stage)
        if not restored:
            try:
                compute()
                if (now := _question(_stage(repo, name))) != asked:
                    changed = ", ".join(sorted(key for key in asked | now if asked.get(key) != now.get(key)))
                    raise StippleError(f"{changed} changed while {name} ran, so its result was not recorded; run again")
            except BaseException:
                with repo.lock:
                    stage.remove_outs(ignore_remove=False, force=False)
                    if all(out.hash_info for out in stage.outs):
                        stage.checkout(allow_missing=True)
                raise
        with repo.lock:
            stage.save()
            stage.commit()
            stage.dump(update_pipeline=False)
        return Outcome.RESTORED if restored else Outcome.COMPUTED


def question(name: str) -> str:
    """A digest of what determines stage `name`'s result today: its command, its inputs' content, its parameters."""
    with _open() as repo, repo.lock:
        return rows.key(**_question(_stage(repo, name)))


def stale() -> list[str]:
    """The stages of dvc.yaml, in its order, that have work to do or read what such a stage writes."""
    found, remade = [], set()
    with _open() as repo:
        for stage in repo.stage.load_file("dvc.yaml"):
            with repo.lock:
                if stage.changed() or any(str(dep) in remade for dep in stage.deps):
                    found.append(stage.name)
                    remade |= {str(out) for out in stage.outs}
    return found


def previous(output: str) -> Path | None:
    """The last recorded version of an output: in the workspace, or in DVC's cache after DVC removed it from there."""
    if Path(output).is_file():
        return Path(output)
    with _open() as repo:
        for out in repo.index.outs:
            if out.def_path == output and out.hash_info:
                path = Path(repo.cache.local.oid_to_path(out.hash_info.value))
                return path if path.is_file() else None
    return None


def _open() -> Repo:
    try:
        return Repo(".", _wait_for_lock=True)
    except DvcException:
        raise StippleError(f"{Path.cwd()} is not a DVC project; run from the project's folder") from None


def _stage(repo: Repo, name: str) -> PipelineStage:
    try:
        repo._reset()
        return repo.stage.load_one(name=name)
    except DvcException as error:
        raise StippleError(f"dvc.yaml: {error}") from None


def _question(stage: PipelineStage) -> dict[str, str]:
    """What determines the stage's result: its command, and the digests and values of its deps and params."""
    try:
        stage.save_deps()
    except DependencyDoesNotExistError as error:
        raise StippleError(f"{stage.name}: {error}; check `input` in params.yaml, or run the earlier stages") from None
    except (DvcException, OSError) as error:
        raise StippleError(f"{stage.name}: its inputs cannot be read: {error}") from None
    return {"command": str(stage.cmd)} | {str(dep): repr(dep.hash_info.value) for dep in stage.deps}


def _restore(stage: PipelineStage) -> bool:
    try:
        stage.repo.stage_cache.restore(stage)
    except RunCacheNotFoundError:
        return False
    return True
