"""Faults that are no kill: a full disk, read-only and damaged files, a clock that goes back, two runs at once."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

from tests.faults import kills, world
from tests.faults.trial import REPRO, RUN, Trial
from tests.faults.world import World

FORMS = ("header", "value", "half", "page")


class Skipped(Exception):
    """This machine cannot have this fault; the message says why."""


def disk_full(world_: World, name: str, stage: str, most: int, door: tuple[str, ...], rng: random.Random) -> Trial:
    """A disk with at most `most` bytes left; they are freed before the rerun."""
    disk = world_.folder / name
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", disk], capture_output=True).returncode:
        raise Skipped("a small disk can only be mounted by root")
    try:
        trial = Trial(world_, name, (stage,))
        left = rng.randrange(4096, most)
        trial.met = f"{stage}, {left} bytes left"
        _resize(disk, shutil.disk_usage(disk).used + left)
        if trial.run(*door) == 0:
            trial.wrong.append("it did not notice that the disk is full")
        elif "free some" not in trial.say() and "may be full" not in trial.say():
            trial.wrong.append("it did not say that the disk is full")
        _resize(disk, 1 << 29)
        trial.mark()
        trial.finish(*door)
        trial.check()
    finally:
        if trial.wrong:
            shutil.copytree(disk, f"{disk}-was", symlinks=True)
        subprocess.run(["umount", disk], check=True)
    return trial


def _resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size // 4096 * 4096}", disk], check=True)


def read_only(trial: Trial, stage: str, door: tuple[str, ...]) -> None:
    """An artifact that cannot be replaced; nothing may be recorded until it can."""
    path = trial.project / f"data/{stage}.parquet"
    shutil.copy(trial.world.reference / f"data/{stage}.parquet", path)
    trial.met = f"{path.name} cannot be replaced"
    if subprocess.run(["chattr", "+i", path], capture_output=True).returncode:
        raise Skipped("only root, and not on every file system, can make a file immutable")
    try:
        if trial.run(*door) == 0:
            trial.wrong.append("it did not notice")
        if stage in world.recorded(trial.project)["stages"]:
            trial.wrong.append("a result was recorded")
    finally:
        subprocess.run(["chattr", "-i", path], check=True)
    trial.mark()
    trial.finish(*door)
    trial.check()


def row_store(trial: Trial, stage: str, form: str, door: tuple[str, ...], rng: random.Random) -> None:
    """Damage the row store where `stage` has to run again; the tables have its rows too, so nothing needs computing."""
    (trial.project / f"data/{stage}.parquet").unlink()
    world.forget_runs(trial.project, (stage,))
    trial.met = f"{stage}, {form}"
    path = trial.project / ".stipple/rows.sqlite"
    content = bytearray(path.read_bytes())
    if form == "header":
        content[:100] = rng.randbytes(100)
    elif form == "value":
        content[content.index(b'"summary"') + 14] ^= 0x20
    elif form == "half":
        del content[len(content) // 2 :]
    else:
        start = rng.randrange(1, len(content) // 8192) * 8192
        content[start : start + 8192] = rng.randbytes(8192)
    path.write_bytes(content)
    trial.kept = {name: set(keys) for name, keys in trial.world.inputs.items()}
    trial.finish(*door)
    trial.check()


def cache_entry(trial: Trial, stage: str, door: tuple[str, ...]) -> None:
    """Damage an artifact in DVC's cache as a disk would (same size, same time), and lose it from `data/`.

    `dvc repro` trusts its cache and brings the damage back; `stipple run` notices it, in the cache and in `data/`.
    """
    name = f"data/{stage}.parquet"
    digest = next(out["md5"] for out in trial.world.lock["stages"][stage]["outs"] if out["path"] == name)
    trial.met = f"{stage}, one byte of its cached table"
    cached = trial.project / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    times, content = cached.stat(), bytearray(cached.read_bytes())
    content[len(content) // 2] ^= 1
    cached.chmod(0o644)
    cached.write_bytes(content)
    cached.chmod(0o444)
    os.utime(cached, ns=(times.st_atime_ns, times.st_mtime_ns))
    (trial.project / name).unlink()
    if door == REPRO:
        trial.run(*door)
        if (trial.project / name).read_bytes() != content:
            trial.wrong.append("DVC noticed; the page on operations says that it does not")
    trial.mark()
    trial.finish(*RUN)
    trial.check()


def clock(trial: Trial, stage: str, faked: bool, door: tuple[str, ...], rng: random.Random) -> None:
    """A run of tomorrow is killed and finished today: its clock is ahead, or all files in the project are."""
    if faked and shutil.which("faketime") is None:
        raise Skipped("there is no `faketime` here")
    moment = kills.moment(trial.world, stage, rng, working=True)
    trial.met = str(moment)
    run = trial.start(*(("faketime", "-f", "+1d") if faked else ()), *door, FAKETIME_DONT_FAKE_MONOTONIC="1")
    if not kills.await_(trial, moment, run):
        trial.wrong.append(f"ended before {moment}")
        return
    kills.all_at_once(run)
    began = time.monotonic()
    run.wait()
    tomorrow = time.time() + 86400
    for path in trial.project.rglob("*") if not faked else ():
        if path.is_file() and not path.is_symlink():
            os.utime(path, (tomorrow, tomorrow))
    trial.mark()
    trial.finish(*door, began=began)
    trial.check()


def two_at_once(trial: Trial, doors: tuple[tuple[str, ...], tuple[str, ...]], rng: random.Random) -> None:
    """Two runs that start within seconds of each other."""
    first = trial.start(*doors[0])
    time.sleep(later := rng.uniform(0, 4))
    second = trial.start(*doors[1])
    trial.met = f"the second {later:.1f} s later; they ended with {first.wait()} and {second.wait()}"
    trial.mark()
    trial.finish(*RUN)
    trial.check()
    computed = [e for e in trial.events() if e["kind"] == "call" and e["stage"] in trial.world.inputs]
    rows = [(e["stage"], row, e["pid"]) for e in computed for row in e["inputs"]]
    if len({(stage, row) for stage, row, _ in rows}) != len(set(rows)):
        trial.wrong.append("both computed the same row")
