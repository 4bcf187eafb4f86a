"""SQLite stores with one defect each; see `mocks.store.broken`.

Those that share one table behind a view have that design's own hole besides (see
`GuardedByViewName`), for no authorizer of such a design closes it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from mocks.store.sqlite import SqliteSession, SqliteStore
from mocks.store.store import StoreRefused

__all__ = ["BROKEN_SQLITE"]


class NoAuthorizer(SqliteStore):
    """Each tenant has its table, and every connection may use them all."""

    def _guard(self, con: sqlite3.Connection, tenant: str | None) -> None:
        pass


class DenyList(SqliteStore):
    """The authorizer denies what was thought of, not all that was not: ATTACH is still there."""

    def _guard(self, con: sqlite3.Connection, tenant: str | None) -> None:
        own = self.table(tenant or "")

        def allow(
            action: int, name: str | None, detail: str | None, database: str | None, _: str | None
        ) -> int:
            others = name is not None and name.startswith("records") and name != own
            return sqlite3.SQLITE_DENY if others and database == "main" else sqlite3.SQLITE_OK

        con.set_authorizer(allow)


class PooledGuard(SqliteStore):
    """A connection that nobody bound is still bound to whoever had it last."""

    _last: str | None = None

    def _guard(self, con: sqlite3.Connection, tenant: str | None) -> None:
        self._last = tenant or self._last
        super()._guard(con, self._last)

    def names(self, tenant: str | None, victim: str) -> Mapping[str, str]:
        return super().names(tenant or self._last, victim)


class _TalkativeSqliteSession(SqliteSession):
    def put(self, kind: str, key: str, value: Any) -> None:
        for (tenant, *rest), text in self._store.truth().items():
            if rest == [kind, key] and tenant != self.tenant:
                raise StoreRefused(f"{kind} {key} is taken; it holds {text}")
        super().put(kind, key, value)


class TalkativeSqlite(SqliteStore):
    """Keys are unique over all tenants, and the error tells what the other one's key holds."""

    @property
    def _session(self) -> type[SqliteSession]:
        return _TalkativeSqliteSession


class _SharedSession(SqliteSession):
    @property
    def _condition(self) -> str:
        return f"tenant = '{self.tenant}'"

    @property
    def _put_sql(self) -> str:
        return f"INSERT OR REPLACE INTO {self._table} (tenant, kind, key, value) VALUES (?,?,?,?)"


class ConventionSqlite(SqliteStore):
    """One table for all, and each of the client's statements says WHERE tenant = …"""

    _unique = "tenant, kind, key"

    @property
    def _session(self) -> type[SqliteSession]:
        return _SharedSession

    def table(self, tenant: str) -> str:
        return "records"

    def _make(self, con: sqlite3.Connection) -> None:
        con.execute(
            f"CREATE TABLE IF NOT EXISTS records (tenant TEXT NOT NULL, kind TEXT NOT NULL, "
            f"key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY ({self._unique})) WITHOUT ROWID"
        )

    def _make_for(self, con: sqlite3.Connection, tenant: str) -> None:
        pass

    def _guard(self, con: sqlite3.Connection, tenant: str | None) -> None:
        pass


class _ViewSession(SqliteSession):
    def put(self, kind: str, key: str, value: Any) -> None:
        # A view takes no upsert.
        self.delete(kind, key)
        super().put(kind, key, value)

    @property
    def _put_sql(self) -> str:
        return f"INSERT INTO {self._table} (tenant, kind, key, value) VALUES (?, ?, ?, ?)"


class GuardedByViewName(ConventionSqlite):
    """One table, and an authorizer that allows reading it by the tenant's view, known by its name.

    A common table expression of that name reads the table as well.
    """

    # What the view and its triggers ask for the tenant; the function is the connection's.
    _tenant = "session_tenant()"
    _writes_free = False

    @property
    def _session(self) -> type[SqliteSession]:
        return _ViewSession

    def names(self, tenant: str | None, victim: str) -> Mapping[str, str]:
        return {"own": "mine", "theirs": "records"}

    def _guard(self, con: sqlite3.Connection, tenant: str | None) -> None:
        con.create_function("session_tenant", 0, lambda: tenant)
        con.execute("CREATE TEMP TABLE session (tenant TEXT)")
        con.execute("INSERT INTO session VALUES (?)", (tenant,))
        con.execute(
            f"CREATE TEMP VIEW mine AS SELECT tenant, kind, key, value FROM main.records "
            f"WHERE tenant = {self._tenant}"
        )
        same = f"tenant = {self._tenant} AND kind = old.kind AND key = old.key"
        bodies = {
            "insert": f"INSERT INTO records VALUES ({self._tenant}, new.kind, new.key, new.value)",
            "update": f"UPDATE records SET kind = new.kind, key = new.key, value = new.value "
            f"WHERE {same}",
            "delete": f"DELETE FROM records WHERE {same}",
        }
        for verb, body in bodies.items():
            con.execute(
                f"CREATE TEMP TRIGGER mine_{verb} INSTEAD OF {verb.upper()} ON mine "
                f"BEGIN {body}; END"
            )
        through = {"mine", *(f"mine_{verb}" for verb in bodies)}

        def allow(
            action: int, name: str | None, _: str | None, __: str | None, source: str | None
        ) -> int:
            if action in (
                sqlite3.SQLITE_SELECT,
                sqlite3.SQLITE_TRANSACTION,
                sqlite3.SQLITE_FUNCTION,
            ):
                return sqlite3.SQLITE_OK
            reading = action == sqlite3.SQLITE_READ
            writing = action in (
                sqlite3.SQLITE_INSERT,
                sqlite3.SQLITE_UPDATE,
                sqlite3.SQLITE_DELETE,
            )
            if name == "records" and not (writing and self._writes_free):
                allowed = source in through
            else:
                allowed = name in ("mine", "records", "session")
            return sqlite3.SQLITE_OK if (reading or writing) and allowed else sqlite3.SQLITE_DENY

        con.set_authorizer(allow)


class WritesUnchecked(GuardedByViewName):
    """What is read goes through the view, what is written goes anywhere: no WITH CHECK."""

    _writes_free = True


class TenantInTable(GuardedByViewName):
    """The view asks a temporary table whose session it is, and the session may write there."""

    _tenant = "(SELECT tenant FROM temp.session)"


class GlobalKeySqlite(GuardedByViewName):
    """The unique key leaves the tenant out, so two tenants' keys meet."""

    _unique = "kind, key"


BROKEN_SQLITE: Mapping[str, type[SqliteStore]] = {
    "convention_only": ConventionSqlite,
    "deny_list": DenyList,
    "global_key": GlobalKeySqlite,
    "guarded_by_view_name": GuardedByViewName,
    "no_authorizer": NoAuthorizer,
    "pooled_guard": PooledGuard,
    "talkative_error": TalkativeSqlite,
    "tenant_in_table": TenantInTable,
    "writes_unchecked": WritesUnchecked,
}
"""SQLite stores with a defect, by its name."""
