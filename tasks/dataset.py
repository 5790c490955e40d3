"""Stage `dataset`: points, summaries and embeddings joined by frame into `data/train_data.pt`, split by clip.

The split is by clip and not by frame: neighbouring frames are near-copies of each other, and a random split would leak.
A clip is what `tasks.clips.grouping` says belongs together: a file, its copies, a numbered sequence, near-copies.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.clips import grouping
from tasks.clouds import artifacts, density
from tasks.clouds.training_set import HELD_OUT, TRAIN, clip_of
from tasks.errors import StippleError
from tasks.models import checkpoints
from tasks.pipeline import ROW_STAGES
from tasks.settings import Settings
from tasks.store import files, tables

REPORT = Path("data/dataset.json")


def run(settings: Settings, root: Path) -> dict[str, Any]:
    """Write the training data and a report of it.

    A frame that one table has and another lacks (its stage refused it) goes to this stage's quarantine.
    """
    embedder = settings.profile.embedder
    summaries = _column(root, "summaries", "summary")
    columns = ("embedding", "wordings", "wording_embeddings")
    embeddings = {
        row["frame_id"]: row for row in tables.read(root / "data" / "embeddings.parquet", ["frame_id", *columns])
    }
    frame_ids, clouds, maps, refused = [], [], [], []
    for row in tables.read(root / "data" / "points.parquet", ["frame_id", "weights", "points"]):
        frame_id = row["frame_id"]
        missing = [name for name, table in (("summary", summaries), ("embedding", embeddings)) if frame_id not in table]
        if missing:
            refused.append(_refusal(frame_id, missing))
            continue
        frame_ids.append(frame_id)
        clouds.append(_cloud(row, settings.params.points.num_points))
        maps.append(row["weights"]["bytes"])
    drawn = {*frame_ids, *(entry["frame_id"] for entry in refused)}
    refused += [_refusal(frame_id, ["points"]) for frame_id in {**summaries, **embeddings} if frame_id not in drawn]
    tables.check_balance("dataset", len({*drawn, *summaries, *embeddings}), len(frame_ids), len(refused))
    if not frame_ids:
        raise StippleError(
            "no frame has points, a summary and an embedding, so there is nothing to train on; "
            "data/quarantine/*.parquet say why frames were refused"
        )
    check_quarantine(root, len(frame_ids), settings.params.dataset.max_quarantined)

    identity, grouped = grouping.identities(source_files(root), settings.params.frames.near_duplicate_distance)
    used = {clip_of(frame_id): identity[clip_of(frame_id)] for frame_id in frame_ids}
    held_out = held_out_clips(used, settings.params.dataset.held_out)
    clips = [used[clip_of(frame_id)] for frame_id in frame_ids]
    split = [HELD_OUT if clip in held_out else TRAIN for clip in clips]
    width = len(embeddings[frame_ids[0]]["embedding"])
    conditions = _vectors((embeddings[frame_id]["embedding"] for frame_id in frame_ids), width)
    content = serialized(
        {
            "image_paths": frame_ids,
            "embeddings": conditions,
            "point_clouds": torch.stack(clouds),
            "model": embedder.model,
            "num_points": settings.params.points.num_points,
            "num_samples": len(frame_ids),
            "frame_ids": frame_ids,
            "summaries": [summaries[frame_id] for frame_id in frame_ids],
            "wordings": [embeddings[frame_id]["wordings"] for frame_id in frame_ids],
            "wording_embeddings": _vectors(
                (vector for frame_id in frame_ids for vector in embeddings[frame_id]["wording_embeddings"]),
                width,
            ),
            "clips": clips,
            "split": split,
            "embedder": embedder.model_dump() | {"revision": checkpoints.locate(embedder, root).digest},
            "density": density.from_maps(maps),
        }
    )
    counts = {
        "frames": len(frame_ids),
        "clips": len(set(clips)),
        "held_out_frames": split.count(HELD_OUT),
        "held_out_clips": len(held_out),
        "distinct_summaries": len({summaries[frame_id] for frame_id in frame_ids}),
        **{what: len(names) for what, names in grouped.items()},
        "quarantined": tables.write_quarantine(root, "dataset", refused),
    }
    files.write(root / artifacts.TRAIN_DATA, content)
    report = {
        **counts,
        "held_out": sorted(name for name, clip in used.items() if clip in held_out),
        "grouped": grouped,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    files.write(root / REPORT, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return counts


def check_quarantine(root: Path, usable: int, most: float) -> None:
    """Raise StippleError if more than a share `most` of the files, or of the frames out of them, was refused.

    A file that kept frames was not, though a part of it may be in quarantine. `usable` frames came through all stages.
    """

    def quarantine(stage: str) -> Path:
        return root / "data" / "quarantine" / f"{stage}.parquet"

    frames = root / "data" / "frames.parquet"
    kept = {row["source"] for row in tables.read(frames, ["source"], tables.GROUP_ROWS)}
    lost = {row["source"] for row in tables.read(quarantine("frames"), ["source"])} - kept
    worst = max(map(quarantine, ROW_STAGES), key=tables.count)
    total = tables.count(frames)
    for bad, whole, what, table in (
        (len(lost), len(kept | lost), "files", quarantine("frames")),
        (total - usable, total, "frames", worst),
    ):
        if bad > most * whole:
            raise StippleError(
                f"{bad} of {whole} {what} are in quarantine, and params.yaml allows a share of "
                f"dataset.max_quarantined: {most:g}; {table.relative_to(root)} has the reasons; mend these or raise it"
            )


def source_files(root: Path) -> list[grouping.File]:
    """The files that the frames are of."""
    found: dict[str, grouping.File] = {}
    columns = ["source", "source_sha256", "dhash"]
    for row in tables.read(root / "data" / "frames.parquet", columns, tables.GROUP_ROWS):
        name = row["source"]
        found[name] = grouping.File(name, row["source_sha256"], None if name in found else row["dhash"])
    return list(found.values())


def held_out_clips(clips: Mapping[str, str], share: float) -> set[str]:
    """The clips kept away from training: those whose identity hashes below `share`, and one at least on each side.

    `clips` are the identities of the usable files. Whether a clip is held out depends on its own identity alone, so
    adding clips moves none from one side to the other (unless a side would be empty without it).
    """
    place = {clip: int.from_bytes(hashlib.sha256(clip.encode()).digest()[:8]) / 2**64 for clip in clips.values()}
    if len(place) < 2:
        raise StippleError(
            f"only one clip ({min(clips)!r}{', which is more than one file' * (len(clips) > 1)}) is usable, but the "
            "split needs 2 or more: one to train on and one held out; add clips or pictures to the input folder"
        )
    ranked = sorted(place, key=place.__getitem__)
    below = sum(value < share for value in place.values())
    return set(ranked[: min(max(below, 1), len(ranked) - 1)])


def serialized(data: Any) -> bytes:
    """What `torch.save` writes, the same bytes for the same data (to a path, it would put the file's name inside)."""
    buffer = io.BytesIO()
    torch.save(data, buffer)
    return buffer.getvalue()


def _column(root: Path, table: str, column: str) -> dict[str, Any]:
    rows = tables.read(root / "data" / f"{table}.parquet", ["frame_id", column])
    return {row["frame_id"]: row[column] for row in rows}


def _vectors(rows: Iterable[Sequence[float]], width: int) -> Tensor:
    return torch.from_numpy(np.array(list(rows), dtype=np.float32).reshape(-1, width))


def _cloud(row: dict[str, Any], num_points: int) -> Tensor:
    if len(row["points"]) != num_points:
        raise StippleError(
            f"data/points.parquet holds clouds of {len(row['points'])} points, but params.yaml says "
            f"points.num_points: {num_points}; run `stipple stage points`"
        )
    return torch.from_numpy(density.colored(np.array(row["points"], dtype=np.float32), row["weights"]["bytes"]))


def _refusal(frame_id: str, missing: list[str]) -> dict[str, str]:
    return {"source": clip_of(frame_id), "frame_id": frame_id, "reason": f"it has no {' and no '.join(missing)}"}
