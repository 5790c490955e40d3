"""What DVC cannot hash in the input folder is named in .dvcignore, so that neither door stops or hangs at it.

The frames stage looks at the folder itself and puts it into quarantine. It depends on .dvcignore, so it looks again
when something comes or goes. `dvc repro` alone looks at the folder before any code of this project runs.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from tasks.clips import sources
from tasks.errors import StippleError
from tasks.store import files

FILE = Path(".dvcignore")
START = "# Written by stipple: what DVC cannot hash in the input folder; data/quarantine/frames.parquet says why\n"
END = "# Until here\n"
NOT_UTF8 = "[!\x01-\ud7ff\ue000-\U0010ffff]"
"""A pattern for a byte of a name that is not UTF-8: Python reads these as lone surrogates."""


def pending(folders: Iterable[Path]) -> str | None:
    """What .dvcignore has to say now, None if it says so."""
    lines = [_pattern(folder, name) for folder in folders for name in sources.unhashable(folder)]
    before = FILE.read_text() if FILE.is_file() else ""
    kept = re.sub(f"{re.escape(START)}.*?{re.escape(END)}", "", before, flags=re.DOTALL)
    end = "" if kept.endswith("\n") or not kept else "\n"
    now = kept + "".join([end, START, *(f"{line}\n" for line in lines), END] if lines else [])
    return now if now != before else None


def update(folders: Iterable[Path]) -> bool:
    """Write what .dvcignore has to say; whether it said something else."""
    now = pending(folders)
    if now is not None:
        files.write(FILE, now)
    return now is not None


def _pattern(folder: Path, name: str) -> str:
    if folder.is_absolute() or ".." in folder.parts:
        raise StippleError(
            f"DVC cannot hash {str(folder / name)!r} (a name that is not UTF-8, a link to nothing, a pipe, a socket or "
            "no permission), and .dvcignore does not reach beyond the project; move it out of the input folder"
        )
    return "/" + "".join(map(_escaped, (folder / name).as_posix()))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return NOT_UTF8
    if character.isspace():
        return "[ ]" if character == " " else "?"
    return f"\\{character}" if character in "\\*?[]!#" else character
