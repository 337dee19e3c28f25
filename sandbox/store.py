"""The sandbox's state: one SQLite file, one transaction at a time, written through before any reply.

Documents live in one table with the few columns that lists filter by. A killed process loses nothing that
was answered: SQLite's log is in the kernel by then (`synchronous=OFF` gives up only power cuts).
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import Doc
from .errors import missing

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    customer TEXT, subscription TEXT, invoice TEXT, parent TEXT, clock TEXT, doc TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS objects_kind ON objects (kind, seq);
CREATE INDEX IF NOT EXISTS objects_customer ON objects (customer, kind);
CREATE INDEX IF NOT EXISTS objects_subscription ON objects (subscription, kind);
CREATE INDEX IF NOT EXISTS objects_invoice ON objects (invoice, kind);
CREATE INDEX IF NOT EXISTS objects_parent ON objects (parent, kind);
CREATE INDEX IF NOT EXISTS objects_clock ON objects (clock, kind);
CREATE TABLE IF NOT EXISTS timers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, due_at INTEGER NOT NULL, clock TEXT NOT NULL,
    action TEXT NOT NULL, target TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS timers_due ON timers (clock, due_at, seq);
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL,
    request_id TEXT NOT NULL, created_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, endpoint TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending', attempts INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL,
    last_status INTEGER);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (state, next_at);
CREATE INDEX IF NOT EXISTS deliveries_event ON deliveries (event);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_TABLES = ("objects", "timers", "replies", "deliveries", "settings")
_FILTERS = frozenset({"customer", "subscription", "invoice", "parent", "clock"})


class ClockBusy(Exception):
    """A write touched an object whose test clock is advancing; it waits and runs again."""

    def __init__(self, clock: str) -> None:
        super().__init__(clock)
        self.clock = clock


class Tx:
    """One transaction: documents by id, loaded once, changed in place, written at the end if changed."""

    def __init__(self, connection: sqlite3.Connection, advancing: str | None) -> None:
        self._db = connection
        self._advancing = advancing
        self._loaded: dict[str, tuple[Doc, str]] = {}

    # -- documents ---------------------------------------------------------------------------------------
    def find(self, object_id: str) -> Doc | None:
        """The document with this id, whatever its kind."""
        if object_id in self._loaded:
            return self._loaded[object_id][0]
        row = self._db.execute("SELECT doc FROM objects WHERE id = ?", (object_id,)).fetchone()
        return self._hold(object_id, row[0]) if row else None

    def get(self, kind: str, object_id: str, *, param: str | None = None) -> Doc:
        """The document of `kind` with this id.

        Raises: ApiError `resource_missing`, 404, or 400 when `param` names the parameter that held the id.
        """
        doc = self.find(object_id)
        if doc is None or doc["object"] != kind:
            raise missing(kind, object_id, param=param or "id", status=400 if param else 404)
        return doc

    def add(self, doc: Doc) -> Doc:
        """Keep a new document; its place in lists is the order of adding."""
        self._refuse_if_advancing(doc)
        self._db.execute(
            "INSERT INTO objects (id, kind, customer, subscription, invoice, parent, clock, doc) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (doc["id"], doc["object"], *_columns(doc), text := _dump(doc)),
        )
        self._loaded[doc["id"]] = (doc, text)
        return doc

    def remove(self, doc: Doc) -> None:
        self._db.execute("DELETE FROM objects WHERE id = ?", (doc["id"],))
        self._loaded.pop(doc["id"], None)

    def select(self, kind: str, **filters: str | None) -> list[Doc]:
        """Every document of `kind` that matches, in creation order; filters are the columns of the table."""
        self.flush()
        clauses, values = ["kind = ?"], [kind]
        for column, value in filters.items():
            assert column in _FILTERS, column
            clauses.append(f"{column} IS NULL" if value is None else f"{column} = ?")
            values += [] if value is None else [value]
        query = f"SELECT id, doc FROM objects WHERE {' AND '.join(clauses)} ORDER BY seq"  # noqa: S608
        return [self._hold(row[0], row[1]) for row in self._db.execute(query, values).fetchall()]

    def sequence(self, object_id: str) -> int | None:
        """The place of an object in creation order."""
        row = self._db.execute("SELECT seq FROM objects WHERE id = ?", (object_id,)).fetchone()
        return int(row[0]) if row else None

    def page(self, where: str, values: list[object], *, limit: int, ascending: bool) -> list[Doc]:
        """Up to `limit` documents, newest first unless `ascending`; `where` comes from the list code only."""
        self.flush()
        direction = "ASC" if ascending else "DESC"
        query = f"SELECT id, doc FROM objects WHERE {where} ORDER BY seq {direction} LIMIT ?"  # noqa: S608
        return [self._hold(row[0], row[1]) for row in self._db.execute(query, [*values, limit]).fetchall()]

    def flush(self) -> None:
        """Write the documents that changed since they were loaded."""
        for object_id, (doc, text) in list(self._loaded.items()):
            fresh = _dump(doc)
            if fresh != text:
                self._refuse_if_advancing(doc)
                self._db.execute(
                    "UPDATE objects SET customer=?, subscription=?, invoice=?, parent=?, clock=?, doc=? "
                    "WHERE id=?",
                    (*_columns(doc), fresh, object_id),
                )
                self._loaded[object_id] = (doc, fresh)

    def _hold(self, object_id: str, text: str) -> Doc:
        if object_id not in self._loaded:
            self._loaded[object_id] = (json.loads(text), text)
        return self._loaded[object_id][0]

    def _refuse_if_advancing(self, doc: Doc) -> None:
        clock_id = doc.get("test_clock") or doc.get("_clock")
        if not isinstance(clock_id, str) or clock_id == self._advancing:
            return
        clock = self.find(clock_id)
        if clock is not None and clock["status"] == "advancing":
            raise ClockBusy(clock_id)

    # -- timers ------------------------------------------------------------------------------------------
    def set_timer(self, due_at: int, clock: str | None, action: str, target: str) -> None:
        """Ring `action` for `target` when its clock (None: the wall) reaches `due_at`; rings once."""
        self._db.execute(
            "INSERT INTO timers (due_at, clock, action, target) VALUES (?, ?, ?, ?)",
            (due_at, clock or "", action, target),
        )

    def take_timer(self, clock: str | None, until: int) -> tuple[int, str, str] | None:
        """The next timer due by `until`, taken out: (due_at, action, target)."""
        row = self._db.execute(
            "SELECT seq, due_at, action, target FROM timers WHERE clock = ? AND due_at <= ? "
            "ORDER BY due_at, seq LIMIT 1",
            (clock or "", until),
        ).fetchone()
        if row is None:
            return None
        self._db.execute("DELETE FROM timers WHERE seq = ?", (row[0],))
        return int(row[1]), str(row[2]), str(row[3])

    def clear_timers(self, clock: str) -> None:
        self._db.execute("DELETE FROM timers WHERE clock = ?", (clock,))

    # -- rows that are not API objects -----------------------------------------------------------------------
    def execute(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """Run one statement on the tables of replies, deliveries and settings."""
        return self._db.execute(statement, values).fetchall()


class Store:
    """The file, its lock, and the word that something changed."""

    def __init__(self, path: str, *, fresh: bool = False) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_SCHEMA)
        self.changed = threading.Condition(threading.RLock())
        if fresh:
            self.reset()

    @contextmanager
    def transaction(self, *, advancing: str | None = None) -> Iterator[Tx]:
        """Run alone; commit at the end and wake who waits on `changed`, or roll back on any exception.

        `advancing` is the test clock whose own thread this is: everyone else's writes under it are refused.
        """
        with self.transaction_quietly(advancing=advancing) as tx:
            yield tx
        with self.changed:
            self.changed.notify_all()

    @contextmanager
    def transaction_quietly(self, *, advancing: str | None = None) -> Iterator[Tx]:
        """As `transaction`, but wakes nobody."""
        with self.changed:
            self._db.execute("BEGIN")
            try:
                tx = Tx(self._db, advancing)
                yield tx
                tx.flush()
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def wait_for_clock(self, clock_id: str, timeout_s: float) -> bool:
        """Wait until the clock is no longer advancing; false when it still is after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while (left := deadline - time.monotonic()) > 0:
                row = self._db.execute("SELECT doc FROM objects WHERE id = ?", (clock_id,)).fetchone()
                if row is None or json.loads(row[0])["status"] != "advancing":
                    return True
                self.changed.wait(left)
        return False

    def reset(self) -> None:
        """Forget everything."""
        with self.changed:
            for table in _TABLES:
                self._db.execute(f"DELETE FROM {table}")  # noqa: S608
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self._db.close()


def _dump(doc: Doc) -> str:
    return json.dumps(doc, separators=(",", ":"))


def _columns(doc: Doc) -> tuple[object, ...]:
    return (
        doc.get("customer"),
        doc.get("_subscription") or _text(doc.get("subscription")),
        doc.get("_invoice") or _text(doc.get("invoice")),
        doc.get("_parent"),
        doc.get("test_clock") or doc.get("_clock"),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
