"""SIGKILL at a random moment: some time after something that the trace shows, so that any machine meets it."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import psutil

from tests.faults.trial import Trial
from tests.faults.world import World, read

LONGEST = 3.0  # seconds after the event


@dataclass(frozen=True)
class Moment:
    """`delay` seconds after event number `number` (from 1) of `kind` in `stage`."""

    stage: str
    kind: str
    number: int
    delay: float

    def __str__(self) -> str:
        return f"{self.stage}, {self.kind} {self.number} + {self.delay:.2f} s"


def moment(world: World, stage: str, rng: random.Random, working: bool = False) -> Moment:
    """A random moment of `stage`, all kinds of events alike; with `working`, while the stage's own process works.

    What `stipple run` notes for itself once DVC knows the stage is no event of `dvc repro`.
    """
    seen: dict[str, list[tuple[int, float]]] = {}
    over = False
    for event, following in pairwise(world.events):
        if over or event["stage"] != stage:
            continue
        over = event["kind"] == "dvc dump"
        if not (working and event["kind"].startswith(("dvc", "computed"))):
            spans = seen.setdefault(event["kind"], [])
            spans.append((len(spans) + 1, following["time"] - event["time"]))
    kind = rng.choice(sorted(seen))
    number, span = rng.choice(seen[kind])
    return Moment(stage, kind, number, min(LONGEST, span * rng.random()))


def await_(trial: Trial, moment: Moment, process: psutil.Popen) -> bool:
    """Wait for `moment`; False if `process` ends before."""
    while process.poll() is None:
        events = read(trial.trace)
        if sum(event["stage"] == moment.stage and event["kind"] == moment.kind for event in events) >= moment.number:
            time.sleep(moment.delay)
            return process.poll() is None
        time.sleep(0.02)
    return False


def itself(process: psutil.Popen) -> None:
    process.kill()


def child(process: psutil.Popen) -> None:
    """The stage that `dvc repro` has started."""
    stages = [p for p in process.children(recursive=True) if "stage" in p.cmdline()]
    stages[-1].kill()


def all_at_once(process: psutil.Popen) -> None:
    """As a power cut does."""
    os.killpg(process.pid, signal.SIGKILL)


def ephemeral_server(process: psutil.Popen) -> None:
    """The Prefect server that `stipple run` has started for itself."""
    next(p for p in process.children(recursive=True) if "flows.local.temporary" in p.cmdline()).kill()


def kill(
    trial: Trial, moment: Moment, door: tuple[str, ...], target: Callable[[psutil.Popen], None], rerun: tuple[str, ...]
) -> None:
    """Start `door`, kill at `moment`, let what goes on without it end, and run `rerun`."""
    trial.met = str(moment)
    process = trial.start(*door)
    if not await_(trial, moment, process):
        trial.wrong.append(f"ended before {moment}")
        return
    family = process.children(recursive=True)
    target(process)
    began = time.monotonic()
    process.wait()
    psutil.wait_procs(family)
    trial.mark()
    trial.finish(*rerun, began=began)
    trial.check()
