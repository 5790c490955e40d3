"""What the next run would do, and for how many rows: `stipple run --dry-run`, and the last line of `stipple status`.

It asks DVC which stages would run, and the row store and the tables which of their rows are known. Nothing is computed
and nothing written.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from tasks.store import fill
from tasks.store import tables
from tasks.project.reproduction import Fate, Forecast
from tasks.store.rows import LOOKUP, STORE, Previous, RowStore, chunks
from tasks.settings import Settings

INPUT = {"points": "frames", "captions": "frames", "summaries": "captions", "embeddings": "summaries"}
"""The row stages, and the table whose rows each of them works on."""


@dataclass(frozen=True)
class Work:
    """What a stage would compute at most, and what it has: rows, or files where their rows are not decoded yet."""

    rows: int = 0
    files: int = 0
    known: int = 0

    def __str__(self) -> str:
        files = f"the frames of {self.files} file{'s' * (self.files > 1)}" if self.files else ""
        rows = f"{self.rows} row{'s' * (self.rows != 1)}" if self.rows or not self.files else ""
        return " and ".join(filter(None, (rows, files)))


def work(settings: Settings, root: Path, forecast: list[Forecast], previous: Previous) -> Iterator[Work | None]:
    """How much each stage of `forecast` would compute; None for those that have no rows.

    For a stage whose input is computed anew this is an upper bound: each row is one of today's, or one of those that
    the stage before it computes.
    """
    done: dict[str, Work] = {}
    for found in forecast:
        name = found.stage
        if found.fate is not Fate.RUNS or name not in ("frames", *INPUT):
            yield None
            continue
        done[name] = _frames(settings, root, previous) if name == "frames" else _rows(name, settings, root, previous)
        before = done.get(INPUT.get(name, ""), Work())
        done[name] = Work(done[name].rows + before.rows, done[name].files + before.files, done[name].known)
        yield done[name]


def page(forecast: list[Forecast], found: Iterable[Work | None]) -> Iterator[str]:
    """The forecast as a table of text, one line a stage."""
    yield f"{'stage':12}{'would':40}{'known':>8}   compute"
    for stage, work in zip(forecast, found, strict=True):
        would = f"run: follows from {', '.join(stage.after)}" if stage.after else _WOULD[stage.fate]
        amount = f"{work.known:8}   {_amount(stage, work)}" if work else ""
        yield f"{stage.stage:12}{would:40}{amount}".rstrip()


def line(forecast: list[Forecast], found: Iterable[Work | None]) -> str:
    """The forecast in one line."""
    pairs = list(zip(forecast, found, strict=True))
    runs = [s.stage + (f" ({_amount(s, work)})" if work else "") for s, work in pairs if s.fate is Fate.RUNS]
    back = [s.stage for s in forecast if s.fate is Fate.RESTORED]
    parts = (("compute", runs), ("take from DVC's cache", back))
    said = "; ".join(f"{what} {', '.join(names)}" for what, names in parts if names)
    return f"The next run would {said or 'do nothing'}."


def _amount(stage: Forecast, work: Work) -> str:
    return f"{'at most ' if stage.after else ''}{work}"


_WOULD = {Fate.UNCHANGED: "do nothing", Fate.RESTORED: "come back from DVC's cache", Fate.RUNS: "run"}


def wanted(stage: str, settings: Settings, root: Path) -> Iterator[str]:
    """The keys of the rows that row stage `stage` would ask for today; none where its input is not there."""
    if (root / "data" / f"{INPUT[stage]}.parquet").is_file():
        for item in importlib.import_module(f"tasks.{stage}").items(settings, root):
            yield item["row_key"]


def _frames(settings: Settings, root: Path, previous: Previous) -> Work:
    from tasks import frames

    sources, _ = frames.look(settings, root)
    usable = sum(source.reason is None for source in sources)
    new = len(frames.Earlier([root / frames.TABLE, previous(str(frames.TABLE))]).new(sources))
    return Work(files=new, known=usable - new)


def _rows(stage: str, settings: Settings, root: Path, previous: Previous) -> Work:
    path = root / STORE
    total, lacking = 0, set()
    with RowStore(path) if path.is_file() else nullcontext() as store:
        for keys in chunks(wanted(stage, settings, root), LOOKUP):
            total += len(keys)
            lacking |= set(keys) - (store.known(keys) if store else set())
    if lacking:
        for _, table in fill.tables_of(stage, root, previous):
            for keys in tables.keys(table):
                lacking.difference_update(keys)
    return Work(rows=len(lacking), known=total - len(lacking))
