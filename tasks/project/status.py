"""What `stipple models` and `stipple status` say, as lines of text."""

from collections.abc import Iterator
from pathlib import Path

from tasks.clips import sources
from tasks.registry import versions
from tasks.settings import Settings
from tasks.store import tables

MOST = 10  # names of a kind that are listed before the rest is only counted
NO_CHAMPION = "No champion yet: `stipple retrain` trains one, `dvc pull` fetches a team's."


def models(root: Path) -> Iterator[str]:
    """Every promoted version, the champion marked, with the scores it had when it was promoted."""
    kept = versions.load(root)
    if not kept.versions:
        yield NO_CHAMPION
        return
    yield f"  {'version':8}{'chamfer':>9}{'sliced W2':>11}{'retrieval':>11}  {'better than':12}  trained on"
    for version in kept.versions:
        report = versions.report(root, version)
        scores, trained = report["scores"], report["trained_on"]
        yield (
            f"{'*' if version == kept.champion else ' '} {version:8}{scores['chamfer']['challenger']:9.4f}"
            f"{scores['sliced_w2']['challenger']:11.4f}{scores['retrieval']['challenger']:11.0%}"
            f"  {report['against']:12}  {trained['frames']} frames of {trained['clips']} clips"
        )


def status(settings: Settings, root: Path) -> Iterator[str]:
    """The champion, what came or went in the input folder since, and what is in quarantine."""
    champion = versions.load(root).champion
    if champion is None:
        yield NO_CHAMPION
    else:
        known = versions.clips(root, champion)
        today = {digest: name for name, digest in sources.digests(root / settings.params.input).items()}
        then = {clip["sha256"]: name for name, clip in known.items()}
        uses = [use for use, _ in {(file["use"], file.get("clip", file["sha256"])) for file in known.values()}]
        yield f"Champion: {champion}, trained on {uses.count('train')} clips, tested on {uses.count('held_out')}."
        yield from _listed("New since", [today[digest] for digest in today.keys() - then.keys()])
        yield from _listed("Gone since", [then[digest] for digest in then.keys() - today.keys()])
    refused = (row for path in sorted((root / "data" / "quarantine").glob("*.parquet")) for row in tables.read(path))
    said = [f"{row['frame_id'] or row['source']}: {row['reason']} ({row['stage']})" for row in refused]
    yield from _listed("In quarantine", said)


def _listed(what: str, found: list[str]) -> Iterator[str]:
    yield f"{what} ({len(found)}):" if found else f"{what}: nothing."
    yield from (f"  {line}" for line in sorted(found)[:MOST])
    if len(found) > MOST:
        yield f"  … and {len(found) - MOST} more"
