"""What `stipple models` and `stipple status` say: as facts, and these as lines of text."""

import textwrap
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.clips import sources
from tasks.registry import versions
from tasks.settings import Settings
from tasks.store import tables

MOST = 10  # names of a kind that are listed before the rest is only counted
NO_CHAMPION = "No champion yet: `stipple retrain` trains one, `dvc pull` fetches a team's."
LEGEND = (
    "Each with its scores on the clips that were held out that day. chamfer, sliced W2: distance to the true",
    "points, lower is better. retrieval: drawings nearest to a frame of their own text, higher is better.",
)


def models(root: Path) -> dict[str, Any]:
    """Every promoted version with the scores it had when it was promoted, the champion, and who was refused why."""
    kept = versions.load(root)
    refused = [judged for judged in kept.history if judged.version is None]
    return {
        "champion": kept.champion,
        "versions": [_version(root, version) for version in kept.versions],
        "refused": [{"against": judged.against, "reasons": versions.unmet(judged.reasons)} for judged in refused],
    }


def _version(root: Path, version: str) -> dict[str, Any]:
    report = versions.report(root, version)
    since = datetime.fromtimestamp((root / versions.FOLDER / version).stat().st_mtime).astimezone()
    return {
        "version": version,
        "here_since": since.isoformat(timespec="seconds"),
        "scores": {metric: row["challenger"] for metric, row in report["scores"].items()},
        "better_than": report["against"],
        "trained_on": report["trained_on"],
    }


def models_page(found: dict[str, Any]) -> Iterator[str]:
    """What `models` found as a table of text."""
    if not found["versions"]:
        yield NO_CHAMPION
    else:
        yield f"  {'version':8}here since{'chamfer':>9}{'sliced W2':>11}{'retrieval':>11}  better than  trained on"
        for known in found["versions"]:
            scores, trained = known["scores"], known["trained_on"]
            mark = "*" if known["version"] == found["champion"] else " "
            yield (
                f"{mark} {known['version']:8}{known['here_since'][:10]}"
                f"{scores['chamfer']:9.4f}{scores['sliced_w2']:11.4f}{scores['retrieval']:11.0%}"
                f"  {known['better_than']:11}  {trained['frames']} frames of {trained['clips']} clips"
            )
        yield from LEGEND
    if refused := found["refused"]:
        against = refused[-1]["against"] or "the mean cloud"
        yield f"Refused: {len(refused)} challenger{'s' * (len(refused) > 1)}; the last one, against {against}, was"
        for reason in refused[-1]["reasons"]:
            yield textwrap.fill(reason, 100, initial_indent="  ", subsequent_indent="    ")


def status(settings: Settings, root: Path) -> dict[str, Any]:
    """The champion, what came or went in the input folder since, and what is in quarantine."""
    champion = versions.load(root).champion
    found: dict[str, Any] = {"champion": champion}
    if champion is not None:
        known = versions.clips(root, champion)
        today = {digest: name for name, digest in sources.digests(root / settings.params.input).items()}
        then = {clip["sha256"]: name for name, clip in known.items()}
        uses = [use for use, _ in {(file["use"], file.get("clip", file["sha256"])) for file in known.values()}]
        found |= {
            "trained_on_clips": uses.count("train"),
            "tested_on_clips": uses.count("held_out"),
            "new": sorted(today[digest] for digest in today.keys() - then.keys()),
            "gone": sorted(then[digest] for digest in then.keys() - today.keys()),
        }
    refused = (row for path in sorted((root / "data" / "quarantine").glob("*.parquet")) for row in tables.read(path))
    columns = ("stage", "source", "frame_id", "reason")
    return found | {"quarantine": [{column: row[column] for column in columns} for row in refused]}


def status_page(found: dict[str, Any]) -> Iterator[str]:
    """What `status` found as lines of text."""
    if found["champion"] is None:
        yield NO_CHAMPION
    else:
        trained, tested = found["trained_on_clips"], found["tested_on_clips"]
        yield f"Champion: {found['champion']}, trained on {trained} clips, tested on {tested}."
        yield from _listed("New since", found["new"])
        yield from _listed("Gone since", found["gone"])
    refused = [f"{row['frame_id'] or row['source']}: {row['reason']} ({row['stage']})" for row in found["quarantine"]]
    yield from _listed("In quarantine", sorted(refused))


def _listed(what: str, found: list[str]) -> Iterator[str]:
    yield f"{what} ({len(found)}):" if found else f"{what}: nothing."
    yield from (f"  {line}" for line in found[:MOST])
    if len(found) > MOST:
        yield f"  … and {len(found) - MOST} more"
