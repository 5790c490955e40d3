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

from tasks.errors import Refused, StippleError
from tasks.store import tables
from tasks.store.digests import digest_of
from tasks.store.fill import RowStage, compute_missing, from_tables, results
from tasks.store.retry import RowResult
from tasks.store.rows import RowStore, no_previous
from tasks.store.schemas import SCHEMAS


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


class Doubled:
    """The numbers doubled by `fn`, but for those that `store` or `earlier` has."""

    def __init__(self, numbers, fn, store, *, batch_size=4, order=None, **options):
        by_number = None if order is None else lambda item: order(item["n"])
        self.stage, self.store = doubling(numbers, fn, batch_size=batch_size, order=by_number), store
        self.computed, self.failed = compute_missing(self.stage, store, **options)

    def values(self):
        found = results(self.stage, self.store, self.failed)
        return [result.reason if result.value is None else result.value for _, result in found]


def doubling(numbers, fn, **options):
    return RowStage(
        "double",
        items=lambda: ({"row_key": digest_of(n=n), "n": n} for n in numbers),
        payload=lambda batch: [item["n"] for item in batch],
        compute=fn,
        encode=bytes,
        decode=dict,
        **options,
    )


def test_rows_come_back_in_order_whatever_the_batches(store):
    fn = Doubler()
    result = Doubled([5, 3, 9, 1, 7], fn, store, order=lambda n: n)
    assert result.values() == [b"10", b"6", b"18", b"2", b"14"]
    assert fn.batches == [[1, 3, 5, 7], [9]]
    assert result.computed == 5


def test_only_missing_rows_are_computed_and_equal_rows_once(store):
    Doubled(range(6), Doubler(), store)
    fn = Doubler()
    result = Doubled([*range(6), 8, 8], fn, store)
    assert fn.batches == [[8]]
    assert result.computed == 1
    assert len(result.values()) == 8


def test_refusals_are_remembered_and_passing_failures_are_not(store):
    first = Doubled(range(12, 20), Doubler(poison={15}), store)
    assert first.values()[1] == "13 is unlucky"
    assert first.values()[3] == "RuntimeError: out of memory"
    assert sum(isinstance(value, bytes) for value in first.values()) == 6
    fn = Doubler()
    assert Doubled(range(12, 20), fn, store).values()[3] == b"30"
    assert fn.batches == [[15]]


def test_a_row_that_fails_is_isolated_by_halving(store):
    fn = Doubler(poison={6})
    Doubled(range(8), fn, store, batch_size=8)
    assert [len(batch) for batch in fn.batches] == [8, 4, 4, 2, 2, 1, 1]


def test_when_every_row_fails_it_is_not_the_rows(store):
    with pytest.raises(StippleError, match="all 8 rows of a batch failed, so it is not the rows: RuntimeError: out of"):
        Doubled(range(8), Doubler(poison=range(8)), store, batch_size=8)


def test_earlier_tables_refill_an_empty_store(tmp_path, store):
    rows = [{"frame_id": f"a/{n}", "caption": str(2 * n), "words": 1, "row_key": digest_of(n=n)} for n in range(5)]
    old = tmp_path / "old.parquet"
    tables.write(old, SCHEMAS["captions"], rows[:3])
    tables.write(tmp_path / "data" / "captions.parquet", SCHEMAS["captions"], rows[3:])
    earlier = from_tables("captions", tmp_path, lambda table: old, lambda row: row["caption"].encode(), store.known)
    fn = Doubler()
    result = Doubled(range(6), fn, store, earlier=earlier)
    assert fn.batches == [[5]]
    assert result.values() == [b"0", b"2", b"4", b"6", b"8", b"10"]


def test_of_an_earlier_table_only_what_the_store_lacks_is_read(tmp_path, store):
    rows = [{"frame_id": f"a/{n}", "caption": str(n), "words": 1, "row_key": digest_of(n=n)} for n in range(5)]
    tables.write(tmp_path / "data" / "captions.parquet", SCHEMAS["captions"], rows)
    refusals = [
        {"frame_id": "b/0", "reason": "dark", "row_key": digest_of(n=8)},
        {"frame_id": "b/1", "reason": "no memory"},
    ]
    tables.write_quarantine(tmp_path, "captions", refusals)
    store.put("captions", {digest_of(n=n): RowResult(b"") for n in range(4)})
    found = from_tables("captions", tmp_path, no_previous, lambda row: row["caption"].encode(), store.known)
    assert dict(found) == {digest_of(n=4): RowResult(b"4"), digest_of(n=8): RowResult(reason="dark")}


def test_a_damaged_table_refills_nothing_and_says_so(tmp_path, store, caplog):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "captions.parquet").write_bytes(b"PAR1 not really")
    earlier = from_tables("captions", tmp_path, no_previous, lambda row: row["caption"].encode(), store.known)
    assert Doubled([1], Doubler(), store, earlier=earlier).computed == 1
    assert "captions.parquet: its rows cannot be reused" in caplog.text


@pytest.mark.parametrize("damage", [b"not a database at all, but some text", b"SQLite format 3\x00" + bytes(5000)])
def test_a_damaged_store_is_moved_aside(tmp_path, caplog, damage):
    path = tmp_path / "rows.sqlite"
    path.write_bytes(damage)
    with RowStore(path) as store:
        assert Doubled([1], Doubler(), store).computed == 1
    assert (tmp_path / "rows.sqlite.damaged-1").read_bytes() == damage
    assert "rows.sqlite was damaged and is now rows.sqlite.damaged-1" in caplog.text


def test_damage_in_the_middle_is_noticed(tmp_path):
    path = tmp_path / "rows.sqlite"
    with RowStore(path) as store:
        store.put("s", {digest_of(n=n): RowResult(bytes(500)) for n in range(500)})
    content = bytearray(path.read_bytes())
    content[8192:40960] = b"\xff" * (40960 - 8192)
    path.write_bytes(content)
    with (
        RowStore(path) as store,
        pytest.raises(StippleError, match=r"damaged .* is now rows.sqlite.damaged-1; run"),
    ):
        store.get(digest_of(n=n) for n in range(500))
    assert (tmp_path / "rows.sqlite.damaged-1").read_bytes() == content
    with RowStore(path) as store:
        assert store.get([digest_of(n=0)]) == {}


def test_a_row_whose_value_was_damaged_is_computed_again_by_the_next_run(tmp_path):
    path, fn = tmp_path / "rows.sqlite", Doubler()
    with RowStore(path) as store:
        Doubled(range(6), fn, store)
    with closing(sqlite3.connect(path)) as file, file:
        (value,) = file.execute("SELECT value FROM rows WHERE key = ?", [digest_of(n=2)]).fetchone()
        file.execute("UPDATE rows SET value = ? WHERE key = ?", [value[:-1] + b"5", digest_of(n=2)])
    with RowStore(path) as store:
        with pytest.raises(StippleError, match="a stored row was damaged; run it again"):
            Doubled(range(6), fn, store).values()
        assert Doubled(range(6), fn, store).values() == [b"0", b"2", b"4", b"6", b"8", b"10"]
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
        from tasks.store.rows import RowStore
        from tests.tasks.store.test_rows import compute_missing, doubling
        def double(batch):
            if 13 in batch:
                os.kill(os.getpid(), signal.SIGKILL)
            return [str(2 * n).encode() for n in batch]
        compute_missing(doubling(range(40), double, batch_size=4), RowStore(Path(sys.argv[1])))
    """
    path = tmp_path / "rows.sqlite"
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], capture_output=True)
    assert killed.returncode == -9
    with RowStore(path) as store:
        fn = Doubler()
        assert Doubled(range(12), fn, store).computed == 0
        assert fn.batches == []


@pytest.mark.parametrize("order", [None, lambda n: -(n % 97)])
@pytest.mark.parametrize("finished", [1, 5, 300, 301, 700])
def test_a_killed_run_goes_on_with_the_batches_that_an_undisturbed_one_makes(tmp_path, order, finished):
    """A row's last bits may depend on the batch that it is in."""
    numbers = [n % 2500 for n in range(3001)]
    undisturbed, before, after = Doubler(), Doubler(), Doubler()
    with RowStore(tmp_path / "undisturbed.sqlite") as store:
        Doubled(numbers, undisturbed, store, order=order)
    with RowStore(tmp_path / "killed.sqlite") as store:
        Doubled(numbers, before, store, order=order, map_batches=lambda fn, batches: islice(map(fn, batches), finished))
        Doubled(numbers, after, store, order=order)
    assert before.batches + after.batches == undisturbed.batches
    assert sum(map(len, undisturbed.batches)) == 2500


def test_memory_holds_windows_not_the_table(store):
    alive = peak = 0

    def batches(fn, iterable):
        nonlocal alive, peak
        for batch in iterable:
            keys, payload = batch
            alive += len(payload)
            peak = max(peak, alive)
            yield fn(batch)
            alive -= len(keys)

    result = Doubled(range(2000), Doubler(), store, map_batches=batches, batch_size=16)
    assert len(result.values()) == 2000
    assert peak == 16


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.integers(), st.text(), st.booleans()), min_size=1))
def test_a_key_depends_on_content_and_not_on_order(what):
    assert digest_of(**what) == digest_of(**dict(reversed(what.items())))
    assert digest_of(**what) != digest_of(**what, **{"".join(what) + "x": 0})
