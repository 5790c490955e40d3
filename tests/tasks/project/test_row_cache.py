"""What is stored, what of it could still be asked for, and what pruning leaves: with real tables and a real store."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tasks import captions, embeddings, summaries
from tasks.errors import StippleError
from tasks.project import row_cache
from tasks.store import tables
from tasks.store.retry import RowResult
from tasks.store.rows import STORE, RowStore
from tasks.store.schemas import SCHEMAS
from tests.support import ROOT, tiny_models

TEXTS = ["obeys", "second", "silent"]


@pytest.fixture
def project(tiny_root):
    """A folder with captions and their summaries: two, and one refusal."""
    rows = [{"frame_id": f"clip.mp4/{n:06d}", "caption": text, "row_key": str(n)} for n, text in enumerate(TEXTS)]
    tables.write(tiny_root / "data" / "captions.parquet", SCHEMAS["captions"], rows)
    chosen = tiny_models.settings()
    summaries.run(chosen, tiny_root)
    return tiny_root, chosen


def rest(project, store_rows: int) -> None:
    """Rows that no table has, as an older `VERSION` leaves them."""
    with RowStore(project / STORE) as store:
        store.put("summaries", {f"old {n}": RowResult(bytes(2000)) for n in range(store_rows)})


def with_summaries(chosen, **changes):
    summaries = chosen.params.summaries.model_copy(update=changes)
    return chosen.model_copy(update={"params": chosen.params.model_copy(update={"summaries": summaries})})


def counted(usage) -> dict[str, list[int]]:
    """Stage → rows, in tables, in earlier ones, in none; as the page says, too."""
    table = [line.split() for line in row_cache.page(usage)][1:-1]
    said = {stage: [int(n) for n in (rows, *numbers)] for stage, rows, _, *numbers in table}
    columns = ("rows", "in_tables", "in_earlier_ones", "in_none")
    assert said == {used["stage"]: [used[column] for column in columns] for used in usage["stages"]}
    return said


def test_rows_are_counted_by_who_has_them(project):
    root, chosen = project
    rest(root, 5)
    assert counted(row_cache.usage(chosen, root, {})) == {"summaries": [8, 3, 0, 5]}


def test_pruning_takes_what_no_table_has_and_gives_the_space_back(project):
    root, chosen = project
    rest(root, 1000)
    (root / ".stipple" / "rows.sqlite.damaged-1").write_bytes(bytes(100))
    before = (root / STORE).stat().st_size
    assert row_cache.prune(chosen, root, {}).startswith("Removed 1000 rows")
    assert (root / STORE).stat().st_size < before / 10
    assert [path.name for path in (root / STORE).parent.iterdir()] == ["rows.sqlite"]
    assert counted(row_cache.usage(chosen, root, {})) == {"summaries": [3, 3, 0, 0]}
    assert summaries.run(chosen, root)["computed"] == 0


def test_rows_of_an_earlier_table_stay_until_dvc_forgets_it(project):
    root, chosen = project
    old = root / "from the cache"
    old.write_bytes((root / "data" / "summaries.parquet").read_bytes())
    now = with_summaries(chosen, max_attempts=2)
    assert summaries.run(now, root)["computed"] == 3
    versions = {"data/summaries.parquet": [old]}
    assert counted(row_cache.usage(now, root, versions)) == {"summaries": [6, 3, 2, 1]}
    row_cache.prune(now, root, versions)
    assert summaries.run(chosen, root)["computed"] == 1  # the refusal, whose table was not in the cache
    summaries.run(now, root)
    row_cache.prune(now, root, {})
    assert summaries.run(chosen, root)["computed"] == 3


def test_rows_that_a_killed_run_left_for_the_next_one_stay(project):
    root, chosen = project
    for table in ("data/summaries.parquet", "data/quarantine/summaries.parquet"):
        (root / table).unlink()
    assert counted(row_cache.usage(chosen, root, {})) == {"summaries": [3, 0, 3, 0]}
    assert row_cache.prune(chosen, root, {}).startswith("Removed 0 rows")


def test_a_table_that_cannot_be_read_stops_the_pruning(project):
    root, chosen = project
    (root / "data" / "summaries.parquet").write_bytes(b"PAR1 half")
    rest(root, 1)
    with pytest.raises(StippleError, match=r"data/summaries.parquet cannot be read"):
        row_cache.prune(chosen, root, {})
    with RowStore(root / STORE) as store:
        assert store.known(["old 0"])


def test_a_kill_while_pruning_leaves_a_whole_store(project):
    root, chosen = project
    rest(root, 20_000)
    script = """
        import os, signal, sys, threading
        from pathlib import Path
        from tasks.store.rows import RowStore
        store = RowStore(Path(sys.argv[1]))
        store._db.set_progress_handler(lambda: os.kill(os.getpid(), signal.SIGKILL), 200_000)
        store.prune()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(root / STORE)]
    assert subprocess.run(command, cwd=ROOT).returncode == -9
    with RowStore(root / STORE) as store:
        assert store.known(["old 0"])
    assert summaries.run(chosen, root)["computed"] == 0
    assert row_cache.prune(chosen, root, {}).startswith("Removed 20000 rows")


def test_another_summary_prompt_leaves_captions_alone_and_going_back_computes_nothing(project):
    root, chosen = project
    assert [item["row_key"] for item in embeddings.items(chosen, root)]
    now = with_summaries(chosen, prompt=tiny_models.INSTRUCTION + " ")
    assert summaries.run(now, root)["computed"] == 3
    assert summaries.run(chosen, root)["computed"] == 0
    tables.write(root / "data" / "frames.parquet", SCHEMAS["frames"], [{"frame_id": "a/0", "sha256": "x"}])
    assert list(captions.items(now, root)) == list(captions.items(chosen, root))
