"""A stage with one row out per row in: compute what is missing, write the table, account for every row.

A run that is killed loses at most the batches in flight: each is kept as soon as it is there.
"""

import logging
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.errors import Damaged, Refused, StippleError
from tasks.progress import Progress, progress
from tasks.store import tables
from tasks.store.digests import digest_of
from tasks.store.retry import RowResult, attempt
from tasks.store.rows import LOOKUP, STORE, MapBatches, Previous, RowStore
from tasks.store.schemas import SCHEMAS
from tasks.store.tables import Row, chunks

SORTED = 16  # batches of neighbours that are sorted together, so that rows of one length meet in one batch

log = logging.getLogger("stipple.stages")


@dataclass(frozen=True)
class RowStage:
    """What makes the rows of one table.

    Attributes:
        name: of the stage, and of its table.
        items: its rows before they are computed, each with a `frame_id` and the `row_key` of what is made of it. It is
            walked more than once and should be light.
        payload: what `compute` needs of the items of one batch (their pictures, say), in order.
        compute: a value or `Refused` for each member of a batch; what happens when it raises: see `retry.attempt`.
        batch_size: rows of a batch.
        encode, decode: a row's own columns as the value that the row store keeps, and back.
        order: sorts neighbours before they share batches.
        schema: of the table, where it is not that of `SCHEMAS`.
    """

    name: str
    items: Callable[[], Iterable[Row]]
    payload: Callable[[list[Row]], list[Any]]
    compute: Callable[[list[Any]], list[bytes | Refused]]
    batch_size: int
    encode: Callable[[Row], bytes]
    decode: Callable[[bytes], Row]
    order: Callable[[Row], Any] | None = None
    schema: pa.Schema | None = None


def fill(
    stage: RowStage,
    root: Path,
    total: int,
    *,
    previous: Previous,
    map_batches: MapBatches,
    on_row: Callable[[Row], None] = lambda row: None,
) -> dict[str, int]:
    """Write `data/<stage>.parquet` and the stage's quarantine table; return how many rows went which way.

    There are `total` items. `on_row` sees each row as it is written.
    """
    refused: list[Row] = []
    with RowStore(root / STORE) as store:
        earlier = from_tables(stage.name, root, previous, stage.encode, store.known)
        computed, failed = compute_missing(stage, store, earlier=earlier, map_batches=map_batches, total=total)

        def rows() -> Iterator[Row]:
            for item, result in results(stage, store, failed):
                if result.value is None:
                    key = None if result.transient else item["row_key"]
                    names = {name: item.get(name) for name in ("source", "frame_id")}
                    refused.append(names | {"reason": result.reason, "row_key": key})
                    continue
                row = {"frame_id": item["frame_id"], **stage.decode(result.value), "row_key": item["row_key"]}
                on_row(row)
                yield row

        written = tables.write(root / "data" / f"{stage.name}.parquet", stage.schema or SCHEMAS[stage.name], rows())
    tables.write_quarantine(root, stage.name, refused)
    tables.check_balance(stage.name, total, written, len(refused))
    if refused and not written:
        raise StippleError(
            f"{stage.name}: none of {total} rows could be computed; the first, {refused[0]['frame_id']!r}: "
            f"{refused[0]['reason']}; data/quarantine/{stage.name}.parquet has them all"
        )
    return {"rows": written, "computed": computed, "reused": total - computed, "quarantined": len(refused)}


def compute_missing(
    stage: RowStage,
    store: RowStore,
    *,
    earlier: Iterable[tuple[str, RowResult]] = (),
    map_batches: MapBatches = map,
    total: int = 0,
) -> tuple[int, dict[str, RowResult]]:
    """Compute the rows that `store` lacks, and keep each batch as soon as it is there.

    `earlier` gives keys and results of earlier tables; it is read only if something is missing.

    Returns:
        How many rows were computed, and key → result of those that failed for a transient reason, which the store does
        not keep. Held in memory: `SORTED` batches of items and the batches in flight.
    """
    computed = 0
    failed: dict[str, RowResult] = {}
    in_flight: set[str] = set()
    with progress(stage.name, total, "row", kept=True) as bar:
        missing = _missing(stage, store, iter(earlier), in_flight, failed, bar)
        batches = (
            ([item["row_key"] for item in batch], stage.payload(batch)) for batch in chunks(missing, stage.batch_size)
        )
        for done in map_batches(partial(_compute, stage.name, stage.compute), batches):
            store.put(stage.name, done)
            failed.update((key, result) for key, result in done.items() if result.transient)
            in_flight.difference_update(done)
            computed += len(done)
            bar.advance(len(done))
    return computed, failed


def _missing(
    stage: RowStage,
    store: RowStore,
    earlier: Iterator[tuple[str, RowResult]],
    in_flight: set[str],
    failed: Container[str],
    bar: Progress,
) -> Iterator[Row]:
    """The items that neither `store` nor `earlier` has, once each, but for those in flight and those that failed.

    Which are neighbours does not depend on what is stored, so a run that was killed goes on with the very batches that
    it would have made.
    """
    for window in chunks(stage.items(), max(LOOKUP, stage.batch_size * SORTED)):
        keys = {item["row_key"] for item in window}
        known = store.known(keys)
        if len(known) < len(keys) and store.put_all(stage.name, earlier):
            known = store.known(keys)
        fresh: dict[str, Row] = {}
        for item in window:
            if (key := item["row_key"]) not in known and key not in in_flight and key not in failed:
                fresh.setdefault(key, item)
        in_flight.update(fresh)
        bar.skip(len(window) - len(fresh))
        yield from fresh.values() if stage.order is None else sorted(fresh.values(), key=stage.order)


def _compute(
    name: str, compute: Callable[[list[Any]], list[bytes | Refused]], batch: tuple[list[str], list[Any]]
) -> dict[str, RowResult]:
    keys, payload = batch
    return dict(zip(keys, attempt(name, compute, payload), strict=True))


def results(stage: RowStage, store: RowStore, failed: dict[str, RowResult]) -> Iterator[tuple[Row, RowResult]]:
    """Every item with its result, in order."""
    for few in chunks(stage.items(), LOOKUP):
        known = store.get(item["row_key"] for item in few)
        for item in few:
            result = known.get(item["row_key"]) or failed.get(item["row_key"])
            if result is None:
                raise Damaged(
                    f"{stage.name}: its input changed while it ran, or a stored row was damaged; run it again"
                )
            yield item, result


def items_of_frames(root: Path, **common: Any) -> Iterator[Row]:
    """A row per frame: where it stands in its table, and the key of what a stage makes of it, given `common`."""
    for number, frame in enumerate(tables.read(root / "data/frames.parquet", ["frame_id", "source", "sha256"], 4096)):
        yield frame | {"number": number, "row_key": digest_of(frame=frame["sha256"], **common)}


def from_tables(
    stage: str,
    root: Path,
    previous: Previous,
    value_of: Callable[[Row], bytes],
    known: Callable[[list[str]], Container[str]],
) -> Iterator[tuple[str, RowResult]]:
    """Rows and lasting refusals that are not `known`, from the stage's tables and their earlier versions."""
    for rows_here, path in tables_of(stage, root, previous):
        try:
            for row in tables.unknown(path, known):
                yield row["row_key"], RowResult(value_of(row)) if rows_here else RowResult(reason=row["reason"])
        except (OSError, ValueError, KeyError, StippleError) as error:
            log.warning("%s: its rows cannot be reused: %s", path, " ".join(str(error).split()))


def tables_of(stage: str, root: Path, previous: Previous) -> Iterator[tuple[bool, Path]]:
    """The stage's tables that are there, today's and the last recorded: (True, rows) and (False, refusals)."""
    for name in (f"data/{stage}.parquet", f"data/quarantine/{stage}.parquet"):
        for path in dict.fromkeys((root / name, previous(name))):
            if path is not None and path.is_file():
                yield "quarantine" not in name, path
