"""The pipeline's two text stages for 1,000 rows, beside the same written the ordinary way in plain Prefect.

    python -m benchmarks.ordinary

The ordinary way is that of Prefect's documentation: a task a row, mapped, `cache_policy=INPUTS`, results persisted.
Here it is a task a batch over the row store. Both call the same row function, which costs nothing, on a server of
their own. Writes benchmarks/results/ordinary.json.
"""

from __future__ import annotations

import importlib
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks import harness

ROWS, BATCH = 1000, 64
RUNS = {
    "first run": (ROWS, "Describe.", "Summarize."),
    "again": (ROWS, "Describe.", "Summarize."),
    "another summary prompt": (ROWS, "Describe.", "Be brief."),
    "the first one again": (ROWS, "Describe.", "Summarize."),
    "1 % more rows": (ROWS + ROWS // 100, "Describe.", "Summarize."),
}
called: list[str] = []
"""One entry a call of the row function."""


def written(stage: str, prompt: str, text: str) -> str:
    """What a model would answer: 1,500 characters for a caption, 150 for a summary."""
    called.append(stage)
    return sha256(f"{prompt} {text}".encode()).hexdigest() * {"captions": 24, "summaries": 3}[stage]


def ordinary(rows: int, caption_prompt: str, summary_prompt: str) -> None:
    from prefect import flow, task, unmapped
    from prefect.cache_policies import INPUTS

    @task(cache_policy=INPUTS, persist_result=True)
    def caption(picture: str, prompt: str) -> str:
        return written("captions", prompt, picture)

    @task(cache_policy=INPUTS, persist_result=True)
    def summarize(caption: str, prompt: str) -> str:
        return written("summaries", prompt, caption)

    @flow
    def mapped(pictures: list[str], caption_prompt: str, summary_prompt: str) -> int:
        captions = caption.map(pictures, unmapped(caption_prompt))
        summaries = summarize.map(captions, unmapped(summary_prompt))
        return len(summaries.result())

    assert mapped([f"picture {n}" for n in range(rows)], caption_prompt, summary_prompt) == rows


def batched(rows: int, caption_prompt: str, summary_prompt: str) -> None:
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    from flows.stages import as_tasks
    from tasks.store import tables
    from tasks.store.digests import digest_of
    from tasks.store.fill import RowStage, fill
    from tasks.store.rows import no_previous

    root = Path()

    def run(name: str, column: str, prompt: str, texts: list[str], **more: int) -> None:
        stage = RowStage(
            name,
            items=lambda: (
                {"frame_id": f"picture {n}", "text": text, "row_key": digest_of(stage=name, prompt=prompt, text=text)}
                for n, text in enumerate(texts)
            ),
            payload=lambda batch: [row["text"] for row in batch],
            compute=lambda batch: [written(name, prompt, text).encode() for text in batch],
            batch_size=BATCH,
            encode=lambda row: row[column].encode(),
            decode=lambda value: {column: value.decode(), "words": 1, **more},
        )
        fill(stage, root, len(texts), previous=no_previous, map_batches=partial(as_tasks, name))

    @task(cache_policy=NO_CACHE)
    def captions(prompt: str) -> None:
        run("captions", "caption", prompt, [f"picture {n}" for n in range(rows)])

    @task(cache_policy=NO_CACHE)
    def summaries(prompt: str) -> None:
        told = [row["caption"] for row in tables.read(root / "data" / "captions.parquet")]
        run("summaries", "summary", prompt, told, clip_tokens=9, attempts=1)

    @flow
    def stages(caption_prompt: str, summary_prompt: str) -> None:
        captions(caption_prompt)
        summaries(summary_prompt)

    stages(caption_prompt, summary_prompt)


def one_run(way: str, rows: str, *prompts: str) -> dict[str, Any]:
    """Seconds of the flow call, without imports, and how often each stage's row function was called."""
    for module in ("flows.stages", "tasks.store.fill"):  # and Prefect with them, before the clock starts
        importlib.import_module(module)
    _, wall, _ = harness.timed({"ordinary": ordinary, "batched": batched}[way], int(rows), *prompts)
    calls = {stage: called.count(stage) for stage in ("captions", "summaries")}
    return {"seconds": round(wall, 1), "calls": calls}


@contextmanager
def server(home: Path) -> Iterator[dict[str, str]]:
    """A Prefect server with a history of its own; the environment that leads to it."""
    port = harness.free_port()
    api = f"http://127.0.0.1:{port}/api"
    silent = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING"}
    environment = harness.prefect_environment(home, harness.ROOT, **silent)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=home, env=environment, **quiet) as process:
        try:
            while not _healthy(api):
                time.sleep(0.2)
                assert process.poll() is None, "the server ended by itself"
            yield environment | {"PREFECT_API_URL": api}
        finally:
            process.terminate()


def _healthy(api: str) -> bool:
    try:
        return urllib.request.urlopen(f"{api}/health", timeout=5).status == 200
    except OSError:
        return False


def recorded(home: Path) -> int:
    """How many task runs Prefect's database has, once no more arrive (it writes them after the run)."""
    counts: list[int] = []
    while len(counts) < 3 or len(set(counts[-3:])) > 1:
        time.sleep(5)
        with closing(sqlite3.connect(home / "prefect.db")) as database:
            counts += database.execute("SELECT count(*) FROM task_run").fetchone()
    return counts[-1]


def measured(way: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, server(home := Path(folder)) as environment:
        task_runs, database = recorded(home), _mb(home.glob("prefect.db*"))
        for name, asked in RUNS.items():
            found[name] = harness.child("benchmarks.ordinary", way, *asked, cwd=home, env=environment)
            known, task_runs = task_runs, recorded(home)
            grown, database = database, _mb(home.glob("prefect.db*"))
            found[name] |= {"task_runs": task_runs - known, "database_mb": round(database - grown, 1)}
            print(way, name, found[name], flush=True)
        kept = [path for place in ("storage", ".stipple", "data") for path in (home / place).rglob("*")]
        results = [path for path in kept if path.is_file()]
        return {**found, "results": {"files": len(results), "mb": round(_mb(results), 1)}}


def _mb(paths: Any) -> float:
    return sum(path.stat().st_size for path in paths) / 1e6


def main() -> None:
    harness.write("ordinary", {"rows": ROWS, **{way: measured(way) for way in ("ordinary", "batched")}}, "prefect")


if __name__ == "__main__":
    harness.start(main, one_run)
