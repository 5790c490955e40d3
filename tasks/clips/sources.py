"""The media files of the input folder: which there are, what they are called in the tables, what their content is."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.clips import media
from tasks.errors import Refused, StippleError


@dataclass(frozen=True)
class Source:
    """A file of the input folder: its `name` in the tables; its row key and content, or the `reason` why not."""

    path: str
    name: str
    size: int = 0
    key: str | None = None
    reason: str | None = None
    sha256: str | None = None


def scan(folder: Path, key_of: Callable[[str], str]) -> tuple[list[Source], list[str]]:
    """The media files under `folder` in the order of their names, and the names of the other files.

    `key_of` makes a row key of a file's sha256. Links are followed; what is hidden is neither media nor counted.
    """
    if not folder.is_dir():
        raise StippleError(f"{folder} is not a folder; put videos and pictures there, or set `input` in params.yaml")
    sources: dict[str, Source] = {}
    twins: list[Source] = []
    ignored: list[str] = []
    for path in _files(folder):
        name = _name(path, folder)
        if path.suffix.lower() not in media.MEDIA:
            ignored.append(name)
        elif name in sources:
            twins.append(Source(str(path), name, reason="has a name that reads like another file's; rename it"))
        else:
            sources[name] = _source(path, name, key_of)
    if not sources:
        others = f"({len(ignored)} other files)"
        raise StippleError(
            f"{folder} has no videos or pictures {others}; put some there, or set `input` in params.yaml"
        )
    return sorted([*sources.values(), *twins], key=lambda source: source.name), ignored


def digests(folder: Path) -> dict[str, str]:
    """Name and sha256 of each media file under `folder` that can be read."""
    return {source.name: source.key for source in scan(folder, key_of=str)[0] if source.key}


def unhashable(folder: Path) -> list[str]:
    """What DVC cannot read under `folder`: no regular file, no permission, or a name that is not UTF-8."""
    return [
        path.relative_to(folder).as_posix()
        for path in _files(folder, hidden=True)
        if not path.is_file()
        or not os.access(path, os.R_OK)
        or _name(path, folder) != path.relative_to(folder).as_posix()
    ]


def _name(path: Path, folder: Path) -> str:
    """The name of `path` in the tables: another than its own where that is not UTF-8."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def _files(folder: Path, hidden: bool = False) -> Iterator[Path]:
    walked = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in walked:  # a link back into the tree
            folders.clear()
            continue
        walked.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if hidden or not name.startswith("."))
        yield from (Path(place, name) for name in sorted(files) if hidden or not name.startswith("."))


def _unreadable(error: OSError) -> None:
    remedy = "change its permissions, or move it out of the input folder"
    raise StippleError(f"{error.filename} cannot be read ({error.strerror}); {remedy}")


def _source(path: Path, name: str, key_of: Callable[[str], str]) -> Source:
    try:
        if not path.as_posix().endswith(name):
            raise Refused("has a name that is not UTF-8, so DVC cannot keep track of it; rename it")
        if not path.exists():
            raise Refused("is a link to a file that is not there")
        if not path.is_file():
            raise Refused("is not a regular file")
        if not (size := path.stat().st_size):
            raise Refused("is empty (0 bytes)")
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except Refused as refused:
        return Source(str(path), name, reason=str(refused))
    except OSError as error:
        return Source(str(path), name, reason=f"cannot be read: {error.strerror}")
    return Source(str(path), name, size, key_of(content), sha256=content)
