"""Whole files, and folders of them, written so that nobody ever sees half of one."""

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from itertools import count
from pathlib import Path
from typing import IO

from tasks.errors import StippleError


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes `path`'s place, whole and synced, when the block ends well; else nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob(f".{escape(path.name)}.*.tmp"):  # by a run that was killed
        abandoned.unlink(missing_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StippleError(f"no space left to write {path}; free some space on that disk and run again") from None
        raise
    finally:
        draft.unlink(missing_ok=True)


def write(path: Path, content: bytes | str) -> None:
    """Put `content` in `path`'s place."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def md5(path: Path) -> str:
    """The digest by which DVC knows a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def set_aside(path: Path) -> Path:
    """Rename a damaged file to the first free `<name>.damaged-<n>` beside it, and return that."""
    aside = next(p for n in count(1) if not (p := path.with_name(f"{path.name}.damaged-{n}")).exists())
    return path.rename(aside)


def write_folder(folder: Path, files: Mapping[str, bytes | str]) -> None:
    """Make `folder` hold `files` (name → content) and no other file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write(folder / name, content)
    for path in folder.iterdir():
        if path.name not in files and path.is_file():
            path.unlink()
