"""Rows that were computed once are not computed again.

`RowStore` keeps one result per key: a digest of everything that determined it. What fills it: `tasks.store.fill`. A
store that is lost refills from the tables, which carry the keys.
"""

import json
import logging
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tasks.errors import Damaged, StippleError
from tasks.store import files
from tasks.store.retry import RowResult
from tasks.store.tables import chunks

Previous = Callable[[str], Path | None]
MapBatches = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]

STORE = Path(".stipple/rows.sqlite")
LOOKUP = 1024  # keys per query

log = logging.getLogger("stipple.rows")


def no_previous(table: str) -> Path | None:
    """There is no earlier version of any table."""
    return None


@dataclass(frozen=True)
class StageUsage:
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

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the store, make it, or, where it is damaged, set it aside and make it anew; `read_only` does neither."""
        self.path, self.read_only = path, read_only
        if read_only:
            idle = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"  # or SQLite writes files
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{idle}", uri=True)
            return
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()

    def known(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that the store has; quicker than `get`, since it reads no value."""
        query = "SELECT key FROM rows WHERE key IN (SELECT value FROM json_each(?))"
        return {key for (key,) in self._execute(query, (json.dumps(list(keys)),))}

    def get(self, keys: Iterable[str]) -> dict[str, RowResult]:
        """What the store knows of `keys`; those it lacks are left out."""
        query = "SELECT key, value, reason FROM rows WHERE key IN (SELECT value FROM json_each(?))"
        rows = self._execute(query, (json.dumps(list(keys)),))
        if damaged := {key for key, value, _ in rows if value is not None and not _whole(value)}:
            log.warning("%d rows of %s were damaged and are forgotten", len(damaged), self.path)
            self._execute("DELETE FROM rows WHERE key IN (SELECT value FROM json_each(?))", (json.dumps([*damaged]),))
        return {key: RowResult(value and value[4:], reason) for key, value, reason in rows if key not in damaged}

    def put(self, stage: str, results: dict[str, RowResult]) -> None:
        """Keep `results`; a key that is there already keeps its row."""
        rows = [(key, stage, _sealed(r.value), r.reason) for key, r in results.items() if not r.transient]
        self._execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?)", rows, many=True)

    def put_all(self, stage: str, results: Iterable[tuple[str, RowResult]]) -> bool:
        """Keep all `results`; whether there were any."""
        there = False
        for few in chunks(results, LOOKUP):
            there = True
            self.put(stage, dict(few))
        return there

    def mark(self, keys: Iterable[str], today: bool) -> None:
        """Note, for this connection, that a table of `today` or an earlier one has the rows of `keys`."""
        self._execute("CREATE TEMP TABLE IF NOT EXISTS marked (key TEXT PRIMARY KEY, today INTEGER)")
        for few in chunks(keys, LOOKUP):
            rows = [(key, today) for key in few]
            merged = "ON CONFLICT DO UPDATE SET today = max(today, excluded.today)"
            self._execute(f"INSERT INTO marked VALUES (?, ?) {merged}", rows, many=True)

    def usage(self) -> list[StageUsage]:
        """What the store holds of each stage, and how much of it the tables that `mark` was told of have."""
        self.mark((), today=True)
        query = """
            SELECT stage, count(*), total(length(value)), total(today = 1), total(today = 0)
            FROM rows LEFT JOIN marked USING (key) GROUP BY stage ORDER BY stage"""
        return [StageUsage(stage, *map(int, numbers)) for stage, *numbers in self._execute(query)]

    def prune(self) -> int:
        """Forget the rows that no table has, as `mark` was told, and give their space back. Returns how many."""
        self.mark((), today=True)
        self._execute("DELETE FROM rows WHERE key NOT IN (SELECT key FROM marked)")
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
            if self.read_only:
                raise Damaged(
                    f"{self.path} is damaged ({error}); the next run takes its rows from the tables"
                ) from None
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
