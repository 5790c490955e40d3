"""Whether bytes are those that DVC knows them by: a stage's outputs, and what lies in DVC's cache.

DVC takes what it brings out of its cache for sound, and remembers it so. What was compared here once is not read again
until it is written or linked anew.
"""

import json
from collections.abc import Iterator, Mapping
from os.path import relpath
from pathlib import Path
from typing import Any

from tasks.project import dvc
from tasks.store import files

COMPARED = Path(".stipple/compared.json")


def damaged(outputs: Mapping[Path, str]) -> list[Path]:
    """Those of `outputs` (file → md5) that have other bytes."""
    known = _known()
    unknown = {path: md5 for path, md5 in outputs.items() if known.get(str(path)) != _seen(path, md5)}
    return [path for path, md5 in unknown.items() if files.md5(path) != md5]


def remember(outputs: Mapping[Path, str]) -> None:
    """Note that each of `outputs` has its md5."""
    known = _known()
    if known != (now := known | {str(path): _seen(path, md5) for path, md5 in outputs.items()}):
        files.write(COMPARED, json.dumps(now))


def cache() -> dict[str, Any]:
    """How many objects DVC's cache has, where the damaged ones lie, and which outputs these are versions of."""
    names = {path: name for name, paths in dvc.versions().items() for path in paths}
    objects = dvc.objects()
    bad = [path for path in objects if not dvc.is_sound(path)]
    return {"objects": len(objects), "damaged": [{"path": relpath(path), "of": names.get(path)} for path in bad]}


def cache_page(found: dict[str, Any]) -> Iterator[str]:
    """What `cache` found as lines of text."""
    for one in found["damaged"]:
        yield f"{one['path']} is damaged" + (f", a version of {one['of']}" if one["of"] else "")
    if found["damaged"]:
        yield (
            f"{len(found['damaged'])} of {found['objects']} objects in DVC's cache are damaged. Remove them: "
            "`stipple run` makes again, or `dvc pull` fetches, what is needed of them."
        )
    else:
        yield f"All {found['objects']} objects in DVC's cache are sound."


def _known() -> dict[str, list[str | int]]:
    try:
        return json.loads(COMPARED.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def _seen(path: Path, md5: str) -> list[str | int]:
    return [md5, path.stat().st_ctime_ns]  # of change: a time that a copy or a link takes along does not tell
