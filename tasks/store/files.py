"""Whole files, and folders of them, written so that nobody ever sees half of one."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path

from tasks.store.tables import replacing


def write(path: Path, content: bytes | str) -> None:
    """Put `content` in `path`'s place."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


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
