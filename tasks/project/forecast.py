"""What the next run would do, and for how many rows: `stipple run --dry-run`, and the last line of `stipple status`.

It asks DVC which stages would run, and the row store and the tables which of their rows are known. Nothing is computed
and nothing written.
"""

import importlib
import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.errors import Damaged, StippleError
from tasks.pipeline import INPUT, STAGES
from tasks.project import dvc, ignoring, soundness
from tasks.project.reproduction import Outcome
from tasks.settings import Settings
from tasks.store import fill, tables
from tasks.store.rows import LOOKUP, STORE, Previous, RowStore
from tasks.store.tables import chunks

log = logging.getLogger("stipple.forecast")

Planned = dict[str, Any]
"""One stage of the next run, as `--json` says it: `stage`, `outcome`, the stages that it comes `after`, and `compute`,
its amount, None where there is nothing to count."""


@dataclass(frozen=True)
class Forecast:
    """What the next run would do with a stage, and the earlier stages that run and whose results it reads."""

    stage: str
    outcome: Outcome
    after: tuple[str, ...] = ()


def stages(*, remember: bool = False) -> list[Forecast]:
    """What the next run would do with each stage of dvc.yaml, in its order.

    A stage that reads what another one is yet to compute counts as one that runs, although its input may turn out to be
    the same. With `remember`, outputs that are sound are not read again until they change.
    """
    found: list[Forecast] = []
    remade: dict[str, str] = {}  # output → the stage that computes it anew
    restored: dict[str, dvc.HashInfo] = {}  # output → its content, once it is back from DVC's cache
    with dvc.unless_busy(), dvc.open_repo() as repo, repo.lock:
        for stage in dvc.load_stages(repo):
            makers = {remade[str(dep)] for dep in stage.deps if str(dep) in remade}
            after = tuple(known.stage for known in found if known.stage in makers)
            unread = bool(folders := dvc.folders(stage)) and ignoring.pending(folders) is not None
            stale = unread or after or dvc.changed(stage, restored)
            if not stale and not soundness.damaged(outputs := dvc.output_files(stage)):
                if remember:
                    soundness.remember(outputs)
                found.append(Forecast(stage.name, Outcome.UNCHANGED))
                continue
            content = None if after or unread else dvc.cached_outputs(stage, restored)
            if content is None:
                remade |= dict.fromkeys(map(str, stage.outs), stage.name)
                found.append(Forecast(stage.name, Outcome.COMPUTED, after))
            else:
                restored |= content
                found.append(Forecast(stage.name, Outcome.RESTORED))
    return found


def nothing_stale(names: Collection[str]) -> bool:
    """Whether a run that begins now finds all of the stages `names` unchanged, and no note of DVC's to mend."""
    try:
        found = stages(remember=True)
    except StippleError:
        return False
    return all(stage.outcome is Outcome.UNCHANGED for stage in found if stage.stage in names)


@dataclass(frozen=True)
class Amount:
    """What a stage would compute at most, and what it has: rows, or files where their rows are not decoded yet."""

    rows: int = 0
    files: int = 0
    known: int = 0

    def __str__(self) -> str:
        files = f"the frames of {self.files} file{'s' * (self.files > 1)}" if self.files else ""
        rows = f"{self.rows} row{'s' * (self.rows != 1)}" if self.rows or not self.files else ""
        return " and ".join(filter(None, (rows, files)))


def amounts(settings: Settings, root: Path, forecast: list[Forecast], previous: Previous) -> Iterator[Amount | None]:
    """How much each stage of `forecast` would compute; None for those that have no rows, or none to count them in yet.

    For a stage whose input is computed anew this is an upper bound: each row is one of today's, or one of those that
    the stage before it computes.
    """
    done: dict[str, Amount] = {}
    uncounted: set[str | None] = {
        found.stage
        for found in forecast
        if found.outcome is Outcome.RESTORED and not (root / "data" / f"{found.stage}.parquet").is_file()
    }
    for found in forecast:
        name = found.stage
        rows_of = STAGES[name].rows_of if found.outcome is Outcome.COMPUTED else None
        if rows_of is None or rows_of in uncounted:
            uncounted |= {name} if rows_of else set()
            yield None
            continue
        done[name] = _frames(settings, root, previous) if rows_of == INPUT else _rows(name, settings, root, previous)
        before = done.get(rows_of, Amount())
        done[name] = Amount(done[name].rows + before.rows, done[name].files + before.files, done[name].known)
        yield done[name]


def next_run(settings: Settings, root: Path) -> list[Planned]:
    """What the next run would do with each stage, and how much it would compute."""
    found = stages()
    return planned(found, amounts(settings, root, found, dvc.previous))


def planned(forecast: list[Forecast], found: Iterable[Amount | None]) -> list[Planned]:
    return [
        {
            "stage": stage.stage,
            "outcome": stage.outcome.name.lower(),
            "after": list(stage.after),
            "compute": None if amount is None else asdict(amount),
        }
        for stage, amount in zip(forecast, found, strict=True)
    ]


def page(run: list[Planned]) -> Iterator[str]:
    """What `next_run` found as a table of text, one line a stage."""
    yield f"{'stage':12}{'would':40}{'known':>8}   compute"
    for stage in run:
        would = f"run: follows from {', '.join(stage['after'])}" if stage["after"] else _WOULD[stage["outcome"]]
        said = f"{stage['compute']['known']:8}   {_said(stage)}" if stage["compute"] else ""
        yield f"{stage['stage']:12}{would:40}{said}".rstrip()


def line(run: list[Planned]) -> str:
    """What `next_run` found in one line."""
    runs = [s["stage"] + (f" ({_said(s)})" if s["compute"] else "") for s in run if s["outcome"] == "computed"]
    back = [s["stage"] for s in run if s["outcome"] == "restored"]
    parts = (("compute", runs), ("take from DVC's cache", back))
    said = "; ".join(f"{what} {', '.join(names)}" for what, names in parts if names)
    return f"The next run would {said or 'do nothing'}."


def _said(stage: Planned) -> str:
    return f"{'at most ' if stage['after'] else ''}{Amount(**stage['compute'])}"


_WOULD = {"unchanged": "do nothing", "restored": "come back from DVC's cache", "computed": "run"}


def wanted(stage: str, settings: Settings, root: Path) -> Iterator[str]:
    """The keys of the rows that row stage `stage` would ask for today; none where its input is not there."""
    if (root / "data" / f"{STAGES[stage].rows_of}.parquet").is_file():
        for item in importlib.import_module(f"tasks.{stage}").items(settings, root):
            yield item["row_key"]


def _frames(settings: Settings, root: Path, previous: Previous) -> Amount:
    from tasks import frames

    sources, _ = frames.input_sources(settings, root)
    usable = sum(source.reason is None for source in sources)
    new = len(frames.Earlier([root / frames.TABLE, previous(str(frames.TABLE))]).new(sources))
    return Amount(files=new, known=usable - new)


def _rows(stage: str, settings: Settings, root: Path, previous: Previous) -> Amount:
    total, lacking = 0, set()
    for keys in chunks(wanted(stage, settings, root), LOOKUP):
        total += len(keys)
        lacking |= set(keys)
    lacking -= _stored(root / STORE, lacking)
    if lacking:
        for _, table in fill.tables_of(stage, root, previous):
            for keys in tables.keys(table):
                lacking.difference_update(keys)
    return Amount(rows=len(lacking), known=total - len(lacking))


def _stored(path: Path, keys: set[str]) -> set[str]:
    """Those of `keys` that the row store has; a run mends a damaged one, this does not touch it."""
    if not path.is_file():
        return set()
    try:
        with RowStore(path, read_only=True) as store:
            return set().union(*(store.known(few) for few in chunks(keys, LOOKUP)))
    except Damaged as damaged:
        log.warning("%s", damaged)
        return set()
