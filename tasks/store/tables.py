"""The Parquet tables between stages: atomic streaming writes, streaming reads, quarantine.

A table is written to a temporary file beside its place and renamed over it, so a reader sees the old table or the new
one, and the same rows always give the same bytes. Rows are dicts; both directions hold one row group in memory.
"""

from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import StippleError
from tasks.store.files import replacing
from tasks.store.schemas import SCHEMAS

Row = dict[str, Any]
Item = TypeVar("Item")

GROUP_ROWS = 4096
GROUP_BYTES = 16 << 20


def write(path: Path, schema: pa.Schema, rows: Iterable[Row]) -> int:
    """Write `rows` to `path` and return how many there were. Missing columns become nulls; arrays go in as lists."""
    written = 0
    with replacing(path) as file, pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer:
        group: list[pa.RecordBatch] = []
        for few in chunks(rows, 64):
            group.append(pa.RecordBatch.from_arrays([_array(few, field) for field in schema], schema=schema))
            written += len(few)
            if sum(b.num_rows for b in group) >= GROUP_ROWS or sum(b.nbytes for b in group) >= GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(group), row_group_size=GROUP_ROWS)
                group = []
        if group:
            writer.write_table(pa.Table.from_batches(group), row_group_size=GROUP_ROWS)
    return written


def read(
    path: Path, columns: list[str] | None = None, batch_size: int = 64, groups: list[int] | None = None
) -> Iterator[Row]:
    """Yield the rows of a table, holding a batch at a time. Lists of numbers come as NumPy arrays (read-only)."""
    with _open(path) as table:
        missing = sorted(set(columns or []) - set(table.schema_arrow.names))
        if missing:
            raise StippleError(f"{path} has no column {', '.join(missing)}; run `{_command(path)}` to write it anew")
        try:
            for batch in table.iter_batches(batch_size, groups, columns):
                values = [_values(column) for column in batch.columns]
                for row in zip(*values, strict=True):
                    yield dict(zip(batch.schema.names, row, strict=True))
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from None


def keys(path: Path) -> Iterator[list[str]]:
    """The row keys of a table, a batch at a time; none of a table that was written before it had any."""
    with _open(path) as table:
        if "row_key" not in table.schema_arrow.names:
            return
    for few in chunks(read(path, ["row_key"], GROUP_ROWS), GROUP_ROWS):
        yield [row["row_key"] for row in few if row["row_key"] is not None]


def unknown(path: Path, known: Callable[[list[str]], Container[str]]) -> Iterator[Row]:
    """The rows of a table whose key is not among the `known`; a row group without any is not read beyond its keys."""
    with _open(path) as table:
        groups = table.num_row_groups
    for group in range(groups):
        here = [row["row_key"] for row in read(path, ["row_key"], GROUP_ROWS, [group]) if row["row_key"] is not None]
        found = known(here)
        if lacking := {key for key in here if key not in found}:
            yield from (row for row in read(path, groups=[group]) if row["row_key"] in lacking)


def count(path: Path) -> int:
    """The number of rows of a table, from its footer."""
    with _open(path) as table:
        return table.metadata.num_rows


class Numbered:
    """The rows of a table by their number, one row group in memory: quick when the numbers mostly go up."""

    def __init__(self, path: Path, columns: list[str] | None = None) -> None:
        self.path, self.columns = path, columns
        with _open(path) as table:
            groups = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
        self._starts = [0, *accumulate(groups)]
        self._number, self._group = -1, pa.table({})

    def __getitem__(self, row: int) -> Row:
        number = bisect_right(self._starts, row) - 1
        if number != self._number:
            with _open(self.path) as table:
                self._number, self._group = number, table.read_row_group(number, columns=self.columns)
        return self._group.slice(row - self._starts[number], 1).to_pylist()[0]


def write_quarantine(root: Path, stage: str, entries: Iterable[Row]) -> int:
    """Write what `stage` refused: rows of `source` and/or `frame_id`, and `reason`. Returns how many."""
    path = root / "data" / "quarantine" / f"{stage}.parquet"
    return write(path, SCHEMAS["quarantine"], ({**entry, "stage": stage} for entry in entries))


def check_balance(stage: str, rows_in: int, rows_out: int, quarantined: int) -> None:
    """Raise StippleError unless every row that went in came out or stands in quarantine."""
    if rows_in != rows_out + quarantined:
        raise StippleError(
            f"{stage}: {rows_in} rows went in, but {rows_out} came out and {quarantined} are in quarantine; "
            f"its table was not trustworthy: remove .stipple/rows.sqlite and run `stipple stage {stage}` again"
        )


def _array(rows: list[Row], field: pa.Field) -> pa.Array:
    values: list[Any] = [row.get(field.name) for row in rows]
    arrays = [value.reshape(-1) if isinstance(value, np.ndarray) else value for value in values]
    if pa.types.is_list(field.type) and all(isinstance(value, np.ndarray) for value in values):
        flat = np.concatenate(arrays).astype(np.float32)
        pairs = pa.FixedSizeListArray.from_arrays(flat, field.type.value_type.list_size)
        offsets = np.cumsum([0, *(len(value) for value in values)], dtype=np.int32)
        return pa.ListArray.from_arrays(offsets, pairs, type=field.type)
    return pa.array(arrays, field.type)


def _values(column: pa.Array) -> list[Any]:
    numbers = pa.types.is_nested(column.type) and not pa.types.is_struct(column.type)
    if not numbers or pa.types.is_string(column.type.value_type):
        return column.to_pylist()
    return [None if row is None else _numpy(row) for row in (s.values for s in column)]


def _numpy(values: pa.Array) -> np.ndarray:
    """One list value as an array: [n], or [n, 2] for a list of pairs."""
    if pa.types.is_fixed_size_list(values.type):
        return values.flatten().to_numpy().reshape(len(values), values.type.list_size)
    return values.to_numpy(zero_copy_only=False)


def chunks(values: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """`values` in lists of `size`, the last one shorter."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk


@contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        table = pq.ParquetFile(path, pre_buffer=False)
    except FileNotFoundError:
        raise StippleError(f"{path} is missing; run `{_command(path)}` first, or `dvc pull`") from None
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None
    with table:
        yield table


def _damaged(path: Path, error: Exception) -> StippleError:
    reason = " ".join(str(error).split())[:120]
    return StippleError(f"{path} cannot be read ({reason}); remove it and run `{_command(path)}`")


def _command(path: Path) -> str:
    """What writes this table anew: its stage, if it is a stage's own table."""
    return f"stipple stage {path.stem}" if path.parent.name == "data" else "stipple run"
