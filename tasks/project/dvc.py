"""DVC's Python API, as far as it is needed; no other module imports DVC.

Most of it is private to DVC, hence the minor version in pyproject.toml. Like `dvc` itself this works on the project in
the current folder.
"""

import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from dvc.dependency.base import DependencyDoesNotExistError
from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException
from dvc.lock import LockError, make_lock
from dvc.repo import Repo
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK, RWLockFileCorruptedError, rwlock
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from tasks.errors import StippleError
from tasks.store import files

logging.getLogger("dvc").setLevel(logging.WARNING)
log = logging.getLogger("stipple.dvc")


def open_repo() -> Repo:
    """The DVC project of the current folder; use it in a `with`."""
    try:
        return Repo(".", _wait_for_lock=True)
    except DvcException:
        raise StippleError(f"{Path.cwd()} is not a DVC project; run from the project's folder") from None


def load_stage(repo: Repo, name: str) -> PipelineStage:
    """Stage `name` as dvc.yaml, params.yaml and dvc.lock say at this moment."""
    with _readable(repo):
        repo._reset()
        return repo.stage.load_one(name=name)


def load_stages(repo: Repo) -> list[PipelineStage]:
    """The stages of dvc.yaml, in its order."""
    with _readable(repo):
        return repo.stage.load_file("dvc.yaml")


@contextmanager
def _readable(repo: Repo) -> Iterator[None]:
    try:
        yield
    except DvcException as error:
        if _whole(repo, Path("dvc.lock")):
            raise StippleError(f"dvc.yaml: {error}") from None
        raise StippleError("dvc.lock is damaged; `stipple run` sets it aside and goes on without it") from None


def inputs(stage: PipelineStage) -> dict[str, str]:
    """What determines the stage's result: its command, and the digests and values of its deps and params."""
    try:
        stage.save_deps()
    except DependencyDoesNotExistError as error:
        raise StippleError(f"{stage.name}: {error}; check `input` in params.yaml, or run the earlier stages") from None
    except (DvcException, OSError) as error:
        raise StippleError(f"{stage.name}: its inputs cannot be read: {error}") from None
    return {"command": str(stage.cmd)} | {str(dep): repr(dep.hash_info.value) for dep in stage.deps}


def changed(stage: PipelineStage, restored: Mapping[str, HashInfo]) -> bool:
    """Whether the stage has to be brought up to date, once the `restored` outputs of others are back."""
    back = [dep for dep in stage.deps if str(dep) in restored]
    if not back:
        return stage.changed()
    if stage.changed_stage() or stage.changed_outs():
        return True
    return any(dep.hash_info != restored[str(dep)] if dep in back else dep.status() for dep in stage.deps)


def output_files(stage: PipelineStage) -> dict[Path, str]:
    """The files that the stage's outputs consist of, and the md5 that dvc.lock, or a folder's entry, names."""
    found: dict[Path, str] = {}
    for out in stage.outs:
        content = out.get_obj()
        if isinstance(content, Tree):
            found |= {Path(str(out), *names): digest.value for names, _, digest in content}
        elif content is not None:
            found[Path(str(out))] = out.hash_info.value
    return found


def folders(stage: PipelineStage) -> list[Path]:
    """The folders that the stage depends on."""
    return [path for path in (Path(str(dep)) for dep in stage.deps) if path.is_dir()]


def remove_outputs(stage: PipelineStage) -> None:
    stage.remove_outs(ignore_remove=False, force=False)


def restore_recorded(stage: PipelineStage) -> None:
    """Put the outputs that dvc.lock names in place of what lies there."""
    remove_outputs(stage)
    if all(out.hash_info for out in stage.outs):
        stage.checkout(allow_missing=True)


def restore_cached(stage: PipelineStage) -> bool:
    """Bring the outputs for the stage's present inputs back from the run cache, if they are there and sound."""
    try:
        stage.repo.stage_cache.restore(stage)
    except RunCacheNotFoundError:
        return False
    stage.save_outs()
    damaged = [path for path in _objects(stage) if not is_sound(path)]
    for path in damaged:  # DVC trusts what lies in its cache
        log.warning("%s is damaged, so %s is computed again", path, stage.name)
        path.unlink()
    if damaged:
        remove_outputs(stage)
    return not damaged


def record(stage: PipelineStage) -> None:
    """Write the stage's inputs and outputs into dvc.lock, and the outputs into the cache."""
    stage.save()
    stage.commit()
    stage.dump(update_pipeline=False)


def cached_outputs(stage: PipelineStage, restored: dict[str, HashInfo]) -> dict[str, HashInfo] | None:
    """The outputs that the cache has for the stage's inputs, of which some are yet to be `restored`."""
    for dep in stage.deps:
        if str(dep) in restored:
            dep.hash_info = restored[str(dep)]
            dep.get_hash = partial(
                restored.get, str(dep)
            )  # `_load` would read it from the disk, where it may be missing
        else:
            try:
                dep.save()
            except (DvcException, OSError):
                return None
    entry = stage.repo.stage_cache._load(stage)
    if entry is None:
        return None
    cached = stage.repo.stage_cache._create_stage(entry, wdir=stage.wdir)
    if not (cached.outs_cached() and all(map(is_sound, _objects(cached)))):
        return None
    return {str(out): out.hash_info for out in cached.outs}


def versions() -> dict[str, list[Path]]:
    """Every version of every output that a run could bring back: its content in DVC's cache.

    These are the ones that dvc.lock names and those that the run cache remembers, until `dvc gc` removes them.
    """
    found: dict[str, set[Path]] = defaultdict(set)
    with open_repo() as repo:
        digests = [(out.def_path, out.hash_info.value) for out in repo.index.outs if out.hash_info]
        for entry in _run_cache(repo):
            for file in set(entry.iterdir()) - set(entry.glob("*.tmp")):  # DVC deletes drafts that it reads
                content = repo.stage_cache._load_cache(entry.name, file.name)
                digests += [(out["path"], out["md5"]) for out in (content or {}).get("outs", []) if "md5" in out]
        for name, digest in digests:
            path = Path(repo.cache.local.oid_to_path(digest))
            if path.is_file():
                found[name].add(path)
    return {name: sorted(paths) for name, paths in found.items()}


def previous(output: str) -> Path | None:
    """The last recorded version of an output: in the workspace, or in DVC's cache after DVC removed it from there."""
    if Path(output).is_file():
        return Path(output)
    with open_repo() as repo:
        for out in repo.index.outs:
            if out.def_path == output and out.hash_info:
                path = Path(repo.cache.local.oid_to_path(out.hash_info.value))
                return path if path.is_file() and is_sound(path) else None
    return None


def objects() -> list[Path]:
    """All that lies in DVC's cache."""
    with open_repo() as repo:
        found = sorted(Path(repo.cache.local.path).glob("??/*"))
    return [path for path in found if re.fullmatch(r"[0-9a-f]{30}(\.dir)?", path.name)]


def _objects(stage: PipelineStage) -> list[Path]:
    """The objects of DVC's cache that the stage's outputs consist of."""
    entries = {entry.value for objects in stage.get_used_objs().values() for entry in objects}
    return [Path(stage.repo.cache.local.oid_to_path(entry)) for entry in entries]


def is_sound(path: Path) -> bool:
    """Has this object of DVC's cache the digest that it is named after?"""
    return files.md5(path) == f"{path.parent.name}{path.stem}"


def _run_cache(repo: Repo) -> list[Path]:
    return sorted(Path(repo.stage_cache.cache_dir).glob("??/*"))


def write_locked(repo: Repo, path: str) -> AbstractContextManager[None]:
    """Have no stage of `dvc repro` read `path` meanwhile; LockError if one does."""
    return rwlock(repo.tmp_dir, repo.fs, "stipple", [], [str(Path(path).absolute())], False)


@contextmanager
def unless_busy() -> Iterator[None]:
    """One line where `dvc repro` is at work, or where its note of who works on what is damaged."""
    try:
        yield
    except LockError:
        raise StippleError("`dvc repro` is at work here; try again when it has ended") from None
    except RWLockFileCorruptedError:
        raise StippleError(".dvc/tmp/rwlock is damaged; `stipple run` sets it aside and goes on without it") from None


@contextmanager
def notes(repo: Repo) -> Iterator[tuple[list[Path], list[Path]]]:
    """DVC's own notes, while nobody else writes them: those that it could not read, and the run cache's folders."""
    with repo.lock, make_lock(str(Path(repo.tmp_dir, RWLOCK_LOCK)), tmp_dir=repo.tmp_dir, wait=True):
        found = (Path("dvc.lock"), Path(repo.tmp_dir, RWLOCK_FILE))
        yield [path for path in found if not _whole(repo, path)], _run_cache(repo)


def _whole(repo: Repo, path: Path) -> bool:
    try:
        Lockfile(repo, str(path.absolute())).load() if path.name == "dvc.lock" else json.loads(path.read_text())
    except FileNotFoundError:
        return True
    except (DvcException, ValueError):
        return False
    return True
