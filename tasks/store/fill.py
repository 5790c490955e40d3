"""A stage with one row out per row in: compute what is missing, write the table, account for every row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

from tasks.store import rows
from tasks.store import tables
from tasks.store.retry import Outcome
from tasks.errors import Refused, StippleError
from tasks.store.rows import STORE, MapBatches, Previous, RowStore
from tasks.store.tables import Row

log = logging.getLogger("stipple.stages")


def fill_table(
    stage: str,
    root: Path,
    items: Callable[[], Iterable[Row]],
    *,
    total: int,
    fn: Callable[[list[Any]], list[bytes | Refused]],
    batch_size: int,
    payload: Callable[[list[Row]], list[Any]],
    encode: Callable[[Row], bytes],
    decode: Callable[[bytes], Row],
    previous: Previous,
    map_batches: MapBatches,
    order: Callable[[Row], Any] | None = None,
    on_row: Callable[[Row], None] = lambda row: None,
) -> dict[str, int]:
    """Write `data/<stage>.parquet` and the stage's quarantine table; return how many rows went which way.

    `items()` yields `total` rows with a `frame_id` and the `row_key` of what is made of them. Which function makes it
    and how rows share batches: see `rows.compute`. `decode` gives the columns of a value that the row store keeps, and
    `encode` makes that value again from a row of an earlier table. `on_row` sees each row as it is written.
    """
    path = root / "data" / f"{stage}.parquet"
    refused: list[Row] = []
    with RowStore(root / STORE) as store:
        computed = rows.compute(
            stage,
            items,
            key_of=itemgetter("row_key"),
            fn=fn,
            batch_size=batch_size,
            store=store,
            payload=payload,
            order=order,
            earlier=from_tables(stage, root, previous, encode, store.known),
            map_batches=map_batches,
            total=total,
        )

        def written_rows() -> Iterator[Row]:
            for item, key, outcome in computed:
                if outcome.value is None:
                    refusal = {"reason": outcome.reason, "row_key": None if outcome.passing else key}
                    refused.append({name: item.get(name) for name in ("source", "frame_id")} | refusal)
                    continue
                row = {"frame_id": item["frame_id"], **decode(outcome.value), "row_key": key}
                on_row(row)
                yield row

        written = tables.write(path, tables.SCHEMAS[stage], written_rows())
    tables.write_quarantine(root, stage, refused)
    tables.check_balance(stage, total, written, len(refused))
    if refused and not written:
        raise StippleError(
            f"{stage}: none of {total} rows could be computed; the first, {refused[0]['frame_id']!r}: "
            f"{refused[0]['reason']}; data/quarantine/{stage}.parquet has them all"
        )
    return {
        "rows": written,
        "computed": computed.computed,
        "reused": computed.reused,
        "quarantined": len(refused),
    }


def items_of_frames(root: Path, **common: Any) -> Iterator[Row]:
    """A row per frame: where it stands in its table, and the key of what a stage makes of it, given `common`."""
    for number, frame in enumerate(tables.read(root / "data/frames.parquet", ["frame_id", "source", "sha256"], 4096)):
        yield frame | {"number": number, "row_key": rows.key(frame=frame["sha256"], **common)}


def from_tables(
    stage: str,
    root: Path,
    previous: Previous,
    value_of: Callable[[Row], bytes],
    known: Callable[[list[str]], Container[str]],
) -> Iterator[tuple[str, Outcome]]:
    """Rows and lasting refusals that are not `known`, from the stage's tables and their earlier versions."""
    for rows_here, path in tables_of(stage, root, previous):
        try:
            for row in tables.unknown(path, known):
                yield row["row_key"], Outcome(value_of(row)) if rows_here else Outcome(reason=row["reason"])
        except (OSError, ValueError, KeyError, StippleError) as error:
            log.warning("%s: its rows cannot be reused: %s", path, " ".join(str(error).split()))


def tables_of(stage: str, root: Path, previous: Previous) -> Iterator[tuple[bool, Path]]:
    """The stage's tables that are there, today's and the last recorded: (True, rows) and (False, refusals)."""
    for name in (f"data/{stage}.parquet", f"data/quarantine/{stage}.parquet"):
        for path in dict.fromkeys((root / name, previous(name))):
            if path is not None and path.is_file():
                yield "quarantine" not in name, path
