"""A stage with one row out per row in: compute what is missing, write the table, account for every row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tasks import rows, tables
from tasks.errors import Refused, StippleError
from tasks.rows import MapBatches, Previous, RowStore
from tasks.tables import Row

log = logging.getLogger("stipple.stages")


def fill_table(
    stage: str,
    root: Path,
    items: Callable[[], Iterable[Row]],
    *,
    total: int,
    key_of: Callable[[Row], str],
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

    `items()` yields `total` rows with a `frame_id`. What determines a row, which function makes it and how rows share
    batches: see `rows.compute`. `decode` gives the columns of a value that the row store keeps, and `encode` makes
    that value again from a row of an earlier table. `on_row` sees each row as it is written.
    """
    path = root / "data" / f"{stage}.parquet"
    refused: list[Row] = []
    with RowStore(root / ".stipple" / "rows.sqlite") as store:
        computed = rows.compute(
            stage,
            items,
            key_of=key_of,
            fn=fn,
            batch_size=batch_size,
            store=store,
            payload=payload,
            order=order,
            earlier=from_tables(path.relative_to(root).as_posix(), root, previous, encode),
            map_batches=map_batches,
            total=total,
        )

        def written_rows() -> Iterator[Row]:
            for item, key, value in computed:
                if isinstance(value, Refused):
                    refused.append({name: item.get(name) for name in ("source", "frame_id")} | {"reason": str(value)})
                    continue
                row = {"frame_id": item["frame_id"], **decode(value), "row_key": key}
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


def from_tables(
    table: str, root: Path, previous: Previous, value_of: Callable[[dict[str, Any]], bytes]
) -> Iterator[tuple[str, bytes]]:
    """Keys and values of the rows in `root/table` and in its earlier version, where they can be read."""
    for path in (root / table, previous(table)):
        if path is not None and path.is_file():
            try:
                for row in tables.read(path):
                    yield row["row_key"], value_of(row)
            except (OSError, ValueError, KeyError, StippleError) as error:
                log.warning("%s: its rows cannot be reused: %s", path, " ".join(str(error).split()))
