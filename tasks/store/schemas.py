"""The columns of the tables between stages."""

import json
from typing import Any

import pyarrow as pa

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


def embeddings(width: int) -> pa.Schema:
    """The table of an embedder of `width` numbers a text."""
    return _schema(
        frame_id=pa.string(),
        embedding=pa.list_(pa.float32(), width),
        wordings=pa.list_(pa.string()),
        wording_embeddings=pa.list_(pa.list_(pa.float32(), width)),
        row_key=pa.string(),
    )


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
        source_sha256=pa.string(),
        dhash=pa.uint64(),
        near_duplicates=pa.int32(),
        image=_IMAGE,
        row_key=pa.string(),
    ),
    "points": _schema(
        "weights", frame_id=pa.string(), weights=_IMAGE, points=pa.list_(pa.list_(pa.float32(), 2)), row_key=pa.string()
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
    "embeddings": embeddings(512),
    "quarantine": _schema(
        source=pa.string(),
        frame_id=pa.string(),
        stage=pa.string(),
        reason=pa.string(),
        row_key=pa.string(),  # null where the reason may pass, so that the row is tried again
    ),
}
