"""Bringing a stage up to date, and what DVC is asked and told of it.

A stage is described once, in dvc.yaml. `reproduce` does to one stage what `dvc repro` does, but the work itself is a
Python call in this process instead of a command in a new one. Both doors ask the same question, and leave the same
record.
"""

import errno
import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from tasks.errors import StippleError
from tasks.project import dvc, ignoring, soundness
from tasks.project.mending import mend
from tasks.store.digests import digest_of

log = logging.getLogger("stipple.dvc")

CODE = Path(__file__).parents[2]


def _code() -> dict[Path, str]:
    """File → digest of the code that stages are made of."""
    found = (path for folder in ("tasks", "fm") for path in (CODE / folder).rglob("*.py"))
    return {path.relative_to(CODE): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


_imported = _code()
"""The code as it was when this process began: what it runs, whatever is saved over it meanwhile."""


class Outcome(Enum):
    """How a stage comes to be up to date."""

    UNCHANGED = "unchanged"
    RESTORED = "restored from DVC's cache"
    COMPUTED = "computed"


def reproduce(name: str, compute: Callable[[], None]) -> Outcome:
    """Bring stage `name` of dvc.yaml up to date and record it in dvc.lock.

    `compute` is called only if neither the outputs on disk nor DVC's cache hold the result for the present deps and
    params. If it fails, or if a dep or param changes while it runs, nothing is recorded and the outputs that were
    there come back.
    """
    with _told_when_full(), dvc.open_repo() as repo:
        mend(repo)
        stage = _load(repo, name)
        with repo.lock:
            if not stage.changed():
                outputs = dvc.output_files(stage)
                damaged = soundness.damaged(outputs)
                if not damaged:
                    soundness.remember(outputs)
                    return Outcome.UNCHANGED
                log.warning("%s: damaged, so it is brought back", ", ".join(map(str, damaged)))
            asked = dvc.inputs(_load(repo, name))
            dvc.remove_outputs(stage)
            restored = dvc.restore_cached(stage)
        if not restored:
            try:
                compute()
                _check_unchanged(name, asked, dvc.inputs(_load(repo, name)))
            except BaseException:
                with repo.lock:
                    dvc.restore_recorded(stage)
                raise
        with repo.lock:
            dvc.record(stage)
            soundness.remember(dvc.output_files(stage))
        return Outcome.RESTORED if restored else Outcome.COMPUTED


@contextmanager
def verify_unchanged(name: str) -> Iterator[None]:
    """A `StippleError` if a dep or param of stage `name` changes while this block does its work.

    `dvc repro` reads them after the work alone, and would record the result as theirs.
    """
    with _told_when_full():
        asked = _inputs(name)
        yield
        _check_unchanged(name, asked, _inputs(name))


@contextmanager
def write_locked(path: str) -> Iterator[None]:
    """Nobody at DVC reads `path` while this block changes it; a `StippleError` if a stage of `dvc repro` does."""
    with dvc.unless_busy(), dvc.open_repo() as repo:
        mend(repo)
        with repo.lock, dvc.write_locked(repo, path):
            yield


def question(name: str) -> str:
    """A digest of what determines stage `name`'s result today: its command, its inputs' content, its parameters."""
    return digest_of(**_inputs(name))


def _inputs(name: str) -> dict[str, str]:
    with dvc.open_repo() as repo, repo.lock:
        return dvc.inputs(_load(repo, name))


def _load(repo: dvc.Repo, name: str) -> dvc.PipelineStage:
    """Stage `name`, after .dvcignore was told what in its folders DVC must not touch."""
    stage = dvc.load_stage(repo, name)
    folders = dvc.folders(stage)  # the frames stage alone has one
    return dvc.load_stage(repo, name) if folders and ignoring.update(folders) else stage


def _check_unchanged(name: str, asked: dict[str, str], now: dict[str, str]) -> None:
    saved = {path for path, _ in _imported.items() ^ _code().items()}
    changed = {dep for dep in asked | now if asked.get(dep) != now.get(dep)}
    changed |= {dep for dep in now if any(path.is_relative_to(dep) for path in saved)}
    if changed:
        raise StippleError(
            f"{', '.join(sorted(changed))} changed while {name} ran, so its result was not recorded; run again"
        )


@contextmanager
def _told_when_full() -> Iterator[None]:
    """A full disk, wherever a stage or DVC meets it, in one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StippleError(f"no space left on the disk of {Path.cwd()}; free some and run again") from None
