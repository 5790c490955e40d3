"""What a run says of each stage as it ends, and of all of them at its end."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.pipeline import STAGES
from tasks.progress import duration
from tasks.project.reproduction import Outcome
from tasks.store import tables

SHARE = 0.1  # of the time, for which a stage is named at the end


@dataclass(frozen=True)
class Account:
    """How a stage came to be up to date, in how many seconds, and what its `run` returned if it ran."""

    stage: str
    outcome: Outcome
    seconds: float
    counts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line. Rows in are rows out and rows in quarantine; of `frames` they are files."""
        rows = self.counts.get("rows")
        said = [] if rows is None else [f"{self.counts.get('sources', rows + self.counts['quarantined']):,} in"]
        for name, number in self.counts.items():
            if isinstance(number, int) and name != "sources" and (number or name == "computed"):
                said.append(f"{number:,} {'out' if name == 'rows' else name.replace('_', ' ')}")
        said.append(duration(self.seconds))
        return f"{self.stage + ':':12}{', '.join(said) if self.counts else self.outcome.value}"


def closing(accounts: Sequence[Account], root: Path) -> Iterator[str]:
    """The end of a run in a few lines, if it changed anything."""
    if all(account.outcome is Outcome.UNCHANGED for account in accounts):
        return
    known = {account.stage: account for account in accounts}
    yield _times(accounts)
    if "dataset" in known:
        yield _rows(root)
        yield from _grouped(root)
        yield from _warned(known["captions"].counts)
    if "evaluate" in known:
        yield _scores(root)
        yield (
            "Look at data/drawings/, data/evaluation/gallery.png and data/evaluation/report.md, which has all scores."
        )


def _times(accounts: Sequence[Account]) -> str:
    total = sum(account.seconds for account in accounts)
    long = sorted((a for a in accounts if a.seconds >= SHARE * total), key=lambda account: -account.seconds)
    rest = total - sum(account.seconds for account in long)
    parts = [f"{account.stage} {duration(account.seconds)}" for account in long] + [f"the rest {duration(rest)}"]
    return f"Done in {duration(total)}: {', '.join(parts)}."


def _rows(root: Path) -> str:
    frames, quarantine = root / "data" / "frames.parquet", root / "data" / "quarantine"
    found = (tables.read(path, ["source"], tables.GROUP_ROWS) for path in (frames, quarantine / "frames.parquet"))
    files = {row["source"] for table in found for row in table}
    refused = {path.stem: tables.count(path) for path in quarantine.glob("*.parquet")}
    said = ", ".join(f"{refused[name]:,} by {name}" for name in STAGES if refused.get(name))
    lost = f"in quarantine: {said} (data/quarantine/ has the reasons)" if said else "nothing in quarantine"
    return f"{len(files):,} files in, {tables.count(frames):,} frames out; {lost}."


def _grouped(root: Path) -> Iterator[str]:
    grouped = json.loads((root / "data" / "dataset.json").read_text()).get("grouped", {})
    if said := ", ".join(f"{len(names):,} {why.replace('_', ' ')}" for why, names in grouped.items() if names):
        yield f"On one side of the split, as they belong together: {said} (data/dataset.json names them)."


def _warned(captions: Mapping[str, Any]) -> Iterator[str]:
    if unfamiliar := captions.get("unfamiliar_sources"):
        yield f"The captioner does not know the like of {unfamiliar:,} files: what it says of them is a guess."
    if cut := captions.get("cut"):
        yield f"The captioner did not come to the end of {cut:,} captions; they stop at their last whole sentence."


def _scores(root: Path) -> str:
    scores = json.loads((root / "data" / "evaluation" / "scores.json").read_text())
    chamfer, clip = scores["chamfer"], scores["retrieval_clip"]
    return (
        f"On held-out clips: Chamfer {chamfer['model']:.3f} (another sample of the frame {chamfer['floor']:.3f}, "
        f"points of all frames {chamfer['mean_cloud']:.3f}); "
        f"own clip nearest {clip['model']:.0%} (by chance {clip['chance']:.0%})."
    )
