"""Which checkpoint exactly: hub name or local folder, pinned revision, and the string that names it in row keys.

A hub model is pinned by its commit; where a profile names a branch, `models/hub.json` says which commit that is. A
local folder is pinned by the digest of its files, checked before it is loaded.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from tasks.errors import StippleError
from tasks.settings import Checkpoint, Pinned

RESOLVED = Path("models/hub.json")
"""Branches and tags of hub models → commits, as `tasks.models.hub` has looked them up."""

log = logging.getLogger("stipple.checkpoints")


@dataclass(frozen=True)
class Located:
    """What `from_pretrained` needs to find exactly one checkpoint: a folder, or a hub name with its commit."""

    name: str
    revision: str | None  # commit, None for a folder
    digest: str  # "sha256:…" of a folder, the commit of a hub model

    def arguments(self) -> dict[str, Any]:
        """Arguments for every `from_pretrained`: this revision, and never code from the checkpoint."""
        pin = {} if self.revision is None else {"revision": self.revision}
        return {"pretrained_model_name_or_path": self.name, "trust_remote_code": False, **pin}


def locate(checkpoint: Pinned, root: Path = Path()) -> Located:
    """Find the checkpoint and check its pin: a folder against its digest, a hub branch resolved to today's commit."""
    folder = root / checkpoint.model
    if folder.is_dir():
        digest = folder_digest(folder)
        if checkpoint.revision not in (None, digest):
            raise StippleError(
                f"{folder}: its files have the digest {digest}, but the profile pins {checkpoint.revision}; "
                f"restore the folder with git, or write the new digest into the profile if the change is meant"
            )
        if checkpoint.revision is None:
            _mention_pin(checkpoint.model, digest)
        return Located(str(folder), None, digest)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", checkpoint.model) or (checkpoint.revision or "").startswith("sha256:"):
        raise StippleError(f"{folder} is missing; restore it with git (`make demo-models` trains the demo's own)")
    if checkpoint.revision is None:
        raise StippleError(
            f"{checkpoint.model} comes from the hub, and the profile gives no revision; write its commit"
        )
    commit = commit_of(checkpoint, root)
    return Located(checkpoint.model, commit, commit)


def commit_of(checkpoint: Pinned, root: Path) -> str:
    """The commit of a hub model, of whose branch or tag `RESOLVED` has it."""
    revision = checkpoint.revision or ""
    commit = revision if is_commit(revision) else resolved(root).get(branch(checkpoint))
    if commit is None:
        raise StippleError(
            f"{checkpoint.model}: its revision {revision!r} is no commit, and {root / RESOLVED} does not say which one "
            "it means; `stipple models pull` looks that up, as `stipple run` does"
        )
    return commit


def branch(checkpoint: Pinned) -> str:
    """What a branch or tag of a hub model is called in `RESOLVED`."""
    return f"{checkpoint.model}@{checkpoint.revision}"


def resolved(root: Path) -> dict[str, str]:
    """What `RESOLVED` says."""
    path = root / RESOLVED
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StippleError(f"{path} cannot be read ({error}); restore it with git") from None


def folder(checkpoint: Pinned, root: Path = Path()) -> Path:
    """Where a checkpoint that has to be a local folder lies; its pin is checked."""
    found = locate(checkpoint, root)
    if found.revision is not None:
        raise StippleError(f"{checkpoint.model} is on the hub, but only a local folder will do; download it there")
    return Path(found.name)


def first_with(checkpoint: Checkpoint, places: Iterable[Path]) -> Path | None:
    """The first of `places` under which the checkpoint's folder is, with the digest that it is pinned by."""
    for place in places:
        folder = place / checkpoint.model
        if folder.is_dir() and folder_digest(folder) == checkpoint.revision:
            return place
    return None


def identity(checkpoint: Checkpoint, root: Path = Path()) -> str:
    """What a row key needs to know of a checkpoint: content, precision, quantization. Not where it lies."""
    found = locate(checkpoint, root)
    name = found.digest if found.revision is None else f"{found.name}@{found.digest}"
    return f"{name} {checkpoint.dtype} {getattr(checkpoint, 'quantization', None) or 'unquantized'}"


def is_commit(revision: str) -> bool:
    """Whether `revision` is a full commit hash, which never moves, and not a branch or a tag."""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


@lru_cache
def _mention_pin(model: str, digest: str) -> None:
    log.warning('%s is not pinned, so a change of its files goes unnoticed; write revision: "%s"', model, digest)


def unreachable(model: str, error: Exception) -> StippleError:
    """The error for a checkpoint that cannot be fetched or read."""
    reason = " ".join(str(error).split())[:200]
    return StippleError(
        f"{model} cannot be loaded ({type(error).__name__}: {reason}); if it has to come from the hub, go online once, "
        f"or choose a profile whose models are here, such as `profile: demo` in params.yaml"
    )


def folder_digest(folder: Path) -> str:
    """sha256 over names and contents of a checkpoint's files; its model card (*.md) and hidden files do not count."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".md" and p.name[0] != ".")
    stats = tuple((p.relative_to(folder).as_posix(), p.stat().st_size, p.stat().st_mtime_ns) for p in paths)
    return _folder_digest(folder, stats)


@lru_cache
def _folder_digest(folder: Path, stats: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, _, _ in stats:
        with (folder / name).open("rb") as file:
            digest.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def card(checkpoint: Checkpoint, root: Path = Path()) -> dict[str, Any]:
    """The metadata at the head of a local checkpoint's model card, {} where there is none."""
    path = root / checkpoint.model / "README.md"
    parts = path.read_text(encoding="utf-8").split("---\n", 2) if path.is_file() else []
    return (yaml.safe_load(parts[1]) or {}) if len(parts) == 3 and not parts[0] else {}
