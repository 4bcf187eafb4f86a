"""One tenant's session on PostgreSQL: a transaction on a connection of the store's pool.

Its statements say nothing of the tenant but what is inserted; which rows there are, for
reading and for writing, the table's policy says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mocks.store.attacks import Dialect
from mocks.store.attempt import Fault, Reply, Rows, carry_out
from mocks.store.store import (
    ROWS_MAX,
    Attempt,
    StoreRefused,
    checked_key,
    checked_kind,
    checked_tenant,
    text_of,
    value_of,
)

if TYPE_CHECKING:
    from mocks.store.postgres import PostgresStore

__all__ = ["PostgresSession", "words"]

# Errors by SQLSTATE: what is no SQL, and what names a thing that is not there.
_MALFORMED = {"42601"}
_ABSENT = {"26000", "42P01", "42703", "42704", "42883", "3F000"}


class PostgresSession:
    """A session on PostgreSQL: `store.TenantSession`, and `attacks.Ground` for the attacks."""

    dialect: Dialect = "postgres"

    def __init__(self, store: PostgresStore, con: Any, tenant: str | None) -> None:
        self.tenant = tenant or ""
        self.over = False
        self._store = store
        self._con = con
        self._table = store.names()["own"]

    def put(self, kind: str, key: str, value: Any) -> None:
        """Store a value; see `store.TenantSession`."""
        self._run(
            f"INSERT INTO {self._table} (tenant, kind, key, value) VALUES (%s, %s, %s, %s) "
            f"ON CONFLICT ({self._store.unique}) DO UPDATE SET value = excluded.value",
            (self.tenant, checked_kind(kind), checked_key(key), text_of(value)),
        )

    def get(self, kind: str, key: str) -> Any:
        """Return a value; see `store.TenantSession`."""
        found = self._run(
            f"SELECT value FROM {self._table} WHERE {self._condition} AND kind = %s AND key = %s",
            (checked_kind(kind), checked_key(key)),
        ).fetchone()
        return None if found is None else value_of(found[0])

    def rows(self, kind: str) -> list[tuple[str, Any]]:
        """Return all of a kind; see `store.TenantSession`.

        Raises:
            StoreRefused: there are more than ROWS_MAX.
        """
        found = self._run(
            f"SELECT key, value FROM {self._table} WHERE {self._condition} AND kind = %s "
            f"ORDER BY key LIMIT {ROWS_MAX + 1}",
            (checked_kind(kind),),
        ).fetchall()
        if len(found) > ROWS_MAX:
            raise StoreRefused(f"more than {ROWS_MAX} rows of kind {kind}: read them by key")
        return [(key, value_of(text)) for key, text in found]

    def count(self, kind: str) -> int:
        """Return how many there are; see `store.TenantSession`."""
        sql = f"SELECT count(*) FROM {self._table} WHERE {self._condition} AND kind = %s"
        return int(self._run(sql, (checked_kind(kind),)).fetchone()[0])

    def delete(self, kind: str, key: str) -> bool:
        """Remove a key; see `store.TenantSession`."""
        sql = f"DELETE FROM {self._table} WHERE {self._condition} AND kind = %s AND key = %s"
        return bool(self._run(sql, (checked_kind(kind), checked_key(key))).rowcount)

    def attempt(self, name: str, victim: str) -> Attempt:
        """Carry out an attack; see `store.TenantSession`."""
        return carry_out(self, name, checked_tenant(victim))

    # What follows is for the attacks: `attacks.Ground`.

    def sql(self, statement: str) -> Reply:
        """Run the session's own SQL."""
        notices: list[str] = []

        def heard(notice: Any) -> None:
            notices.append(f"{notice.message_primary} {notice.message_detail or ''}")

        inside = self._in_transaction
        self._con.add_notice_handler(heard)
        try:
            if inside:
                self._con.execute("SAVEPOINT one")
            cursor = self._con.execute(statement)
            rows = [] if cursor.description is None else cursor.fetchmany(ROWS_MAX)
            count = max(cursor.rowcount, len(rows))
            if inside and self._in_transaction:
                self._con.execute("RELEASE SAVEPOINT one")
        except self._store.driver.Error as e:
            if self._in_transaction:
                self._con.execute("ROLLBACK TO SAVEPOINT one" if inside else "ROLLBACK")
            state = e.sqlstate
            fault: Fault = (
                "malformed" if state in _MALFORMED else "absent" if state in _ABSENT else ""
            )
            return Reply(tuple(notices), error=words(e), fault=fault)
        finally:
            self._con.remove_notice_handler(heard)
        return Reply((*notices, *(str(cell) for row in rows for cell in row)), count)

    def names(self, victim: str) -> Mapping[str, str]:
        """Return what statements may name."""
        return self._store.names()

    @contextmanager
    def elsewhere(self, tenant: str | None) -> Iterator[PostgresSession]:
        """Take another session, or a connection bound to nobody."""
        if tenant is None:
            with self._store.lease(None) as session:
                yield session
        else:
            with self._store.session(tenant) as session:
                yield session

    def pause(self) -> None:
        """Commit."""
        if self._in_transaction:
            self._run("COMMIT")

    def resume(self) -> None:
        """Begin, bound to the tenant."""
        self._run("BEGIN")
        with self._store.translated():
            self._store.bind(self._con, self.tenant)

    def roll_back(self) -> None:
        """Undo what was not committed; a connection that is gone has undone it already."""
        if not self._con.closed and self._in_transaction:
            with self._store.translated():
                self._con.execute("ROLLBACK")

    def truth(self) -> Rows:
        """Return all rows."""
        return self._store.truth()

    def restore(self, rows: Rows) -> None:
        """Put all rows back."""
        self._store.restore(rows)

    @property
    def _condition(self) -> str:
        """What the door's statements ask for besides the key: nothing, the policy says it all."""
        return "true"

    @property
    def _in_transaction(self) -> bool:
        return bool(self._con.info.transaction_status.name != "IDLE")

    def _run(self, sql: str, values: tuple[str, ...] | None = None) -> Any:
        if self.over:
            raise StoreRefused(f"the session of tenant {self.tenant!r} is over; open another")
        with self._store.translated():
            return self._con.execute(sql, values)


def words(e: Any) -> str:
    """Return an error's message and detail in one line: all that a client would be shown."""
    found = [e.diag.message_primary, e.diag.message_detail] if hasattr(e, "diag") else []
    return ": ".join(part for part in found if part) or " ".join(str(e).split())
