"""The store on SQLite: one file, nothing to install, and a guard that SQLite does not have.

SQLite knows no users and no row-level security; whoever has a connection has the file. So
the store gives each session a connection that can do less:

- Each tenant has a table of its own, and a session's connection carries an authorizer that
  allows reading and writing that one table and transactions, and denies everything else: any
  other table, the schema, PRAGMA, ATTACH, and making or dropping whatever it be. What is not
  known is denied. The tenant is part of the authorizer; no SQL can change it.
- Each session has a connection of its own, closed at its end: nothing can be left behind in it.

The nearer idea, one table for all with a view for each tenant, where the authorizer lets the
table be read "through the view", does not hold. SQLite tells the authorizer the name of the
innermost view, but it tells a common table expression's name just the same: `WITH mine AS
(SELECT * FROM records) SELECT * FROM mine` reads everything. `mocks.store.broken` has it.

Several threads and processes may use one file (write-ahead log). A session takes the write
lock as it begins, so that no session can fail half way for another's sake; one that waits
longer than `BUSY_S_MAX` gets `StoreUnavailable`. Every commit is synced to the disk.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from mocks.store.attacks import Dialect
from mocks.store.attempt import Reply, Rows, carry_out
from mocks.store.store import (
    ROWS_MAX,
    VALUE_BYTES_MAX,
    Attempt,
    StoreRefused,
    StoreUnavailable,
    checked_key,
    checked_kind,
    checked_tenant,
    text_of,
    value_of,
)

__all__ = ["BUSY_S_MAX", "SqliteSession", "SqliteStore"]

BUSY_S_MAX = 5.0
WAIT_S = 0.01
# No statement of ours comes near; it bounds what a session's own SQL can build in memory.
LENGTH_BYTES_MAX = 4 * VALUE_BYTES_MAX

Authorizer = Callable[[int, str | None, str | None, str | None, str | None], int]

_FREE: Final = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_TRANSACTION,
    sqlite3.SQLITE_SAVEPOINT,
    sqlite3.SQLITE_RECURSIVE,
}
_ON_TABLE: Final = {
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_DELETE,
}
_BANNED_FUNCTIONS: Final = {"load_extension", "fts3_tokenizer"}


class SqliteStore:
    """A store in one file, which is made if it is not there. Satisfies `store.Store`."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).resolve()
        self._ready: set[str] = set()
        self._closed = False
        if not self._path.parent.is_dir():
            raise StoreUnavailable(f"no folder {self._path.parent} for the store's file: make it")
        with self._administrator() as con:
            _write_ahead(con)
            self._make(con)

    @contextmanager
    def session(self, tenant: str) -> Iterator[SqliteSession]:
        """Begin a transaction for the tenant; see `store.Store`."""
        checked_tenant(tenant)
        with self.lease(tenant) as session:
            session.resume()
            try:
                yield session
            except BaseException:
                session.roll_back()
                raise
            session.pause()

    @property
    def _session(self) -> type[SqliteSession]:
        return SqliteSession

    def close(self) -> None:
        """Refuse further sessions. Those that are open keep what they have until they end."""
        self._closed = True

    @contextmanager
    def lease(self, tenant: str | None) -> Iterator[SqliteSession]:
        """Open a guarded connection, with nothing begun; None is bound to nobody."""
        if self._closed:
            raise StoreRefused(f"the store {self._path.name} is closed; open it anew")
        if tenant is not None and tenant not in self._ready:
            with self._administrator() as con:
                self._make_for(con, tenant)
            self._ready.add(tenant)
        with closing(self._connect()) as con:
            self._guard(con, tenant)
            session = self._session(self, con, tenant)
            try:
                yield session
            finally:
                session.over = True

    def names(self, tenant: str | None, victim: str) -> Mapping[str, str]:
        """Return the names of things for `Ground.names`."""
        return {"own": self.table(tenant or ""), "theirs": self.table(victim)}

    def table(self, tenant: str) -> str:
        """Return the tenant's table; hashed, for SQLite's names do not tell `a` from `A`."""
        return "records_" + hashlib.sha256(tenant.encode()).hexdigest()[:32]

    def truth(self) -> Rows:
        """Return all rows of all tenants."""
        with self._administrator() as con:
            return {
                (tenant, kind, key): value
                for table in _tables(con)
                for tenant, kind, key, value in con.execute(
                    f"SELECT tenant, kind, key, value FROM {table}"
                )
            }

    def restore(self, rows: Rows) -> None:
        """Make these all the rows there are."""
        with self._administrator() as con:
            self._make(con)
            con.execute("BEGIN IMMEDIATE")
            for tenant in sorted({tenant for tenant, _, _ in rows}):
                self._make_for(con, tenant)
            for table in _tables(con):
                con.execute(f"DELETE FROM {table}")
            for (tenant, kind, key), value in rows.items():
                con.execute(
                    f"INSERT INTO {self.table(tenant)} VALUES (?, ?, ?, ?)",
                    (tenant, kind, key, value),
                )
            con.execute("COMMIT")

    def _make(self, con: sqlite3.Connection) -> None:
        """Make what all tenants share: here nothing, for each has its own table."""

    def _make_for(self, con: sqlite3.Connection, tenant: str) -> None:
        con.execute(
            f"CREATE TABLE IF NOT EXISTS {self.table(tenant)} ("
            f"tenant TEXT NOT NULL CHECK (tenant = '{tenant}'), kind TEXT NOT NULL, "
            f"key TEXT NOT NULL, value TEXT NOT NULL CHECK (length(value) <= {VALUE_BYTES_MAX}), "
            f"PRIMARY KEY (kind, key)) WITHOUT ROWID"
        )

    def _guard(self, con: sqlite3.Connection, tenant: str | None) -> None:
        """Take from the connection all that its tenant, or nobody, may not do."""
        con.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LENGTH_BYTES_MAX)
        con.set_authorizer(_only(None if tenant is None else self.table(tenant)))

    @contextmanager
    def _administrator(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect()) as con, _translated():
            yield con

    def _connect(self) -> sqlite3.Connection:
        with _translated():
            con = sqlite3.connect(
                self._path,
                timeout=BUSY_S_MAX,
                isolation_level=None,
                # One session is used by one thread at a time, but maybe not by the same one.
                check_same_thread=False,
            )
            try:
                con.execute("PRAGMA synchronous = FULL")
            except BaseException:
                con.close()
                raise
            return con


class SqliteSession:
    """A session on SQLite: `store.TenantSession`, and `attacks.Ground` for the attacks."""

    dialect: Dialect = "sqlite"

    def __init__(self, store: SqliteStore, con: sqlite3.Connection, tenant: str | None) -> None:
        self.tenant = tenant or ""
        self.over = False
        self._store = store
        self._con = con
        self._table = store.names(tenant, "")["own"]

    def put(self, kind: str, key: str, value: Any) -> None:
        """Store a value; see `store.TenantSession`."""
        row = (self.tenant, checked_kind(kind), checked_key(key), text_of(value))
        self._run(self._put_sql, row)

    def get(self, kind: str, key: str) -> Any:
        """Return a value; see `store.TenantSession`."""
        found = self._run(
            f"SELECT value FROM {self._table} WHERE {self._condition} AND kind = ? AND key = ?",
            (checked_kind(kind), checked_key(key)),
        ).fetchone()
        return None if found is None else value_of(found[0])

    def rows(self, kind: str) -> list[tuple[str, Any]]:
        """Return all of a kind; see `store.TenantSession`.

        Raises:
            StoreRefused: there are more than ROWS_MAX.
        """
        found = self._run(
            f"SELECT key, value FROM {self._table} WHERE {self._condition} AND kind = ? "
            f"ORDER BY key LIMIT {ROWS_MAX + 1}",
            (checked_kind(kind),),
        ).fetchall()
        if len(found) > ROWS_MAX:
            raise StoreRefused(f"more than {ROWS_MAX} rows of kind {kind}: read them by key")
        return [(key, value_of(text)) for key, text in found]

    def count(self, kind: str) -> int:
        """Return how many there are; see `store.TenantSession`."""
        sql = f"SELECT count(*) FROM {self._table} WHERE {self._condition} AND kind = ?"
        return int(self._run(sql, (checked_kind(kind),)).fetchone()[0])

    def delete(self, kind: str, key: str) -> bool:
        """Remove a key; see `store.TenantSession`."""
        there = self.get(kind, key) is not None
        self._run(
            f"DELETE FROM {self._table} WHERE {self._condition} AND kind = ? AND key = ?",
            (kind, key),
        )
        return there

    def attempt(self, name: str, victim: str) -> Attempt:
        """Carry out an attack; see `store.TenantSession`."""
        return carry_out(self, name, checked_tenant(victim))

    # What follows is for the attacks: `attacks.Ground`.

    def sql(self, statement: str) -> Reply:
        """Run the session's own SQL."""
        try:
            cursor = self._con.execute(statement)
            rows = cursor.fetchmany(ROWS_MAX)
        except sqlite3.Error as e:
            words = str(e)
            absent = words.startswith("no such") or "has no column" in words
            malformed = "syntax error" in words or "incomplete input" in words
            return Reply(
                error=words, fault="absent" if absent else "malformed" if malformed else ""
            )
        count = max(cursor.rowcount, len(rows))
        return Reply(tuple(str(cell) for row in rows for cell in row), count)

    def names(self, victim: str) -> Mapping[str, str]:
        """Return what statements may name."""
        path = str(self._store._path).replace("'", "''")
        return {"path": f"'{path}'", **self._store.names(self.tenant or None, victim)}

    @contextmanager
    def elsewhere(self, tenant: str | None) -> Iterator[SqliteSession]:
        """Take another session, or a connection bound to nobody."""
        if tenant is None:
            with self._store.lease(None) as session:
                yield session
        else:
            with self._store.session(tenant) as session:
                yield session

    def pause(self) -> None:
        """Commit."""
        if self._con.in_transaction:
            self._run("COMMIT")

    def resume(self) -> None:
        """Begin."""
        self._run("BEGIN IMMEDIATE")

    def roll_back(self) -> None:
        """Undo what was not committed."""
        if self._con.in_transaction:
            self._con.execute("ROLLBACK")

    def truth(self) -> Rows:
        """Return all rows."""
        return self._store.truth()

    def restore(self, rows: Rows) -> None:
        """Put all rows back."""
        self._store.restore(rows)

    @property
    def _condition(self) -> str:
        """What the door's statements ask for besides the key: nothing, the table is its own."""
        return "true"

    @property
    def _put_sql(self) -> str:
        return (
            f"INSERT INTO {self._table} (tenant, kind, key, value) VALUES (?, ?, ?, ?) "
            f"ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value"
        )

    def _run(self, sql: str, values: tuple[str, ...] = ()) -> sqlite3.Cursor:
        if self.over:
            raise StoreRefused(f"the session of tenant {self.tenant!r} is over; open another")
        with _translated():
            return self._con.execute(sql, values)


def _only(table: str | None) -> Authorizer:
    """Return the authorizer of a session that may use this table and nothing else."""

    def allow(
        action: int, name: str | None, detail: str | None, database: str | None, _: str | None
    ) -> int:
        if action in _FREE:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and detail not in _BANNED_FUNCTIONS:
            return sqlite3.SQLITE_OK
        # A statement that needs no column, as count(*), is asked for with no database either.
        bare = action == sqlite3.SQLITE_READ and not detail and database is None
        if action in _ON_TABLE and table is not None and name == table:
            return sqlite3.SQLITE_OK if bare or database == "main" else sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_DENY

    return allow


def _write_ahead(con: sqlite3.Connection) -> None:
    """Give the file a write-ahead log, which it keeps.

    SQLite does not wait, as it does elsewhere, where two ask for this on a new file at once.
    """
    end = time.monotonic() + BUSY_S_MAX
    while True:
        try:
            con.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as e:
            if e.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(WAIT_S)


def _tables(con: sqlite3.Connection) -> list[str]:
    found = con.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name GLOB 'records*' ORDER BY name"
    )
    return [name for (name,) in found]


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors into the store's."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError) as e:
        raise StoreRefused(f"SQLite refused it: {e}") from e
    except sqlite3.OperationalError as e:
        if e.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreUnavailable(
                f"SQLite was locked for {BUSY_S_MAX:g} s: another session is still open, here or "
                f"in another process"
            ) from e
        raise StoreUnavailable(f"SQLite failed: {e}") from e
    except sqlite3.DatabaseError as e:
        if e.sqlite_errorcode == sqlite3.SQLITE_AUTH:
            raise StoreRefused(f"SQLite refused it: {e}") from e
        raise StoreUnavailable(f"SQLite failed: {e}") from e
