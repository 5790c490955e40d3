"""What DVC is asked, and what it is told: the only place that talks to it.

A stage is described once, in dvc.yaml. `reproduce` does to one stage what `dvc repro` does, but the work itself is a
Python call in this process instead of a command in a new one. Both doors ask the same question, and leave the same
record.
Like `dvc` itself it works on the project in the current folder.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dvc.dependency.base import DependencyDoesNotExistError
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError
from dvc_data.hashfile.hash_info import HashInfo

from tasks import rows
from tasks.errors import StippleError

logging.getLogger("dvc").setLevel(logging.WARNING)


class Fate(Enum):
    """What the next run would do with a stage."""

    UNCHANGED = "unchanged"
    RESTORED = "restored from DVC's cache"
    RUNS = "runs"


@dataclass(frozen=True)
class Forecast:
    """A stage's fate, and the earlier stages that run and whose results it reads."""

    stage: str
    fate: Fate
    after: tuple[str, ...] = ()


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


def forecast() -> list[Forecast]:
    """What the next run would do with each stage of dvc.yaml, in its order. Changes nothing.

    A stage that reads what another one is yet to compute counts as one that runs, although its input may turn out to be
    the same.
    """
    found: list[Forecast] = []
    remade: dict[str, str] = {}  # output → the stage that computes it anew
    restored: dict[str, HashInfo] = {}  # output → its content, once it is back from DVC's cache
    with _open() as repo, repo.lock, _unless_busy():
        for stage in repo.stage.load_file("dvc.yaml"):
            makers = {remade[str(dep)] for dep in stage.deps if str(dep) in remade}
            after = tuple(known.stage for known in found if known.stage in makers)
            back = any(str(dep) in restored for dep in stage.deps)
            if not after and not back and not stage.changed():
                found.append(Forecast(stage.name, Fate.UNCHANGED))
                continue
            content = None if after else _cached(stage, restored)
            if content is None:
                remade |= dict.fromkeys(map(str, stage.outs), stage.name)
                found.append(Forecast(stage.name, Fate.RUNS, after))
            else:
                restored |= content
                found.append(Forecast(stage.name, Fate.RESTORED))
    return found


def _cached(stage: PipelineStage, restored: dict[str, HashInfo]) -> dict[str, HashInfo] | None:
    """The outputs that DVC's cache has for the stage's inputs, of which some are yet to be `restored`."""
    for dep in stage.deps:
        if str(dep) in restored:
            dep.hash_info = restored[str(dep)]
        else:
            try:
                dep.save()
            except (DvcException, OSError):
                return None
    entry = stage.repo.stage_cache._load(stage)
    if entry is None:
        return None
    cached = stage.repo.stage_cache._create_stage(entry, wdir=stage.wdir)
    return {str(out): out.hash_info for out in cached.outs} if cached.outs_cached() else None


def versions() -> dict[str, list[Path]]:
    """Every version of every output that a run could bring back: its content in DVC's cache.

    These are the ones that dvc.lock names and those that the run cache remembers, until `dvc gc` removes them.
    """
    found: dict[str, set[Path]] = defaultdict(set)
    with _open() as repo:
        digests = [(out.def_path, out.hash_info.value) for out in repo.index.outs if out.hash_info]
        for file in Path(repo.stage_cache.cache_dir).glob("??/*/*"):
            entry = repo.stage_cache._load_cache(file.parent.name, file.name)
            digests += [(out["path"], out["md5"]) for out in (entry or {}).get("outs", []) if "md5" in out]
        for name, digest in digests:
            path = Path(repo.cache.local.oid_to_path(digest))
            if path.is_file():
                found[name].add(path)
    return {name: sorted(paths) for name, paths in found.items()}


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


@contextmanager
def _unless_busy() -> Iterator[None]:
    try:
        yield
    except LockError:
        raise StippleError("`dvc repro` is at work here, so what remains to do is not known yet; ask again") from None


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
