"""What a run does, a JSON line each, in the file that STIPPLE_TRACE names.

Python imports this module by itself where its folder stands in PYTHONPATH: `stipple`, `dvc`, what they start, and what
a Prefect worker starts. The product's own code does not know of it.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import json
import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

TRACE = os.environ.get("STIPPLE_TRACE")
stage = None


def note(kind: str, **what: Any) -> None:
    line = json.dumps({"time": time.monotonic(), "pid": os.getpid(), "stage": stage, "kind": kind} | what)
    file = os.open(TRACE, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def around(owner: Any, name: str, before: Callable | None = None, after: Callable | None = None) -> None:
    """Have `before` and `after` called with the arguments of every call of `owner.name`."""
    plain = getattr(owner, name)

    @wraps(plain)
    def watched(*args: Any, **kwargs: Any) -> Any:
        if before:
            before(*args, **kwargs)
        result = plain(*args, **kwargs)
        if after:
            after(*args, **kwargs)
        return result

    setattr(owner, name, watched)


def digest(item: Any) -> str:
    return hashlib.sha256(item.encode() if isinstance(item, str) else item.tobytes()).hexdigest()


def enter(name: str, *_: Any) -> None:
    global stage
    stage = name
    note("begin")


def stages(module: Any) -> None:
    around(module, "compute", enter, lambda *_: note("computed"))


def model(name: str) -> Callable[[Any], None]:
    def watch(module: Any) -> None:
        around(
            getattr(module, name),
            "__call__",
            lambda _, inputs, *more: note("call", inputs=[digest(item) for item in inputs]),
            lambda *_: note("answer"),
        )

    return watch


def points(module: Any) -> None:
    around(module, "place", lambda pictures, **_: note("call", inputs=[key for key, _ in pictures]))


def frames(module: Any) -> None:
    around(module, "decode_source", lambda source, **_: note("call", inputs=[source.key]))


def rows(module: Any) -> None:
    around(module.RowStore, "put", None, lambda *_: note("kept"))


def files(module: Any) -> None:
    around(module, "replacing", lambda path: note("write", file=path.name))


def training(module: Any) -> None:
    around(module, "draw_example", lambda batch, config, generator, step=0: note("step", number=step))


def resume(module: Any) -> None:
    around(
        module,
        "write",
        lambda file, state: note("save", number=state["step"]),
        lambda file, state: note("saved", number=state["step"]),
    )


def comparison(module: Any) -> None:
    around(module, "judge", lambda *_: note("judge", stage="judge"))


def registry(module: Any) -> None:
    around(module, "publish", lambda *_: note("publish", stage="judge"))
    around(module, "_write", lambda *_: note("decide", stage="judge"))


def dvc(module: Any) -> None:
    for name in ("remove_outs", "save", "commit", "dump"):
        around(module.PipelineStage, name, lambda self, *_, what=f"dvc {name}", **__: note(what, stage=self.name))


WATCHED = {
    "tasks.pipeline": stages,
    "tasks.models.captioner": model("Captioner"),
    "tasks.models.summarizer": model("Summarizer"),
    "tasks.models.embedder": model("Embedder"),
    "tasks.points": points,
    "tasks.frames": frames,
    "tasks.store.rows": rows,
    "tasks.store.files": files,
    "tasks.registry.comparison": comparison,
    "tasks.registry.versions": registry,
    "fm.training": training,
    "fm._resume": resume,
    "dvc.stage": dvc,
}


class Watcher(importlib.abc.MetaPathFinder):
    """Lets a module of `WATCHED` load as it does, and then looks over its shoulder."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in WATCHED:
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, found))
        around(spec.loader, "exec_module", None, lambda module: WATCHED[name](module))
        return spec


if TRACE:
    sys.meta_path.insert(0, Watcher())
