"""Small real projects, copies of this repository with a few clips, and the commands that run in them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support import ROOT

BIN = Path(sys.executable).parent
CLIPS = sorted((ROOT / "demo" / "clips").glob("*.mp4"))
COPIED = ("dvc.yaml", ".dvcignore", "prefect.yaml", "prefect.toml", "profiles", "flows", "tasks", "fm", "params.yaml")

Environment = dict[str, str]
Run = Callable[..., str]
"""`run` with its environment given."""


def environment(home: Path) -> Environment:
    """What commands see: this repository's code, and no server, cache or setting of the developer's own.

    One thread, so that times compare and bytes cannot differ.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "DVC_", "STIPPLE_"))}
    return kept | {
        "PATH": f"{BIN}:{kept['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DVC_SITE_CACHE_DIR": str(home / "dvc"),
        "DVC_NO_ANALYTICS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def make(folder: Path, environment: Environment, clips: Iterable[Path]) -> Path:
    """Make a project of `clips` in `folder`, with a training of seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    (folder / "models").mkdir()
    (folder / "models" / "demo").symlink_to(ROOT / "models" / "demo")
    for name in ("start.json", "hub.json"):
        shutil.copy(ROOT / "models" / name, folder / "models")
    (folder / "clips").mkdir()
    for clip in clips:
        shutil.copy(clip, folder / "clips")
    with edited(folder / "params.yaml") as params:
        params["input"] = "clips"
        params["frames"]["every"] = 4  # 8 frames of each clip
        params["points"]["num_points"] = 256
        params["train"]["recipes"]["latent"] |= {"steps": 20, "checkpoint_every": 10}
        params["train"]["recipes"]["baseline"]["points"] = 256
        params["evaluate"] |= {"steps": 4, "baseline_steps": 2}
        params["draw"]["steps"] = 4
    run(environment, folder, "git", "init", "-q")
    run(environment, folder, "dvc", "init", "-q")
    return folder


@contextmanager
def edited(file: Path) -> Iterator[dict[str, Any]]:
    """What a YAML file says, written back with what the block changes."""
    content = yaml.safe_load(file.read_text())
    yield content
    file.write_text(yaml.safe_dump(content))


def command(environment: Environment, project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a project, however it ends."""
    return subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True)


def run(environment: Environment, project: Path, *words: str) -> str:
    """What a command says that has to succeed."""
    done = command(environment, project, *words)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def computed(output: str) -> dict[str, int]:
    """How many rows each stage of a run says it computed."""
    return {stage: int(rows) for stage, rows in re.findall(r"(\w+): .*?(\d+) computed", output)}


def digests(project: Path, *folders: str) -> dict[str, str]:
    """File → SHA-256 of everything that runs leave in `folders` of a project, or else in `data`."""
    found = (path for folder in folders or ("data",) for path in sorted((project / folder).rglob("*")))
    files = (path for path in found if path.is_file() and path.name != ".gitignore")
    return {str(path.relative_to(project)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]
