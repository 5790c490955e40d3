"""The Parquet tables between stages: their columns, atomic streaming writes, streaming reads, quarantine.

A table is written to a temporary file beside its place and renamed over it, so a reader sees the old table or the new
one, and the same rows always give the same bytes. Rows are dicts; both directions hold one row group in memory.
"""

from __future__ import annotations

import errno
import json
import os
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from itertools import accumulate, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import StippleError

Row = dict[str, Any]

GROUP_ROWS = 4096
GROUP_BYTES = 16 << 20
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _schema(*images: str, **columns: pa.DataType) -> pa.Schema:
    """A schema whose `images` columns `datasets.load_dataset("parquet", …)` shows as pictures."""
    schema = pa.schema([pa.field(name, kind) for name, kind in columns.items()])
    if not images:
        return schema
    features = {name: _feature(kind) for name, kind in columns.items()}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == _IMAGE:
        return {"_type": "Image"}
    if pa.types.is_fixed_size_list(kind):
        return {"feature": _feature(kind.value_type), "length": kind.list_size, "_type": "List"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {"dtype": {"double": "float64", "float": "float32"}.get(str(kind), str(kind)), "_type": "Value"}


SCHEMAS: dict[str, pa.Schema] = {
    "frames": _schema(
        "image",
        frame_id=pa.string(),
        source=pa.string(),
        frame_index=pa.int32(),
        timestamp_s=pa.float64(),
        width=pa.int32(),
        height=pa.int32(),
        sha256=pa.string(),
        near_duplicates=pa.int32(),
        image=_IMAGE,
        row_key=pa.string(),
    ),
    "points": _schema(
        "weights",
        frame_id=pa.string(),
        weights=_IMAGE,
        points=pa.list_(pa.list_(pa.float32(), 2)),
        row_key=pa.string(),
    ),
    "captions": _schema(frame_id=pa.string(), caption=pa.string(), words=pa.int32(), row_key=pa.string()),
    "summaries": _schema(
        frame_id=pa.string(),
        summary=pa.string(),
        words=pa.int32(),
        clip_tokens=pa.int32(),
        attempts=pa.int32(),
        row_key=pa.string(),
    ),
    "embeddings": _schema(frame_id=pa.string(), embedding=pa.list_(pa.float32(), 512), row_key=pa.string()),
    "quarantine": _schema(
        source=pa.string(),
        frame_id=pa.string(),
        stage=pa.string(),
        reason=pa.string(),
        row_key=pa.string(),  # null where the reason may pass, so that the row is tried again
    ),
}


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes `path`'s place, whole and synced, when the block ends well; else nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob(f".{escape(path.name)}.*.tmp"):  # by a run that was killed
        abandoned.unlink(missing_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StippleError(f"no space left to write {path}; free some space on that disk and run again") from None
        raise
    finally:
        draft.unlink(missing_ok=True)


def write(path: Path, schema: pa.Schema, rows: Iterable[Row]) -> int:
    """Write `rows` to `path` and return how many there were. Missing columns become nulls; arrays go in as lists."""
    written = 0
    with replacing(path) as file, pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer:
        group: list[pa.RecordBatch] = []
        for few in _batches(rows, 64):
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
    """Yield the rows of a table, holding a batch at a time. List columns come as NumPy arrays (read-only)."""
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
    for few in _batches(read(path, ["row_key"], GROUP_ROWS), GROUP_ROWS):
        yield [row["row_key"] for row in few if row["row_key"] is not None]


def unknown(path: Path, known: Callable[[list[str]], Container[str]]) -> Iterator[Row]:
    """The rows of a table whose key is not among the `known`; a row group without any is not read beyond its keys."""
    with _open(path) as table:
        groups = table.num_row_groups
    for group in range(groups):
        keys = [row["row_key"] for row in read(path, ["row_key"], GROUP_ROWS, [group]) if row["row_key"] is not None]
        found = known(keys)
        if lacking := {key for key in keys if key not in found}:
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


def _batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    rows = iter(rows)
    while few := list(islice(rows, size)):
        yield few


def _array(rows: list[Row], field: pa.Field) -> pa.Array:
    values = [row.get(field.name) for row in rows]
    arrays = [value.reshape(-1) if isinstance(value, np.ndarray) else value for value in values]
    if pa.types.is_list(field.type) and all(isinstance(value, np.ndarray) for value in values):
        flat = np.concatenate(arrays).astype(np.float32)
        pairs = pa.FixedSizeListArray.from_arrays(flat, field.type.value_type.list_size)
        offsets = np.cumsum([0, *(len(value) for value in values)], dtype=np.int32)
        return pa.ListArray.from_arrays(offsets, pairs, type=field.type)
    return pa.array(arrays, field.type)


def _values(column: pa.Array) -> list[Any]:
    if not pa.types.is_nested(column.type) or pa.types.is_struct(column.type):
        return column.to_pylist()
    return [None if row is None else _numpy(row) for row in (s.values for s in column)]


def _numpy(values: pa.Array) -> np.ndarray:
    """One list value as an array: [n], or [n, 2] for a list of pairs."""
    if pa.types.is_fixed_size_list(values.type):
        return values.flatten().to_numpy().reshape(len(values), values.type.list_size)
    return values.to_numpy(zero_copy_only=False)


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
    return "stipple run" if path.parent.name == "quarantine" else f"stipple stage {path.stem}"
