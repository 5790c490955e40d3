"""What DVC is asked, and what it is told: the only place that talks to it.

A stage is described once, in dvc.yaml. `reproduce` does to one stage what `dvc repro` does, but the work itself is a
Python call in this process instead of a command in a new one. Both doors ask the same question, and leave the same
record.
Like `dvc` itself it works on the project in the current folder.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dvc.dependency.base import DependencyDoesNotExistError
from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException
from dvc.lock import LockError, make_lock
from dvc.repo import Repo
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK, rwlock
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError
from dvc_data.hashfile.hash_info import HashInfo

from tasks.store import rows
from tasks.store import files
from tasks.errors import StippleError

logging.getLogger("dvc").setLevel(logging.WARNING)
log = logging.getLogger("stipple.record")

CODE = Path(__file__).parent.parent


def _code() -> dict[Path, str]:
    """File → digest of the code that stages are made of."""
    files = (path for folder in ("tasks", "fm") for path in (CODE / folder).rglob("*.py"))
    return {path.relative_to(CODE): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


_imported = _code()
"""The code as it was when this process began: what it runs, whatever is saved over it meanwhile."""


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
    with _told_when_full(), _open() as repo:
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
                _check_unmoved(name, asked, _question(_stage(repo, name)))
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


@contextmanager
def earned(name: str) -> Iterator[None]:
    """A `StippleError` if a dep or param of stage `name` changes while this block does its work.

    `dvc repro` reads them after the work alone, and would record the result as theirs.
    """
    with _told_when_full():
        asked = _asked(name)
        yield
        _check_unmoved(name, asked, _asked(name))


@contextmanager
def unread(path: str) -> Iterator[None]:
    """Nobody at DVC reads `path` while this block changes it; a `StippleError` if a stage of `dvc repro` does."""
    write = [str(Path(path).absolute())]
    with _unless_busy(), _open() as repo, repo.lock, rwlock(repo.tmp_dir, repo.fs, "stipple", [], write, False):
        yield


def question(name: str) -> str:
    """A digest of what determines stage `name`'s result today: its command, its inputs' content, its parameters."""
    return rows.key(**_asked(name))


def forecast() -> list[Forecast]:
    """What the next run would do with each stage of dvc.yaml, in its order. Changes nothing.

    A stage that reads what another one is yet to compute counts as one that runs, although its input may turn out to be
    the same.
    """
    found: list[Forecast] = []
    remade: dict[str, str] = {}  # output → the stage that computes it anew
    restored: dict[str, HashInfo] = {}  # output → its content, once it is back from DVC's cache
    with _unless_busy(), _open() as repo, repo.lock:
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
                return path if path.is_file() and _sound(path) else None
    return None


def _open() -> Repo:
    try:
        repo = Repo(".", _wait_for_lock=True)
    except DvcException:
        raise StippleError(f"{Path.cwd()} is not a DVC project; run from the project's folder") from None
    _mend(repo)
    return repo


def _mend(repo: Repo) -> None:
    """Set aside notes of DVC's own that a kill or a full disk left half written; DVC would stop at each of them.

    Nothing is lost with them: what dvc.lock said is in DVC's run cache too.
    """

    def whole(path: Path) -> bool:
        try:
            Lockfile(repo, str(path.absolute())).load() if path.name == "dvc.lock" else json.loads(path.read_text())
        except FileNotFoundError:
            return True
        except (DvcException, ValueError):
            return False
        return True

    with repo.lock, make_lock(str(Path(repo.tmp_dir, RWLOCK_LOCK)), tmp_dir=repo.tmp_dir, wait=True):
        for path in (Path("dvc.lock"), Path(repo.tmp_dir, RWLOCK_FILE)):
            if not whole(path):
                log.warning("%s was damaged and is now %s", path.name, files.set_aside(path).name)
        for entry in Path(repo.stage_cache.cache_dir).glob("*/*"):
            for draft in entry.glob("*.tmp"):
                draft.unlink()
            if not any(entry.iterdir()):
                entry.rmdir()


@contextmanager
def _told_when_full() -> Iterator[None]:
    """A full disk, wherever a stage or DVC meets it, in one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StippleError(f"no space left on the disk of {Path.cwd()}; free some and run again") from None


@contextmanager
def _unless_busy() -> Iterator[None]:
    try:
        yield
    except LockError:
        raise StippleError("`dvc repro` is at work here; try again when it has ended") from None


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


def _asked(name: str) -> dict[str, str]:
    with _open() as repo, repo.lock:
        return _question(_stage(repo, name))


def _check_unmoved(name: str, asked: dict[str, str], now: dict[str, str]) -> None:
    saved = {path for path, _ in _imported.items() ^ _code().items()}
    changed = {dep for dep in asked | now if asked.get(dep) != now.get(dep)}
    changed |= {dep for dep in now if any(path.is_relative_to(dep) for path in saved)}
    if changed:
        raise StippleError(
            f"{', '.join(sorted(changed))} changed while {name} ran, so its result was not recorded; run again"
        )


def _restore(stage: PipelineStage) -> bool:
    """Bring the stage's outputs back from DVC's cache, if they are there and sound."""
    try:
        stage.repo.stage_cache.restore(stage)
    except RunCacheNotFoundError:
        return False
    stage.save_outs()
    cache = stage.repo.cache.local
    entries = {entry.value for objects in stage.get_used_objs().values() for entry in objects}
    damaged = [path for path in (Path(cache.oid_to_path(entry)) for entry in entries) if not _sound(path)]
    for path in damaged:  # DVC trusts what lies in its cache
        log.warning("%s is damaged, so %s is computed again", path, stage.name)
        path.unlink()
    if damaged:
        stage.remove_outs(ignore_remove=False, force=False)
    return not damaged


def _sound(path: Path) -> bool:
    """Has this object of DVC's cache the digest that it is named after?"""
    with path.open("rb") as file:
        return f"{path.parent.name}{path.stem}" == hashlib.file_digest(file, "md5").hexdigest()
