"""Other settings for a run: they go into params.yaml first, where DVC reads them, as with `dvc exp run -S`."""

import json
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import yaml

from tasks import settings
from tasks.errors import StippleError
from tasks.store import files


def write(root: Path, values: Mapping[str, Any]) -> None:
    """Put `values` (dotted name → scalar) into params.yaml, and leave every other character of it as it was.

    They are checked first, together with what else it holds. If anything is wrong, nothing is written.
    """
    path = root / settings.PARAMS
    text = before = settings.read_text(path)
    settings.checked(text, root)
    for name, new in values.items():
        text = _with(text, name, new)
    folder = settings.checked(text, root).params.input
    if "input" in values and not (root / folder).is_dir():
        raise StippleError(f"{path}: input is {folder!r}, but there is no such folder")
    if text != before:
        files.write(path, text)


def value(params: Mapping[str, Any], name: str) -> Any:
    """What stands under the dotted `name`."""
    return reduce(getitem, name.split("."), params)


def _with(text: str, name: str, new: Any) -> str:
    if value(yaml.safe_load(text), name) == new:
        return text
    node = yaml.compose(text)
    assert node is not None  # the text was checked: it is not empty
    for part in name.split("."):
        node = next(held for key, held in node.value if key.value == part)
    scalar = json.dumps(new, ensure_ascii=False) if isinstance(new, str) else yaml.safe_dump(new).split("\n")[0]
    start, end = node.start_mark.index, node.end_mark.index
    old = text[start:end]
    return text[:start] + scalar + old[len(old.rstrip()) :] + text[end:]
