"""What a run does, a JSON line each, in the file that STIPPLE_TRACE names.

Python imports this module by itself where its folder stands in PYTHONPATH: `stipple`, `dvc`, what they start, and what
a Prefect worker starts. The product's own code does not know of it. tests/faults/test_watch.py looks whether what is
watched is there, and `EXPECTED` in tests/faults/world.py says what of it a whole run does.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from operator import attrgetter
from typing import Any

TRACE = os.environ.get("STIPPLE_TRACE")
stage = None


@dataclass(frozen=True)
class Watch:
    """The kinds of the events before and after each call of a function, and what its arguments tell of the first."""

    before: str | None
    after: str | None = None
    tell: Callable[..., dict[str, Any]] = lambda *_, **__: {}


def note(kind: str, **what: Any) -> None:
    line = json.dumps({"time": time.monotonic(), "pid": os.getpid(), "stage": stage, "kind": kind} | what)
    file = os.open(TRACE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def watched(function: Callable[..., Any], watch: Watch) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if watch.before:
            told = watch.tell(*args, **kwargs)
            note(watch.before, **told)
        result = function(*args, **kwargs)
        if watch.after:
            note(watch.after)
        return result

    return call


def digest(item: str | bytes) -> str:
    return hashlib.sha256(item.encode() if isinstance(item, str) else item).hexdigest()


def enter(name: str, *_: Any, **__: Any) -> dict[str, Any]:
    global stage
    stage = name
    return {}


MODEL = Watch("call", "answer", lambda _, inputs, *more, **other: {"inputs": [digest(item) for item in inputs]})
WATCHED = {
    "tasks.pipeline": {"compute": Watch("begin", "computed", enter)},
    "tasks.captions": {"_ask": MODEL},
    "tasks.models.summarizer": {"Summarizer.__call__": MODEL},
    "tasks.models.embedder": {"Embedder.__call__": MODEL},
    "tasks.points": {"place": Watch("call", tell=lambda pictures, **_: {"inputs": [key for key, _ in pictures]})},
    "tasks.frames": {"decode_source": Watch("call", tell=lambda source, **_: {"inputs": [source.key]})},
    "tasks.store.rows": {"RowStore.put": Watch(None, "kept")},
    "tasks.store.files": {"replacing": Watch("write", tell=lambda path: {"file": path.name})},
    "tasks.registry.comparison": {"judge": Watch("judge", tell=partial(enter, "judge"))},
    "tasks.registry.versions": {
        "publish": Watch("publish"),
        "_write": Watch("decide"),
    },
    "fm.training": {"draw_example": Watch("step", tell=lambda batch, config, generator, step=0: {"number": step})},
    "fm._resume": {"write": Watch("save", "saved", lambda file, state: {"number": state["step"]})},
    "dvc.stage": {
        f"PipelineStage.{name}": Watch(f"dvc {name}", tell=lambda self, *_, **__: {"stage": self.name})
        for name in ("remove_outs", "save", "commit", "dump")
    },
}
"""Module → name in it → what is noted of its calls."""


class Watcher(importlib.abc.MetaPathFinder):
    """Lets a module of `WATCHED` load as it does, and then looks over its shoulder."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in WATCHED:
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, found))
        load = spec.loader.exec_module

        def load_and_watch(module: Any) -> None:
            load(module)
            for name, watch in WATCHED[module.__name__].items():
                owner, _, last = name.rpartition(".")
                owner = attrgetter(owner)(module) if owner else module
                setattr(owner, last, watched(getattr(owner, last), watch))

        spec.loader.exec_module = load_and_watch
        return spec


if TRACE:
    sys.meta_path.insert(0, Watcher())
