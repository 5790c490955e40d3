"""`stipple cache`: what the row store holds, what the tables have of it, and how to let go of the rest.

A row stays if a run could still ask for it: it is in a table on disk, in an earlier version of a table that DVC's cache
holds (so that going back to an earlier prompt costs nothing, also with new clips), or the next run would ask for it (so
that a night's work that was cut short is not lost). `dvc gc` lets go of earlier versions, and pruning follows it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.errors import StippleError
from tasks.pipeline import ROW_STAGES
from tasks.project import forecast
from tasks.settings import Settings
from tasks.store import tables
from tasks.store.rows import STORE, RowStore, StageUsage

Versions = dict[str, list[Path]]
NOTHING = f"{STORE} is not there: nothing is stored yet."


def usage(settings: Settings, root: Path, versions: Versions) -> dict[str, Any]:
    """What the store holds of each stage, and who has it. `versions` are the outputs that DVC's cache holds."""
    if not (root / STORE).is_file():
        return {"bytes": 0, "stages": []}
    with RowStore(root / STORE, read_only=True) as store:
        mark_rows(store, settings, root, versions)
        return {"bytes": _size(root), "stages": [_who_has(used) for used in store.usage()]}


def _who_has(used: StageUsage) -> dict[str, Any]:
    return {
        "stage": used.stage,
        "rows": used.rows,
        "bytes": used.size,
        "in_tables": used.today,
        "in_earlier_ones": used.earlier,
        "in_none": used.unused,
    }


def page(found: dict[str, Any]) -> Iterator[str]:
    """What `usage` found as a table of text, one line a stage."""
    if not found["bytes"]:
        yield NOTHING
        return
    yield f"{'stage':12}{'rows':>9}{'MB':>9}{'in tables':>12}{'in earlier ones':>18}{'in none':>10}"
    for used in found["stages"]:
        who = f"{used['in_tables']:12}{used['in_earlier_ones']:18}{used['in_none']:10}"
        yield f"{used['stage']:12}{used['rows']:9}{used['bytes'] / 1e6:9.1f}{who}"
    yield f"{STORE} takes {found['bytes'] / 1e6:.1f} MB; `stipple cache --prune` removes the rows that are in none."


def prune(settings: Settings, root: Path, versions: Versions) -> str:
    """Remove the rows that no run could ask for, and damaged stores that were set aside; say what came of it.

    The rows go in one transaction, and SQLite gives their space back in another, so a kill leaves a whole store.
    """
    if not (root / STORE).is_file():
        return NOTHING
    before = _size(root)
    for aside in (root / STORE).parent.glob(f"{STORE.name}.damaged-*"):
        aside.unlink()
    with RowStore(root / STORE) as store:
        mark_rows(store, settings, root, versions)
        gone = store.prune()
    after = _size(root)
    return f"Removed {gone} rows; {STORE} takes {after / 1e6:.1f} MB, {(before - after) / 1e6:.1f} MB less."


def mark_rows(store: RowStore, settings: Settings, root: Path, versions: Versions) -> None:
    """Tell the store which rows are in tables, and which the next run would ask for."""
    for stage in ROW_STAGES:
        store.mark(forecast.wanted(stage, settings, root), today=False)
        for name in (f"data/{stage}.parquet", f"data/quarantine/{stage}.parquet"):
            for path in versions.get(name, []):
                store.mark(_keys(path, f"{path}, an earlier {name}, cannot be read; remove it"), today=False)
            if (root / name).is_file():
                store.mark(_keys(root / name, f"{name} cannot be read; run `stipple run`"), today=True)


def _keys(path: Path, remedy: str) -> Iterator[str]:
    try:
        for few in tables.keys(path):
            yield from few
    except StippleError:
        raise StippleError(f"{remedy}, and look at the cache again") from None


def _size(root: Path) -> int:
    return sum(path.stat().st_size for path in (root / STORE).parent.glob(f"{STORE.name}*"))
