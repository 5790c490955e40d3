"""The smallest DVC project: one stage that doubles a number, as `dvc repro` and as `reproduce` do it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tasks.project import reproduction
from tasks.project.reproduction import Outcome

DVC_YAML = """
stages:
  double:
    cmd: python double.py
    deps: [input.txt]
    params: [scale]
    outs: [out.txt]
"""
SCRIPT = "print(int(open('input.txt').read()) * 2, file=open('out.txt', 'w'))"


def dvc(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=project, capture_output=True, text=True, check=True
    )
    return done.stdout


def make(folder: Path) -> Path:
    """Make the project in `folder`, a git repository from then on."""
    subprocess.run(["git", "init", "-q", folder], check=True)
    dvc(folder, "init", "-q")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "double.py").write_text(SCRIPT)
    (folder / "input.txt").write_text("21")
    (folder / "params.yaml").write_text("scale: 1\n")
    return folder


def double(project: Path) -> Outcome:
    def compute() -> None:
        (project / "out.txt").write_text(f"{int((project / 'input.txt').read_text()) * 2}\n")

    return reproduction.reproduce("double", compute)


def forbidden() -> None:
    raise AssertionError("computed again")


def damage_cache(project: Path) -> Path:
    """Change the one object of DVC's cache as a disk would: same size, same time, same mode, which DVC believes."""
    cached = next(path for path in (project / ".dvc/cache/files").rglob("*") if path.is_file())
    times = cached.stat()
    cached.chmod(0o644)
    cached.write_text("43\n")
    cached.chmod(0o444)
    os.utime(cached, ns=(times.st_atime_ns, times.st_mtime_ns))
    return cached
