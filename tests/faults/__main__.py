"""`python -m tests.faults`: all faults, or those named; a line each, and all in benchmarks/results/faults.json."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmarks import harness
from tests.faults import plan, world


def attempt(folder: Path, name: str) -> dict[str, Any]:
    """Do one fault, and say what came of it; one that came out well in `folder` before is not done again."""
    row = _attempt(folder, name)
    (folder / f"{name}.json").write_text(json.dumps(row))
    return row


def _attempt(folder: Path, name: str) -> dict[str, Any]:
    os.environ.update(world.environment(folder))
    fault, began = plan.FAULTS[name], time.monotonic()
    row = {"fault": name, "door": fault.door, "finished through": fault.rerun}
    try:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / f"{name}.log").unlink(missing_ok=True)
        trial = fault.do(world.load(folder), name, random.Random(name))
    except plan.Skipped as skipped:
        return row | {"verdict": f"skipped: {skipped}"}
    except Exception as error:  # the suite goes on, and this row is no success
        return row | {"verdict": f"{type(error).__name__}: {error}"}
    if not trial.wrong:
        shutil.rmtree(trial.project, ignore_errors=True)
    return row | {
        "met": trial.met,
        "seconds to finished": None if trial.finish_s is None else round(trial.finish_s, 1),
        "computed twice": dict(trial.twice()),
        "kept": {stage: len(keys) for stage, keys in trial.kept.items()},
        "seconds in all": round(time.monotonic() - began, 1),
        "verdict": "; ".join(trial.wrong) or "as undisturbed",
    }


def good(row: dict[str, Any]) -> bool:
    return row["verdict"] == "as undisturbed" or row["verdict"].startswith("skipped")


def line(row: dict[str, Any]) -> str:
    seconds = row.get("seconds to finished")
    twice = ", ".join(f"{number} {stage}" for stage, number in row.get("computed twice", {}).items()) or "nothing"
    shown = f"{seconds:5.1f} s, {twice} twice" if seconds is not None else ""
    return f"{row['fault']:22} {row.get('met', ''):44} {shown:30} {row['verdict']}"


def run(names: list[str], folder: Path, jobs: int) -> list[dict[str, Any]]:
    """Every fault of `names` once, in a project of its own under `folder`."""
    with world.server(folder):
        if not (folder / "world.json").exists():
            print(f"One undisturbed run: {world.build(folder).seconds:.1f} s", flush=True)
        kept = [json.loads(file.read_text()) for name in names if (file := folder / f"{name}.json").exists()]
        rows = [row for row in kept if good(row)]
        todo = [name for name in names if name not in {row["fault"] for row in rows}]
        with ProcessPoolExecutor(jobs) as pool:
            for done in as_completed([pool.submit(attempt, folder, name) for name in todo]):
                rows.append(done.result())
                print(line(rows[-1]), flush=True)
    return sorted(rows, key=lambda row: list(plan.FAULTS).index(row["fault"]))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description="Faults in real runs of a small project."
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(plan.FAULTS), metavar="NAME", help="these, and write no table"
    )
    parser.add_argument("--jobs", type=int, default=2, help="faults at the same time (2)")
    parser.add_argument("--folder", type=Path, help="keeps the projects, to go on from there; else a temporary one")
    chosen = parser.parse_args()
    names = chosen.only or random.Random(0).sample(list(plan.FAULTS), len(plan.FAULTS))
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="stipple-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    rows = run(names, folder, chosen.jobs)
    bad = [row for row in rows if not good(row)]
    print(f"{len(rows)} faults, {sum('skipped' in row['verdict'] for row in rows)} skipped, {len(bad)} went wrong")
    if chosen.only is None:
        result = {
            "undisturbed_s": round(world.load(folder).seconds, 1),
            "jobs": chosen.jobs,
            "planned": len(plan.FAULTS),
            "faults": rows,
        }
        harness.write("faults", result, "prefect", "dvc")
    if bad:
        sys.exit(f"their projects, logs and traces are in {folder}")
    if chosen.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
