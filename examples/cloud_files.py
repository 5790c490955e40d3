"""Clouds in files: .ply (x y z, with red green blue where it has them) and .npy."""

from __future__ import annotations

import io
from itertools import takewhile
from pathlib import Path

import numpy as np

from tasks.errors import Refused, StippleError
from tasks.store import files

PLACE, COLOR = ["x", "y", "z"], ["red", "green", "blue"]
KINDS = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
REMARKS = {"comment", "obj_info"}
ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}


def read(path: Path) -> np.ndarray:
    """The points of a file, float32 [N, D]: of a .ply [N, 3], or [N, 6] with colours of 0 to 255."""
    parse = {".ply": _ply, ".npy": _npy}.get(path.suffix.lower())
    if parse is None:
        raise _unknown(path)
    try:
        points = parse(path.read_bytes())
        if points.ndim != 2 or not points.size:
            raise Refused(f"is of the shape {list(points.shape)} instead of [points, coordinates]")
        if not np.isfinite(points).all():
            raise Refused("holds NaN or infinity")
    except OSError as error:
        raise StippleError(f"{path} cannot be read ({error.strerror}); name the .ply or .npy file of a cloud") from None
    except Refused as reason:
        raise StippleError(f"{path} {reason}; write the cloud anew, as .ply or .npy") from None
    return points


def write(path: Path, points: np.ndarray) -> None:
    """Put `points` [N, D] into a .npy, or [N, 3] or [N, 6], as `read` has them, into a binary little-endian .ply."""
    if path.suffix.lower() not in (".ply", ".npy"):
        raise _unknown(path)
    buffer = io.BytesIO()
    if path.suffix.lower() == ".npy":
        np.save(buffer, points)
    else:
        columns = {3: PLACE, 6: PLACE + COLOR}[points.shape[1]]
        rows = np.empty(len(points), [(name, "<f4" if name in PLACE else "u1") for name in columns])
        for name, values in zip(columns, points.T, strict=True):
            rows[name] = values if name in PLACE else values.round().clip(0, 255)
        said = [f"property {'float' if name in PLACE else 'uchar'} {name}\n" for name in columns]
        header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{''.join(said)}end_header\n"
        buffer.write(header.encode() + rows.tobytes())
    files.write(path, buffer.getvalue())


def _ply(content: bytes) -> np.ndarray:
    """The vertices, which must come first; what follows them, as faces do, is passed over."""
    head, _, body = content.partition(b"end_header")
    lines = (line.split() for line in head.decode("ascii", "replace").splitlines())
    try:
        (magic,), (_, order, _), (_, element, count), *rest = (w for w in lines if w and w[0] not in REMARKS)
        properties = {name: KINDS[kind] for _, kind, name in takewhile(lambda words: words[0] == "property", rest)}
        n, row = int(count), np.dtype([(name, ORDERS[order] + kind) for name, kind in properties.items()])
        if (magic, element) != ("ply", "vertex") or n < 1:
            raise ValueError
        columns = PLACE + (COLOR if set(COLOR) <= set(properties) else [])
        body = body.partition(b"\n")[2]
        if order == "ascii":
            table = np.loadtxt(io.BytesIO(body), dtype=row, max_rows=n, ndmin=1)
        else:
            table = np.frombuffer(body[: min(n, len(body) // row.itemsize) * row.itemsize], row)
        if len(table) < n:
            raise Refused(f"ends after {len(table)} of its {n} vertices")
        return np.stack([table[name] for name in columns], axis=1).astype(np.float32)
    except (ValueError, KeyError):
        raise Refused("is damaged, or no PLY that begins with vertices of x, y and z and no lists") from None


def _npy(content: bytes) -> np.ndarray:
    try:
        return np.load(io.BytesIO(content), allow_pickle=False).astype(np.float32)
    except (ValueError, EOFError, TypeError, AttributeError):
        raise Refused("is damaged, or no .npy file of numbers") from None


def _unknown(path: Path) -> StippleError:
    return StippleError(f"{path} is no .ply and no .npy; clouds are read from these and written to these")
