"""One fault's project: a copy of the reference, what is started in it, and the verdict afterwards."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from contextlib import chdir
from typing import Any

import psutil

from tasks import embeddings
from tasks.pipeline import STAGES
from tests.faults import world
from tests.faults.world import BATCH, World

RUN, REPRO, RETRAIN = ("stipple", "run"), ("dvc", "repro"), ("stipple", "retrain")


class Trial:
    """A project that has yet to run the stages `forgotten`, and the trace of what is started in it."""

    def __init__(self, world_: World, name: str, forgotten: tuple[str, ...] = (), *, promoted: bool = True) -> None:
        self.world, self.name = world_, name
        self.project = world_.folder / name
        self.trace, self.log = world_.folder / f"{name}.jsonl", world_.folder / f"{name}.log"
        self.trace.unlink(missing_ok=True)
        shutil.copytree(world_.reference, self.project, symlinks=True, dirs_exist_ok=True)
        world.forget(self.project, forgotten)
        if not promoted:
            shutil.rmtree(self.project / "models/registry")
        self.environment = world.environment(world_.folder) | world.address(world_.folder)
        self.environment["STIPPLE_TRACE"] = str(self.trace)
        self.kept: dict[str, set[str]] = {}
        self.marked = 0
        self.finish_s: float | None = None
        self.met = ""
        self.wrong: list[str] = []

    def say(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self, *words: str, **more: str) -> psutil.Popen:
        with self.log.open("a") as log:
            print(f"$ {' '.join(words)}", file=log, flush=True)
            return psutil.Popen(
                words, cwd=self.project, env=self.environment | more, stdout=log, stderr=log, start_new_session=True
            )

    def run(self, *words: str, **more: str) -> int:
        return self.start(*words, **more).wait()

    def events(self) -> list[dict[str, Any]]:
        return world.read(self.trace)

    def mark(self) -> None:
        """The fault is over: remember what was kept until here."""
        self.kept = world.stored(self.project)
        self.marked = len(self.events())

    def finish(self, *door: str, began: float | None = None) -> None:
        """One plain rerun through `door`."""
        began = began or time.monotonic()
        code = self.run(*door)
        self.finish_s = time.monotonic() - began
        if code:
            self.wrong.append(f"`{' '.join(door)}` ended with {code}")

    def twice(self) -> Counter[str]:
        """Rows by stage, and training steps, that were computed before the fault and again after it."""
        before, after = self._computed(slice(self.marked)), self._computed(slice(self.marked, None))
        return Counter({stage: len(both) for stage in before if (both := before[stage] & after.get(stage, set()))})

    def check(self) -> None:
        """Compare with the undisturbed run: artifacts, dvc.lock, both doors, and what was computed again."""
        from dvc.repo import Repo

        from tasks.project import reproduction

        now, then = world.artifacts(self.project), self.world.files
        self.wrong += [
            f"{path} differs" for path in sorted(now.keys() | then.keys()) if now.get(path) != then.get(path)
        ]
        if world.recorded(self.project) != self.world.lock:
            self.wrong.append("dvc.lock differs")
        with chdir(self.project):
            if status := Repo(".").status():
                self.wrong.append(f"dvc status: {status}")
            if stages := Repo(".").reproduce():
                self.wrong.append(f"`dvc repro` ran {stages}")
            for name in STAGES:  # as the flow's tasks ask
                if (outcome := reproduction.reproduce(name, _nothing)) is not reproduction.Outcome.UNCHANGED:
                    self.wrong.append(f"`stipple run` would not find {name} unchanged: {outcome.value}")
        self._check_reuse()

    def _check_reuse(self) -> None:
        after = self._computed(slice(self.marked, None))
        for stage, inputs in self.world.inputs.items():
            if again := after.get(stage, set()) & {inputs[key] for key in self.kept.get(stage, ()) if key in inputs}:
                self.wrong.append(f"{stage}: {len(again)} kept rows were computed again")
        texts = BATCH * (1 + embeddings.WORDINGS)
        batch = {"points": 64, "frames": 64, "embeddings": texts, "train": world.CHECKPOINT}
        for stage, number in self.twice().items():
            if stage in STAGES and number > batch.get(stage, BATCH):
                self.wrong.append(f"{stage}: {number} rows were computed twice, more than a batch")

    def _computed(self, part: slice) -> dict[str, set[Any]]:
        found: dict[str, set[Any]] = {}
        for event in self.events()[part]:
            if event["kind"] == "call" and event["stage"] not in ("evaluate", "draw"):
                found.setdefault(event["stage"], set()).update(event["inputs"])
            elif event["kind"] == "step" and event["stage"] == "train":
                found.setdefault("train", set()).add(event["number"])
        return found


def _nothing() -> None:
    raise AssertionError("computed again")
