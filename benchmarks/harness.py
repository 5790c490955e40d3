"""What the benchmarks share: where results live and what machine they come from, the clocks, and child processes."""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from tasks.store import files

if TYPE_CHECKING:
    from torch import nn

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"

P = ParamSpec("P")
T = TypeVar("T")


def mover_of_points() -> tuple[nn.Module, dict[str, Any]]:
    """A network that moves each point by itself, trained now on the frames in `data/`, and its recipe."""
    from tasks import settings
    from tasks.clouds import fitting, training_set
    from tasks.progress import progress

    params, data = settings.load(ROOT).params, training_set.load(ROOT)
    recipe, rows = params.train.recipe("film"), training_set.rows_of(data, training_set.TRAIN)
    with progress("train, film", recipe.steps, "step") as bar:
        network = fitting.fit("film", recipe, data, rows, seed=params.seed, on_step=fitting.shown_on(bar)).network
    return network, recipe.model_dump()


def machine(*packages: str) -> dict[str, str | int | None]:
    """What numbers depend on besides the code: the processor, its use, and the versions of `packages`."""
    found = {
        "processor": processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", *packages)},
    }
    if torch := sys.modules.get("torch"):  # not imported for this: a large parent shows in its children's peak memory
        found |= {"threads": torch.get_num_threads(), "vectors": torch.backends.cpu.get_cpu_capability()}
    return found


def processor() -> str:
    """The model's name where Linux tells it, else what Python knows."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return named[1] if named else platform.processor() or platform.machine()


def write(
    name: str, result: Mapping[str, Any], *packages: str, picture: bytes | None = None, folder: Path = RESULTS
) -> None:
    """Put `result`, with its machine, in `folder`/`name`.json, and its picture beside it."""
    whole = {**result, "machine": machine(*packages)}
    files.write(folder / f"{name}.json", json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    if picture is not None:
        files.write(folder / f"{name}.png", picture)


def read(name: str) -> dict[str, Any]:
    """The result of an earlier run; empty where there is none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def timed(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, float, float]:
    """What `work` returns, and its seconds by the clock and by the processor (which other programs disturb less)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work(*args, **kwargs)
    return result, time.perf_counter() - wall, time.process_time() - cpu


def child(module: str, *words: object, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> Any:
    """`python -m module words` in a process of its own: what its `start` prints in the end."""
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def start(main: Callable[[], None], measure: Callable[..., Any]) -> None:
    """What a benchmark's process does: all of it, or, as a `child`, to `measure` what the command line says."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(*sys.argv[1:])))
    else:
        main()


def clone(folder: Path) -> Path:
    """A fresh clone of this repository's last commit, in `folder`."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    return folder


def prefect_environment(home: Path, project: Path, **more: str) -> dict[str, str]:
    """This environment with the code of `project`, and with no settings of Prefect but its `home` and `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    return kept | {"PATH": path, "PYTHONPATH": str(project), "PREFECT_HOME": str(home), **more}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]
