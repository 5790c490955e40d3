"""The row store from 10³ to 10⁶ rows, and what a stage costs when 100,000 rows are known.

    python -m benchmarks.rows

Rows are random bytes of a caption's and of an embedding's size. Each measurement is a process of its own, by the clock
and by the processor (which other programs disturb less). The stage is a `RowStage` like `embeddings`, with a
function that costs nothing, so what is measured is reuse alone; its share is taken of the captioner's time per row in
benchmarks/results/captions.json. Writes benchmarks/results/rows.json.
"""

from __future__ import annotations

import random
import resource
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from tasks.store.digests import digest_of
from tasks.store.fill import RowStage, fill
from tasks.store.retry import RowResult
from tasks.store.rows import STORE, RowStore, chunks, no_previous
from tasks.store.tables import Row

SIZES = {"caption": 1500, "embedding": 2048}  # bytes
COUNTS = (10**3, 10**4, 10**5, 10**6)
BATCH = 64  # rows per `put`, as a stage's batch
KNOWN, MORE = 100_000, 1_000


def timed(work: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, dict[str, float]]:
    """What `work` returns, and its seconds by the clock and by the processor."""
    result, wall, cpu = harness.timed(work, *args, **kwargs)
    return result, {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}


def store(count: int, size: int, folder: Path) -> dict[str, Any]:
    """`count` rows of `size` bytes in, looked up, and out again."""
    keys, rng = [digest_of(n=number) for number in range(count)], random.Random(0)
    with RowStore(folder / STORE) as rows:

        def put() -> None:
            for few in chunks(keys, BATCH):
                rows.put("rows", {key: RowResult(rng.randbytes(size)) for key in few})

        def each(ask: Callable[[list[str]], Any]) -> None:
            for few in chunks(keys, 1024):
                assert len(ask(few)) == len(few)

        measured = {"in": timed(put)[1], "known": timed(each, rows.known)[1], "out": timed(each, rows.get)[1]}
    for numbers in measured.values():
        numbers["rows_per_cpu_s"] = round(count / max(numbers["cpu_s"], 0.01))
    return {**measured, "file_mb": round((folder / STORE).stat().st_size / 1e6)}


def stage(count: int, folder: Path) -> dict[str, Any]:
    """One run of a stage of `count` rows in `folder`: what it computed and what that took."""
    vector = np.random.default_rng(0).normal(size=512).astype("<f4")

    def items() -> Iterator[Row]:
        for number in range(count):
            yield {"frame_id": f"clip.mp4/{number:06d}", "row_key": digest_of(n=number), "number": number}

    def embed(batch: list[int]) -> list[bytes]:
        return [np.roll(vector, number).tobytes() for number in batch]

    embeddings = RowStage(
        "embeddings",
        items=items,
        payload=lambda batch: [row["number"] for row in batch],
        compute=embed,
        batch_size=BATCH,
        encode=lambda row: row["embedding"].astype("<f4").tobytes(),
        decode=lambda value: {"embedding": np.frombuffer(value, "<f4")},
    )
    counts, seconds = timed(fill, embeddings, folder, count, previous=no_previous, map_batches=map)
    return {**seconds, "computed": counts["computed"], "reused": counts["reused"]}


def child(*words: object) -> dict[str, Any]:
    """`measure` in a process of its own."""
    measured = harness.child("benchmarks.rows", *words)
    print(*words[:2], measured, flush=True)
    return measured


def measure(what: str, count: str, folder: str, *size: str) -> dict[str, Any]:
    work = stage if what == "stage" else store
    measured = work(int(count), *map(int, size), Path(folder))
    return measured | {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        stages = {
            "all new": child("stage", KNOWN, folder),
            "all known": child("stage", KNOWN, folder),
            "1 % more": child("stage", KNOWN + MORE, folder),
        }
        (Path(folder) / STORE).unlink()
        stages["the store lost, all in the table"] = child("stage", KNOWN + MORE, folder)
    captions = harness.read("captions")["captions"]
    per_row = captions["batched"]["cpu_seconds"] / captions["rows"]
    stores: dict[str, dict[str, Any]] = {f"{name}, {size} bytes": {} for name, size in SIZES.items()}
    result = {
        f"stage of {KNOWN} rows": stages,
        "reuse_share_of_captioning": round(stages["all known"]["cpu_s"] / (KNOWN * per_row), 5),
        "store": stores,
        "sqlite": sqlite3.sqlite_version,
    }
    for count, (kind, size) in product(COUNTS, zip(stores, SIZES.values(), strict=True)):
        with tempfile.TemporaryDirectory() as folder:
            stores[kind][f"{count} rows"] = child("store", count, folder, size)
        harness.write("rows", result)


if __name__ == "__main__":
    harness.start(main, measure)
