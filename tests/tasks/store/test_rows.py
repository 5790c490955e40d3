"""What is computed once stays: keys, batches, kills, damage, refills, and rows that fail alone."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.store import tables
from tasks.store.retry import Outcome
from tasks.errors import Refused, StippleError
from tasks.store.rows import RowStore, compute, key, no_previous
from tasks.store.fill import from_tables


@pytest.fixture
def store(tmp_path):
    with RowStore(tmp_path / ".stipple" / "rows.sqlite") as store:
        yield store


class Doubler:
    """Doubles numbers, remembers its batches; refuses 13, and fails on any batch that holds a number of `poison`."""

    def __init__(self, poison=()):
        self.batches, self.poison = [], set(poison)

    def __call__(self, batch):
        self.batches.append(list(batch))
        if self.poison.intersection(batch):
            raise RuntimeError("out of memory")
        return [Refused("13 is unlucky") if n == 13 else str(2 * n).encode() for n in batch]


def double(numbers, fn, store, **options):
    options = {"batch_size": 4, "key_of": lambda n: key(n=n)} | options
    return compute("double", lambda: numbers, fn=fn, store=store, **options)


def values(computed):
    return [outcome.reason if outcome.value is None else outcome.value for _, _, outcome in computed]


def test_rows_come_back_in_order_whatever_the_batches(store):
    fn = Doubler()
    result = double([5, 3, 9, 1, 7], fn, store, order=lambda n: n)
    assert values(result) == [b"10", b"6", b"18", b"2", b"14"]
    assert fn.batches == [[1, 3, 5, 7], [9]]
    assert (result.computed, result.reused) == (5, 0)


def test_only_missing_rows_are_computed_and_equal_rows_once(store):
    double(range(6), Doubler(), store)
    fn = Doubler()
    result = double([*range(6), 8, 8], fn, store)
    assert fn.batches == [[8]]
    assert (result.computed, result.reused) == (1, 7)
    assert len(values(result)) == 8


def test_refusals_are_remembered_and_passing_failures_are_not(store):
    first = double(range(12, 20), Doubler(poison={15}), store)
    assert values(first)[1] == "13 is unlucky"
    assert values(first)[3] == "RuntimeError: out of memory"
    assert sum(isinstance(value, bytes) for value in values(first)) == 6
    fn = Doubler()
    assert values(double(range(12, 20), fn, store))[3] == b"30"
    assert fn.batches == [[15]]


def test_a_row_that_fails_is_isolated_by_halving(store):
    fn = Doubler(poison={6})
    double(range(8), fn, store, batch_size=8)
    assert [len(batch) for batch in fn.batches] == [8, 4, 4, 2, 2, 1, 1]


def test_when_every_row_fails_it_is_not_the_rows(store):
    with pytest.raises(StippleError, match="all 8 rows of a batch failed, so it is not the rows: RuntimeError: out of"):
        double(range(8), Doubler(poison=range(8)), store, batch_size=8)


def test_earlier_tables_refill_an_empty_store(tmp_path, store):
    rows = [{"frame_id": f"a/{n}", "caption": str(2 * n), "words": 1, "row_key": key(n=n)} for n in range(5)]
    old = tmp_path / "old.parquet"
    tables.write(old, tables.SCHEMAS["captions"], rows[:3])
    tables.write(tmp_path / "data" / "captions.parquet", tables.SCHEMAS["captions"], rows[3:])
    earlier = from_tables("captions", tmp_path, lambda table: old, lambda row: row["caption"].encode(), store.known)
    fn = Doubler()
    result = double(range(6), fn, store, earlier=earlier)
    assert fn.batches == [[5]]
    assert values(result) == [b"0", b"2", b"4", b"6", b"8", b"10"]


def test_of_an_earlier_table_only_what_the_store_lacks_is_read(tmp_path, store):
    rows = [{"frame_id": f"a/{n}", "caption": str(n), "words": 1, "row_key": key(n=n)} for n in range(5)]
    tables.write(tmp_path / "data" / "captions.parquet", tables.SCHEMAS["captions"], rows)
    refusals = [{"frame_id": "b/0", "reason": "dark", "row_key": key(n=8)}, {"frame_id": "b/1", "reason": "no memory"}]
    tables.write_quarantine(tmp_path, "captions", refusals)
    store.put("captions", {key(n=n): Outcome(b"") for n in range(4)})
    found = from_tables("captions", tmp_path, no_previous, lambda row: row["caption"].encode(), store.known)
    assert dict(found) == {key(n=4): Outcome(b"4"), key(n=8): Outcome(reason="dark")}


def test_a_damaged_table_refills_nothing_and_says_so(tmp_path, store, caplog):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "captions.parquet").write_bytes(b"PAR1 not really")
    earlier = from_tables("captions", tmp_path, no_previous, lambda row: row["caption"].encode(), store.known)
    assert double([1], Doubler(), store, earlier=earlier).computed == 1
    assert "captions.parquet: its rows cannot be reused" in caplog.text


@pytest.mark.parametrize("damage", [b"not a database at all, but some text", b"SQLite format 3\x00" + bytes(5000)])
def test_a_damaged_store_is_moved_aside(tmp_path, caplog, damage):
    path = tmp_path / "rows.sqlite"
    path.write_bytes(damage)
    with RowStore(path) as store:
        assert double([1], Doubler(), store).computed == 1
    assert (tmp_path / "rows.sqlite.damaged-1").read_bytes() == damage
    assert "rows.sqlite was damaged and is now rows.sqlite.damaged-1" in caplog.text


def test_damage_in_the_middle_is_noticed(tmp_path):
    path = tmp_path / "rows.sqlite"
    with RowStore(path) as store:
        store.put("s", {key(n=n): Outcome(bytes(500)) for n in range(500)})
    content = bytearray(path.read_bytes())
    content[8192:40960] = b"\xff" * (40960 - 8192)
    path.write_bytes(content)
    with (
        RowStore(path) as store,
        pytest.raises(StippleError, match=r"damaged .* is now rows.sqlite.damaged-1; run"),
    ):
        store.get(key(n=n) for n in range(500))
    assert (tmp_path / "rows.sqlite.damaged-1").read_bytes() == content
    with RowStore(path) as store:
        assert store.get([key(n=0)]) == {}


def test_a_row_whose_value_was_damaged_is_computed_again_by_the_next_run(tmp_path):
    path, fn = tmp_path / "rows.sqlite", Doubler()
    with RowStore(path) as store:
        double(range(6), fn, store)
    with closing(sqlite3.connect(path)) as file, file:
        (value,) = file.execute("SELECT value FROM rows WHERE key = ?", [key(n=2)]).fetchone()
        file.execute("UPDATE rows SET value = ? WHERE key = ?", [value[:-1] + b"5", key(n=2)])
    with RowStore(path) as store:
        with pytest.raises(StippleError, match="a stored row was damaged; run it again"):
            values(double(range(6), fn, store))
        assert values(double(range(6), fn, store)) == [b"0", b"2", b"4", b"6", b"8", b"10"]
    assert fn.batches[2:] == [[2]]


def test_a_locked_or_foreign_store_ends_in_one_line(tmp_path):
    sqlite3.connect(tmp_path / "rows.sqlite").execute("CREATE TABLE rows (something)")
    with RowStore(tmp_path / "rows.sqlite") as store, pytest.raises(StippleError, match="delete it"):
        store.get(["a"])
    (tmp_path / "folder").mkdir()
    with pytest.raises(StippleError, match="unable to open"):
        RowStore(tmp_path / "folder")


def test_a_killed_run_loses_at_most_the_batch_in_flight(tmp_path):
    script = """
        import os, signal, sys
        from pathlib import Path
        from tasks.store.rows import RowStore, compute, key
        def double(batch):
            if 13 in batch:
                os.kill(os.getpid(), signal.SIGKILL)
            return [str(2 * n).encode() for n in batch]
        store = RowStore(Path(sys.argv[1]))
        compute("double", lambda: range(40), key_of=lambda n: key(n=n), fn=double, batch_size=4, store=store)
    """
    path = tmp_path / "rows.sqlite"
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], capture_output=True)
    assert killed.returncode == -9
    with RowStore(path) as store:
        fn = Doubler()
        assert double(range(12), fn, store).reused == 12
        assert fn.batches == []


@pytest.mark.parametrize("order", [None, lambda n: -(n % 97)])
@pytest.mark.parametrize("finished", [1, 5, 300, 301, 700])
def test_a_killed_run_goes_on_with_the_batches_that_an_undisturbed_one_makes(tmp_path, order, finished):
    """A row's last bits may depend on the batch that it is in."""
    numbers = [n % 2500 for n in range(3001)]
    undisturbed, before, after = Doubler(), Doubler(), Doubler()
    with RowStore(tmp_path / "undisturbed.sqlite") as store:
        double(numbers, undisturbed, store, order=order)
    with RowStore(tmp_path / "killed.sqlite") as store:
        double(numbers, before, store, order=order, map_batches=lambda fn, batches: islice(map(fn, batches), finished))
        double(numbers, after, store, order=order)
    assert before.batches + after.batches == undisturbed.batches
    assert sum(map(len, undisturbed.batches)) == 2500


def test_memory_holds_windows_not_the_table(store):
    alive = peak = 0

    def batches(fn, iterable):
        nonlocal alive, peak
        for batch in iterable:
            alive += len(batch)
            peak = max(peak, alive)
            yield fn(batch)
            alive -= len(batch)

    result = double(range(2000), Doubler(), store, map_batches=batches, batch_size=16)
    assert sum(1 for _ in result) == 2000
    assert peak == 16


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.integers(), st.text(), st.booleans()), min_size=1))
def test_a_key_depends_on_content_and_not_on_order(what):
    assert key(**what) == key(**dict(reversed(what.items())))
    assert key(**what) != key(**what, **{"".join(what) + "x": 0})
