"""Rows that were computed once are not computed again.

`RowStore` keeps one result per `key`: a digest of everything that determined it. `compute` has the rows that the store
lacks computed in batches, keeps each batch as soon as it is there, and hands all rows back in order. A run that is
killed loses at most the batches in flight; a store that is lost refills from the tables, which carry the keys.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from tqdm.auto import tqdm

from tasks.store import files
from tasks.store.retry import Outcome, attempt
from tasks.errors import Damaged, Refused, StippleError

Item = TypeVar("Item")
Previous = Callable[[str], Path | None]
MapBatches = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]

STORE = Path(".stipple/rows.sqlite")
LOOKUP = 1024  # keys per query
SORTED = 16  # batches of neighbours that are sorted together, so that rows of one length meet in one batch

log = logging.getLogger("stipple.rows")


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def no_previous(table: str) -> Path | None:
    """There is no earlier version of any table."""
    return None


def key(**what: Any) -> str:
    """Digest of what determines a row: sha256 of its canonical JSON."""
    return hashlib.sha256(_canonical(what).encode()).hexdigest()


@dataclass(frozen=True)
class Held:
    """What the store has of one stage: rows, bytes of their values, rows in today's tables, rows in earlier ones."""

    stage: str
    rows: int
    size: int
    today: int
    earlier: int

    @property
    def unused(self) -> int:
        """Rows that no table has."""
        return self.rows - self.today - self.earlier


class RowStore:
    """SQLite file: key → value or refusal. One process writes; each `put` is one transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open()
        except sqlite3.OperationalError as error:
            raise StippleError(f"{path}: {error}; another run may be using it, or the disk may be full") from None
        except sqlite3.DatabaseError:
            aside = _move_aside(path)
            log.warning("%s was damaged and is now %s; its rows are taken from the tables again", path, aside.name)
            self._open()

    def _open(self) -> None:
        self._db = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
        try:
            self._db.execute("PRAGMA page_size=8192")  # of a new file; in 4096 there is room for one embedding alone
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # a kill loses nothing, a power cut at most the last batches
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, stage TEXT NOT NULL, value BLOB, reason TEXT)"
            )
        except sqlite3.Error:
            self._db.close()
            raise

    def __enter__(self) -> RowStore:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()

    def known(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that the store has; quicker than `get`, since it reads no value."""
        query = "SELECT key FROM rows WHERE key IN (SELECT value FROM json_each(?))"
        return {key for (key,) in self._execute(query, (json.dumps(list(keys)),))}

    def get(self, keys: Iterable[str]) -> dict[str, Outcome]:
        """What the store knows of `keys`; those it lacks are left out."""
        query = "SELECT key, value, reason FROM rows WHERE key IN (SELECT value FROM json_each(?))"
        rows = self._execute(query, (json.dumps(list(keys)),))
        if damaged := {key for key, value, _ in rows if value is not None and not _whole(value)}:
            log.warning("%d rows of %s were damaged and are forgotten", len(damaged), self.path)
            self._execute("DELETE FROM rows WHERE key IN (SELECT value FROM json_each(?))", (json.dumps([*damaged]),))
        return {key: Outcome(value and value[4:], reason) for key, value, reason in rows if key not in damaged}

    def put(self, stage: str, outcomes: dict[str, Outcome]) -> None:
        """Keep `outcomes`; a key that is there already keeps its row."""
        rows = [(key, stage, _sealed(o.value), o.reason) for key, o in outcomes.items() if not o.passing]
        self._execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?)", rows, many=True)

    def refer(self, keys: Iterable[str], today: bool) -> None:
        """Note, for this connection, that a table of `today` or an earlier one has the rows of `keys`."""
        self._execute("CREATE TEMP TABLE IF NOT EXISTS referred (key TEXT PRIMARY KEY, today INTEGER)")
        for few in chunks(keys, LOOKUP):
            rows = [(key, today) for key in few]
            merged = "ON CONFLICT DO UPDATE SET today = max(today, excluded.today)"
            self._execute(f"INSERT INTO referred VALUES (?, ?) {merged}", rows, many=True)

    def census(self) -> list[Held]:
        """What the store holds of each stage, and how much of it the tables that `refer` was told of have."""
        self.refer((), today=True)
        query = """
            SELECT stage, count(*), total(length(value)), total(today = 1), total(today = 0)
            FROM rows LEFT JOIN referred USING (key) GROUP BY stage ORDER BY stage"""
        return [Held(stage, *map(int, numbers)) for stage, *numbers in self._execute(query)]

    def prune(self) -> int:
        """Forget the rows that no table has, as `refer` was told, and give their space back. Returns how many."""
        self.refer((), today=True)
        self._execute("DELETE FROM rows WHERE key NOT IN (SELECT key FROM referred)")
        gone = self._execute("SELECT changes()")[0][0]
        self._execute("VACUUM")
        return gone

    def _execute(self, sql: str, values: Sequence[Any] = (), many: bool = False) -> list[tuple]:
        try:
            with self._db:
                return (self._db.executemany if many else self._db.execute)(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            remedy = "free some disk space" if "full" in str(error) else "delete it (its rows are in the tables too)"
            raise StippleError(f"{self.path}: {error}; {remedy} and run again") from None
        except sqlite3.DatabaseError as error:
            self._db.close()
            aside = _move_aside(self.path)
            self._open()
            raise Damaged(
                f"{self.path} was damaged ({error}) and is now {aside.name}; run again: its rows are in the tables too"
            ) from None


def _sealed(value: bytes | None) -> bytes | None:
    """`value` behind its checksum: SQLite itself does not notice when a disk changes what is inside of a row."""
    return None if value is None else zlib.crc32(value).to_bytes(4) + value


def _whole(sealed: bytes) -> bool:
    return sealed[:4] == zlib.crc32(sealed[4:]).to_bytes(4)


def _move_aside(path: Path) -> Path:
    aside = files.set_aside(path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside


@dataclass(frozen=True)
class Computed(Generic[Item]):
    """The rows of a stage. Iterating streams `(item, key, outcome)` in the order of the items."""

    computed: int
    reused: int
    rows: Callable[[], Iterator[tuple[Item, str, Outcome]]]

    def __iter__(self) -> Iterator[tuple[Item, str, Outcome]]:
        return self.rows()


def compute(
    stage: str,
    items: Callable[[], Iterable[Item]],
    *,
    key_of: Callable[[Item], str],
    fn: Callable[[list[Any]], list[bytes | Refused]],
    batch_size: int,
    store: RowStore,
    payload: Callable[[list[Item]], list[Any]] = list,
    order: Callable[[Item], Any] | None = None,
    earlier: Iterable[tuple[str, Outcome]] = (),
    map_batches: MapBatches = map,
    total: int | None = None,
) -> Computed[Item]:
    """Compute the rows that `store` lacks and return all of them.

    `items()` is walked twice and should be light; `payload` turns the items of one batch into what `fn` needs (their
    pictures, say). `fn` returns one value or `Refused` per row; what happens when it raises: see `batches.attempt`.
    `order` sorts neighbours before they share batches; which are neighbours does not depend on what is stored, so a run
    that was killed goes on with the very batches it would have made. `earlier` gives keys and outcomes from tables, and
    is read only if something is missing. Held in memory: `SORTED` batches of items and the batches in flight.
    """
    failed: dict[str, Outcome] = {}
    in_flight: deque[list[str]] = deque()
    pending: set[str] = set()
    window = max(LOOKUP, batch_size * SORTED)
    computed = reused = 0
    refilled = False

    work = partial(attempt, stage, fn)
    work.__name__ = stage

    with tqdm(total=total, desc=stage, unit="row", disable=None) as bar:

        def missing() -> Iterator[tuple[str, Item]]:
            nonlocal refilled, reused
            for chunk in chunks(items(), window):
                keyed = [(key_of(item), item) for item in chunk]
                known = store.known(key for key, _ in keyed)
                if len(known) < len({key for key, _ in keyed}) and not refilled:
                    refilled = True
                    for rows in chunks(earlier, LOOKUP):
                        store.put(stage, dict(rows))
                    known = store.known(key for key, _ in keyed)
                fresh: dict[str, Item] = {}
                for key, item in keyed:
                    if key not in known and key not in pending:
                        fresh.setdefault(key, item)
                pending.update(fresh)
                reused += len(keyed) - len(fresh)
                bar.update(len(keyed) - len(fresh))
                yield from fresh.items() if order is None else sorted(fresh.items(), key=lambda keyed: order(keyed[1]))

        def batches() -> Iterator[list[Any]]:
            for batch in chunks(missing(), batch_size):
                in_flight.append([key for key, _ in batch])
                yield payload([item for _, item in batch])

        for outcomes in map_batches(work, batches()):
            done = dict(zip(in_flight.popleft(), outcomes, strict=True))
            store.put(stage, done)
            pending.difference_update(key for key, outcome in done.items() if not outcome.passing)
            failed.update((key, outcome) for key, outcome in done.items() if outcome.passing)
            computed += len(done)
            bar.update(len(done))

    def rows() -> Iterator[tuple[Item, str, Outcome]]:
        for chunk in chunks(items(), LOOKUP):
            keys = [key_of(item) for item in chunk]
            known = store.get(keys)
            for item, key in zip(chunk, keys, strict=True):
                outcome = known.get(key) or failed.get(key)
                if outcome is None:
                    raise Damaged(f"{stage}: its input changed while it ran, or a stored row was damaged; run it again")
                yield item, key, outcome

    return Computed(computed, reused, rows)


def chunks(values: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """`values` in lists of `size`, the last one shorter."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk
