"""Which faults there are, by name. A name also seeds its fault's moment, so the same name is the same fault."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tasks.pipeline import ROW_STAGES, STAGES
from tests.faults import damage, kills, served
from tests.faults.damage import Skipped as Skipped
from tests.faults.trial import REPRO, RETRAIN, RUN, Trial
from tests.faults.world import World


@dataclass(frozen=True)
class Fault:
    """`do(world, name, rng)` puts it into a run through `door`, reruns through `rerun`, and returns what it saw."""

    do: Callable[[World, str, random.Random], Trial]
    door: str
    rerun: str


def _kill(world: World, name: str, rng: random.Random, *, stage, door, target, rerun, forgotten) -> Trial:
    trial = Trial(world, name, forgotten, promoted=door != RETRAIN)
    if target is kills.ephemeral_server:
        del trial.environment["PREFECT_API_URL"]
    moment = kills.moment(world, stage, rng, working=target is kills.child)
    kills.kill(trial, moment, door, target, rerun)
    return trial


def _around(world: World, name: str, rng: random.Random, *, stage, fault, **how) -> Trial:
    trial = Trial(world, name, (stage,), promoted=fault is not served.deployment)
    fault(trial, kills.moment(world, stage, rng, working=True), **how)
    return trial


def _harm(world: World, name: str, rng: random.Random, *, fault, forgotten=(), **how) -> Trial:
    trial = Trial(world, name, forgotten)
    seeded = {"rng": rng} if "rng" in fault.__annotations__ else {}
    fault(trial, **seeded, **how)
    return trial


def _all() -> dict[str, Fault]:
    found: dict[str, Fault] = {}
    number = dict.fromkeys(("run", "dvc", "child", "all", "retrain", "server"), 0)

    def add(name: str, do: Callable, door: tuple[str, ...], rerun: tuple[str, ...]) -> None:
        found[name] = Fault(do, " ".join(door), " ".join(rerun))

    def kill(who: str, target: Callable, stage: str, door, rerun=None, forgotten=None) -> None:
        number[who] += 1
        rerun = rerun or door
        options = {"stage": stage, "door": door, "target": target, "rerun": rerun, "forgotten": forgotten or (stage,)}
        add(f"kill-{who}-{number[who]:02}", partial(_kill, **options), door, rerun)

    for stage in STAGES:
        kill("run", kills.itself, stage, RUN)
        kill("dvc", kills.itself, stage, REPRO)
        kill("child", kills.child, stage, REPRO)
    for stage in ROW_STAGES:
        kill("run", kills.itself, stage, RUN)
        kill("run", kills.itself, stage, RUN, REPRO)
    for stage in ("captions", "train"):
        kill("run", kills.itself, stage, RUN, forgotten=tuple(STAGES))
        kill("run", kills.itself, stage, RUN)
        kill("dvc", kills.itself, stage, REPRO, RUN)
        kill("child", kills.child, stage, REPRO, RUN)
        kill("all", kills.all_at_once, stage, REPRO)
        kill("all", kills.all_at_once, stage, REPRO, RUN)
    kill("server", kills.ephemeral_server, "captions", RUN)
    for stage in ("train", "judge", "judge"):
        kill("retrain", kills.itself, stage, RETRAIN, forgotten=("train",) if stage == "train" else ("draw",))
    for n, (stage, back) in enumerate([("captions", False), ("train", True), ("summaries", True)], start=2):
        name = f"{'restart' if back else 'kill'}-server-{n:02}"
        add(name, partial(_around, stage=stage, fault=served.server, back=back), RUN, RUN)
    for stage, target in (
        ("captions", served.worker),
        ("train", served.worker),
        ("summaries", served.flow_run),
        ("train", served.serve_local),
    ):
        name = f"kill-{target.__name__.replace('_', '-')}-{stage}"
        add(name, partial(_around, stage=stage, fault=served.deployment, target=target), served.DEPLOYMENT, RETRAIN)

    for stage, most, door in (("captions", 24 << 10, RUN), ("train", 16 << 20, RUN), ("frames", 64 << 10, REPRO)):
        disk = partial(_disk, stage=stage, most=most, door=door)
        add(f"disk-full-{stage}", disk, door, door)

    def harm(name: str, fault: Callable, door: tuple[str, ...], **how) -> None:
        rerun = RUN if fault is damage.cache_entry else door
        add(name, partial(_harm, fault=fault, door=door, **how), door, rerun)

    harm("read-only-run", damage.read_only, RUN, forgotten=("captions",), stage="captions")
    harm("read-only-dvc", damage.read_only, REPRO, forgotten=("embeddings",), stage="embeddings")
    for form in damage.FORMS:
        harm(f"row-store-{form}", damage.row_store, RUN, stage="summaries", form=form)
    harm("cache-entry-run", damage.cache_entry, RUN, stage="captions")
    harm("cache-entry-dvc", damage.cache_entry, REPRO, stage="captions")
    harm("clock-files", damage.clock, RUN, forgotten=("captions",), stage="captions", faked=False)
    harm("clock-faked", damage.clock, REPRO, forgotten=("train",), stage="train", faked=True)
    stale = ("captions", "summaries", "embeddings")
    pairs = {"run-run": (RUN, RUN), "run-dvc": (RUN, REPRO), "dvc-dvc": (REPRO, REPRO)}
    for name, doors in pairs.items():
        add(f"two-{name}", partial(_harm, fault=damage.two_at_once, forgotten=stale, doors=doors), doors[0], RUN)
    return found


def _disk(world: World, name: str, rng: random.Random, **how) -> Trial:
    return damage.disk_full(world, name, rng=rng, **how)


FAULTS = _all()
