"""The small project that the faults happen to, after one undisturbed run, and what that run tells about any other."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import chdir, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from tasks.pipeline import STAGES
from tests.support import ROOT, projects
from tests.support.projects import digests, edited, free_port

CLIPS = 8
BATCH = 2  # rows of a model's batch
CHECKPOINT = 20  # steps
EVERY = ("dvc remove_outs", "begin", "write", "computed", "dvc save", "dvc commit", "dvc dump")
EXPECTED = {
    **dict.fromkeys(STAGES, EVERY),
    "frames": (*EVERY, "call"),
    "points": (*EVERY, "call", "kept"),
    **dict.fromkeys(("captions", "summaries", "embeddings"), (*EVERY, "call", "answer", "kept")),
    "train": (*EVERY, "step", "save", "saved"),
    "draw": (*EVERY, "call", "answer"),
    "judge": ("judge", "publish", "decide"),
}
"""Stage → the kinds of events that its part of a whole run's trace has."""


@dataclass(frozen=True)
class World:
    """Where the reference project lies and what its undisturbed run was like."""

    folder: Path
    files: dict[str, str]
    """artifact → sha256"""
    lock: dict[str, Any]
    inputs: dict[str, dict[str, str]]
    """stage → key of a row → what the trace calls its input"""
    events: list[dict[str, Any]]
    """the trace of the run"""
    seconds: float

    @property
    def reference(self) -> Path:
        return self.folder / "reference"


def environment(folder: Path) -> projects.Environment:
    """That of every small project, with what they do traced (`STIPPLE_TRACE` says where to)."""
    return projects.environment(folder / "prefect") | {
        "PYTHONPATH": f"{ROOT / 'tests' / 'faults' / 'watch'}{os.pathsep}{ROOT}",
        "PREFECT_SERVER_DATABASE_TIMEOUT": "120",  # several flows at once, on few cores, share one SQLite file
        "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "120",
    }


def build(folder: Path) -> World:
    """Make the project in `folder`/reference, run it undisturbed, and note in `folder`/world.json how that was."""
    project, trace = folder / "reference", folder / "reference.jsonl"
    make(project, folder)
    began = time.monotonic()
    with (folder / "reference.log").open("w") as log:
        subprocess.run(
            ["stipple", "retrain"],
            cwd=project,
            env=environment(folder) | address(folder) | {"STIPPLE_TRACE": str(trace)},
            stdout=log,
            stderr=log,
            check=True,
        )
    seconds = time.monotonic() - began
    events = [event | {"time": event["time"] - began} for event in read(trace)]
    check_trace(events)
    world = World(folder, artifacts(project), recorded(project), inputs(project), events, seconds)
    (folder / "world.json").write_text(json.dumps(asdict(world) | {"folder": str(folder)}))
    return world


def check_trace(events: Iterable[dict[str, Any]]) -> None:
    """End the suite if the trace of a whole run lacks something: then the faults would meet less than they say."""
    seen = {(event["stage"], event["kind"]) for event in events}
    wanted = [(stage, kind) for stage, kinds in EXPECTED.items() for kind in kinds]
    if lost := ", ".join(f"{stage}: {kind}" for stage, kind in wanted if (stage, kind) not in seen):
        sys.exit(f"the undisturbed run left no trace of {lost}; see to WATCHED in tests/faults/watch/sitecustomize.py")


def load(folder: Path) -> World:
    content = json.loads((folder / "world.json").read_text())
    return World(**content | {"folder": folder})


def make(project: Path, folder: Path) -> None:
    """A small project with short captions, a training that is shorter still, and a promotion at its end."""
    projects.make(project, environment(folder), projects.CLIPS[:: len(projects.CLIPS) // CLIPS][:CLIPS])
    with edited(project / "params.yaml") as params:
        params["frames"]["every"] = 4  # 8 of each clip; with half of them the training is not promoted
        params["dataset"]["held_out"] = 0.5
        recipes = params["train"]["recipes"]
        recipes["latent"] |= {"steps": 20 * CHECKPOINT, "clouds": 16, "checkpoint_every": CHECKPOINT}
        # Such a training beats the mean cloud by little; here it is to be promoted, so that a kill can meet that too.
        rules = params["promote"]
        rules |= {"metric": "sliced_w2", "margin": 0.0, "confidence": 0.1, "min_clips": 3, "frames": 12, "draws": 2}
        rules["tolerance"] = dict.fromkeys(rules["tolerance"], 1.0)
    with edited(project / "profiles" / "demo.yaml") as profile:
        for model in ("captioner", "summarizer", "embedder"):
            profile[model]["batch_size"] = BATCH
        profile["captioner"]["max_new_tokens"] = 72


def forget(project: Path, names: tuple[str, ...]) -> None:
    """Make the project as it was before it had ever run the stages `names`."""
    lock = project / "dvc.lock"
    content = yaml.safe_load(lock.read_text())
    for name in names:
        for out in content["stages"].pop(name)["outs"]:
            path = project / out["path"]
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    lock.write_text(yaml.safe_dump(content, sort_keys=False)) if content["stages"] else lock.unlink()
    forget_runs(project, names)
    with closing(sqlite3.connect(project / ".stipple/rows.sqlite")) as store, store:
        store.executemany("DELETE FROM rows WHERE stage = ?", [(name,) for name in names])
    if "frames" in names:
        shutil.rmtree(project / ".stipple/frames")
    if "train" in names:
        shutil.rmtree(project / ".stipple/checkpoints")


def forget_runs(project: Path, names: tuple[str, ...]) -> None:
    """Take what the stages `names` gave out of DVC's run cache."""
    for entry in (project / ".dvc/cache/runs").glob("??/*"):
        commands = {yaml.safe_load(file.read_text())["cmd"] for file in entry.iterdir()}
        if commands & {f"stipple stage {name}" for name in names}:
            shutil.rmtree(entry)


def artifacts(project: Path) -> dict[str, str]:
    """Digest of every file that a run is to leave behind."""
    return digests(project, "data", "models/registry")


def recorded(project: Path) -> dict[str, Any]:
    return yaml.safe_load((project / "dvc.lock").read_text())


def stored(project: Path) -> dict[str, set[str]]:
    """Stage → the keys of its rows in the row store, read from a copy: a look must not mend what a kill left."""
    found: dict[str, set[str]] = {}
    copy = project / ".stipple" / "look"
    copy.mkdir(parents=True)
    for path in (project / ".stipple").glob("rows.sqlite*"):
        shutil.copy(path, copy)
    if (copy / "rows.sqlite").is_file():
        with closing(sqlite3.connect(copy / "rows.sqlite")) as store:
            try:
                for stage, key in store.execute("SELECT stage, key FROM rows"):
                    found.setdefault(stage, set()).add(key)
            except sqlite3.OperationalError:  # killed before there was a table
                pass
    shutil.rmtree(copy)
    return found


def inputs(project: Path) -> dict[str, dict[str, str]]:
    """Stage → key of each row → digest of what its model is given."""
    from tasks import captions, embeddings, points, settings, summaries
    from tasks.store import tables

    def digest(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    with chdir(project):
        chosen, here = settings.load(Path()), Path()
        frames = [row["image"]["bytes"] for row in tables.read(Path("data/frames.parquet"), ["image"])]
        return {
            "points": {row["row_key"]: row["sha256"] for row in points.items(chosen, here)},
            "captions": {row["row_key"]: digest(frames[row["number"]]) for row in captions.items(chosen, here)},
            "summaries": {row["row_key"]: digest(row["caption"].encode()) for row in summaries.items(chosen, here)},
            "embeddings": {row["row_key"]: digest(row["summary"].encode()) for row in embeddings.items(chosen, here)},
        }


def read(trace: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in trace.read_text().splitlines()] if trace.exists() else []


def address(folder: Path) -> dict[str, str]:
    """The setting that sends a flow to the server of the suite, if there is one."""
    file = folder / "server"
    return {"PREFECT_API_URL": file.read_text()} if file.exists() else {}


@contextmanager
def server(folder: Path) -> Iterator[psutil.Popen]:
    """One Prefect server for all flows that are not to have their own."""
    with prefect_server(folder, free_port()) as (process, url):
        (folder / "server").write_text(url)
        yield process


@contextmanager
def prefect_server(folder: Path, port: int) -> Iterator[tuple[psutil.Popen, str]]:
    log = (folder / f"server-{port}.log").open("a")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--no-services", "--no-ui"]
    env = environment(folder) | {"PREFECT_HOME": str(folder / f"server-{port}")}
    process = psutil.Popen(command, env=env, stdout=log, stderr=log)
    try:
        until_answers(port, process)
        yield process, f"http://127.0.0.1:{port}/api"
    finally:
        with suppress(psutil.NoSuchProcess):  # where it was killed
            process.terminate()
        process.wait()
        log.close()


def end(process: psutil.Popen) -> None:
    """SIGKILL a process and all that it has started."""
    for member in [*process.children(recursive=True), process]:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def until_answers(port: int, process: psutil.Popen) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None:
                raise RuntimeError("the Prefect server ended by itself") from None
            time.sleep(0.2)
        else:
            return
