"""Stage `frames`: the kept frames of every video and picture in the input folder, in `data/frames.parquet`.

A file whose content was decoded before is not decoded again: its rows come from the earlier table. New files are
decoded in batches, a few files at once, each batch into a small table under `.stipple/frames`. The tables stay there
until the next run: it needs them if this one is killed, be it between its end and DVC's record. The stage's table is
put together from both, in the order of names, with one row group in memory.
"""

import hashlib
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from io import BytesIO
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tasks.clips import media
from tasks.clips.picture import Picture
from tasks.clips.sources import Source, scan
from tasks.errors import Refused, StippleError
from tasks.progress import progress
from tasks.settings import Settings
from tasks.store import tables
from tasks.store.digests import digest_of
from tasks.store.rows import MapBatches, Previous, no_previous
from tasks.store.schemas import SCHEMAS
from tasks.store.tables import Row

VERSION = 2
TABLE = Path("data/frames.parquet")
DECODED = Path(".stipple/frames")
BATCH_FILES, BATCH_BYTES = 64, 64 << 20
WORKERS = min(4, os.cpu_count() or 1)  # sources that are decoded at once
NAMED = 5  # ignored files that the log names
AHEAD = 16  # rows of one source that wait to be written
DECODED_SCHEMA = SCHEMAS["frames"].append(pa.field("reason", pa.string()))

log = logging.getLogger("stipple.frames")


def run(
    settings: Settings, root: Path, *, previous: Previous = no_previous, map_batches: MapBatches = map
) -> dict[str, Any]:
    """Write the frames, and the quarantine of files, or of the damaged rest of files, that could not be decoded."""
    folder = root / settings.params.input
    sources, ignored = input_sources(settings, root)
    if ignored:
        more = f" and {len(ignored) - NAMED} more" if len(ignored) > NAMED else ""
        log.warning("ignored, not a video or picture by their names: %s%s", ", ".join(ignored[:NAMED]), more)
    earlier = Earlier([root / TABLE, previous(str(TABLE))])
    decoded = _decode_all(earlier.new(sources), root / DECODED, settings.params.frames.model_dump(), map_batches)

    refusals: list[Row] = []
    counts = {"sources": len(sources), "ignored_files": len(ignored), "near_duplicates": 0, "computed": 0, "reused": 0}
    used = lost = 0

    def kept() -> Iterator[Row]:
        nonlocal used, lost
        fresh = groupby((row for part in decoded for row in tables.read(part)), key=itemgetter("source"))
        for source in sources:
            if source.reason is not None:
                refusals.append({"source": source.name, "reason": source.reason})
                lost += 1
                continue
            origin = "reused" if source.key in earlier else "computed"
            before = counts[origin]
            for row in earlier.rows(source) if origin == "reused" else next(fresh)[1]:
                if reason := row.pop("reason", None):
                    refusals.append({"source": source.name, "reason": reason})
                    continue
                counts[origin] += 1
                counts["near_duplicates"] += row["near_duplicates"]
                yield row
            used += counts[origin] > before
            lost += counts[origin] == before
        tables.write_quarantine(root, "frames", refusals)
        if not used:
            first = refusals[0]
            raise StippleError(
                f"{folder}: none of its {len(sources)} files can be used; the first, {first['source']!r}, "
                f"{first['reason']}; data/quarantine/frames.parquet has them all"
            )

    written = tables.write(root / TABLE, SCHEMAS["frames"], kept())
    tables.check_balance("frames", len(sources), used, lost)
    return {"rows": written, **counts, "quarantined": len(refusals)}


def input_sources(settings: Settings, root: Path) -> tuple[list[Source], list[str]]:
    """The sources in the input folder with the row keys of their frames, and the names of the other files."""
    key_of = partial(digest_of, stage="frames", version=VERSION, **settings.params.frames.model_dump())
    return scan(root / settings.params.input, lambda digest: key_of(content=digest))


class Earlier:
    """The rows of earlier versions of the table by row key, of sources that were decoded to their end."""

    def __init__(self, paths: Iterable[Path | None]) -> None:
        self._spans: dict[str, tuple[tables.Numbered, range]] = {}
        for path in paths:
            if path is not None and path.is_file():
                try:
                    self._index(path)
                except (StippleError, pa.ArrowException, OSError) as error:
                    log.warning("%s cannot be reused, so its files are decoded again: %s", path, error)

    def _index(self, path: Path) -> None:
        if not pq.read_schema(path).equals(SCHEMAS["frames"]):
            raise StippleError("it has other columns")
        table, start = tables.Numbered(path), 0
        for _, group in groupby(tables.read(path, ["source", "row_key"], 4096), key=itemgetter("source")):
            keys = [row["row_key"] for row in group]
            if keys[-1] is not None:  # the last row of a source that broke off has none
                self._spans.setdefault(keys[-1], (table, range(start, start + len(keys))))
            start += len(keys)

    def __contains__(self, key: str | None) -> bool:
        return key in self._spans

    def new(self, sources: list[Source]) -> list[Source]:
        """Those of the usable `sources` that have no rows here."""
        return [source for source in sources if source.reason is None and source.key not in self]

    def rows(self, source: Source) -> Iterator[Row]:
        assert source.key is not None
        table, numbers = self._spans[source.key]
        for row in map(table.__getitem__, numbers):
            yield row | _identity(source.name, row["frame_index"], row["image"]["bytes"])


def _decode_all(new: list[Source], folder: Path, params: dict[str, Any], map_batches: MapBatches) -> list[Path]:
    """Decode `new` in batches; return the tables of the batches, which hold the sources in their order."""
    batches = list(_batches(new))
    parts = [folder / f"{digest_of(batch=[[s.name, s.key] for s in batch])}.parquet" for batch in batches]
    for other in set(folder.glob("*")) - set(parts):
        other.unlink()
    todo = [(str(part), batch) for part, batch in zip(parts, batches, strict=True) if not part.exists()]
    with progress("frames", len(new), "file", kept=True) as bar:
        bar.skip(len(new) - sum(len(batch) for _, batch in todo))
        for done in map_batches(partial(decode, params=params), todo):
            bar.advance(done)
    return parts


def _batches(sources: list[Source]) -> Iterator[list[Source]]:
    batch: list[Source] = []
    for source in sources:
        batch.append(source)
        if len(batch) >= BATCH_FILES or sum(s.size for s in batch) >= BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def decode(batch: tuple[str, list[Source]], params: dict[str, Any]) -> int:
    """Decode a batch of sources into the table it names: frames, and `reason` rows where a source breaks off."""
    part, sources = batch
    tables.write(Path(part), DECODED_SCHEMA, read_ahead(decode_source(source, **params) for source in sources))
    return len(sources)


def read_ahead(streams: Iterable[Iterator[Row]]) -> Iterator[Row]:
    """The rows of all `streams`, one stream after the other, while threads walk the next ones `AHEAD` rows far."""
    streams = iter(streams)
    pool = ThreadPoolExecutor(WORKERS)

    def walk(stream: Iterator[Row]) -> tuple[Iterator[Row], Future[list[Row]]]:
        return stream, pool.submit(lambda: list(islice(stream, AHEAD)))

    try:
        walked = deque(map(walk, islice(streams, 2 * WORKERS)))
        while walked:
            stream, future = walked.popleft()
            few = future.result()
            if len(few) == AHEAD:
                walked.appendleft(walk(stream))
            else:
                walked.extend(map(walk, islice(streams, 1)))
            yield from few
    finally:
        pool.shutdown(cancel_futures=True)  # whoever ends this early waits for the walks at work alone


def decode_source(
    source: Source, every: int, max_side: int, near_duplicate_distance: int, drop_near_duplicates: bool
) -> Iterator[Row]:
    """The rows of one source. A near-duplicate is counted in its own row, or if dropped in the row it resembles."""
    last: Row | None = None
    last_hash = 0
    try:
        for picture in media.pictures(Path(source.path), every, max_side):
            hashed = dhash(picture.image)
            near = last is not None and (hashed ^ last_hash).bit_count() <= near_duplicate_distance
            if last is not None:
                if near and drop_near_duplicates:
                    last["near_duplicates"] += 1
                    continue
                yield last
            last, last_hash = _row(source, picture) | {"dhash": hashed, "near_duplicates": int(near)}, hashed
    except Refused as refused:
        if last is not None:
            yield last | {"row_key": None}
        yield {"source": source.name, "reason": str(refused)}
    else:
        assert last is not None  # a file with no picture in it is refused
        yield last


def jpeg(image: Image.Image) -> bytes:
    """`image` as it is stored."""
    buffer = BytesIO()
    # Lossless costs five times the bytes; full chroma and quality 95 leave no ringing for the points to follow.
    image.save(buffer, "jpeg", quality=95, subsampling="4:4:4")
    return buffer.getvalue()


def _row(source: Source, picture: Picture) -> Row:
    content = jpeg(picture.image)
    return {
        **_identity(source.name, picture.index, content),
        "frame_index": picture.index,
        "timestamp_s": picture.timestamp_s,
        "width": picture.image.width,
        "height": picture.image.height,
        "sha256": hashlib.sha256(content).hexdigest(),
        "source_sha256": source.sha256,
        "row_key": source.key,
    }


def _identity(name: str, index: int, content: bytes) -> Row:
    frame_id = f"{name}/{index:06d}"
    return {"frame_id": frame_id, "source": name, "image": {"bytes": content, "path": f"{frame_id}.jpg"}}


def dhash(image: Image.Image) -> int:
    """64-bit difference hash: is each cell of an 8 × 8 grid darker than its right neighbour? (Krawetz 2013)"""
    few = image.resize((144, 128), Image.Resampling.NEAREST)  # 256 pixels a cell tell its mean well enough
    cells = np.asarray(few.convert("L").resize((9, 8), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(cells[:, :-1] < cells[:, 1:]).tobytes())
