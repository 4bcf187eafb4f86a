"""The store on PostgreSQL: one table, row-level security, and a tenant that SQL cannot forge.

All tenants' rows lie in one table, owned by a role that cannot log in. Row-level security is
on and forced, so it holds for the owner too; the one policy names the tenant for what is read
(USING) and for what is written (WITH CHECK). Sessions log in as a role that owns nothing, has
no BYPASSRLS, is a member of no other role and may select, insert, update and delete, not truncate.

Who the tenant is, is the weak point of the usual recipe. A custom setting such as
`app.tenant` may be set by anyone, so with `USING (tenant = current_setting('app.tenant'))` the
tenant's own SQL can say it is another. Here a setting alone is worth nothing: the store sets
the tenant together with a proof, a keyed hash (HMAC with SHA-256) over the tenant, this
connection's process and this transaction's number. A SECURITY DEFINER function checks it with
a key that the login role cannot read, and the policy asks that function. Both settings are
local to the transaction; a proof that survived somewhere would be void in the next one. A
connection goes back to the pool through `DISCARD ALL`, so it keeps no plan, table or setting.

The policy compares the column with a subquery's value, `tenant = (SELECT ...)`, on purpose.
Then it is part of every index condition. A policy that calls a function for each row is
checked after a leakproof condition on the index, and EXPLAIN ANALYZE tells an attacker how
many rows it removed: enough to learn whether another tenant has a key.

Kept against a tenant that runs any SQL in its session: the values, keys and numbers of other
tenants' rows. Not kept: the number of all rows together (pg_class, EXPLAIN), the statements
that other sessions run now (values are never in them, they are bound), timing, and these
sessions' lives: tenants share a role, and a role may end its own connections.

The server is a `LocalServer` of the store's own, unless a connection string or the variable
`DAGSTORM_POSTGRES_DSN` names one. Its user must be allowed to make roles and a schema; the
attacks also need one that row-level security does not bind (a superuser).
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mocks.store.attempt import Rows
from mocks.store.postgres_session import PostgresSession, words
from mocks.store.server import LocalServer
from mocks.store.store import (
    KEY_CHARS_MAX,
    KINDS,
    TENANT_CHARS_MAX,
    VALUE_BYTES_MAX,
    StoreRefused,
    StoreUnavailable,
    checked_tenant,
)

__all__ = ["CONNECTIONS_MAX", "DSN_VARIABLE", "PostgresStore"]

DSN_VARIABLE = "DAGSTORM_POSTGRES_DSN"
CONNECTIONS_MAX = 16
CONNECT_S_MAX = 5
LEASE_S_MAX = 10.0
_LIMITS = "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=60s"


class PostgresStore:
    """A store in one schema of a server. Satisfies `store.Store`.

    Args:
        dsn: a connection string; by default the variable's, or a server of the store's own.
        schema: where the rows lie. An existing one is used as it is; its roles are named after it.

    Raises:
        StoreUnavailable: no driver, no server, or the server's user may not make what is needed.
    """

    # It reads settings, so a plan must not keep its answer: not IMMUTABLE.
    _volatility = "STABLE"

    def __init__(self, dsn: str | None = None, *, schema: str = "dagstorm") -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", schema):
            raise StoreRefused(
                f"expected a schema of 1 to 41 small letters, digits and '_'; got {schema!r:.100}"
            )
        self.driver = _driver()
        self.schema = schema
        self.owner, self.app = f"{schema}_owner", f"{schema}_app"
        self._idle: list[Any] = []
        # The administrator's connection for the attacks, once there was one.
        self._seers: list[Any] = []
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._closed = False
        dsn = dsn or os.environ.get(DSN_VARIABLE)
        self._server = None if dsn else LocalServer()
        self._dsn = dsn or (self._server.dsn if self._server else "")
        try:
            with self.administrator() as con:
                self.admin: str = con.info.user
                self._make(con)
                found = con.execute(f"SELECT inner_key, outer_key, password FROM {schema}.seal")
                self._inner, self._outer, self._password = found.fetchone()
        except StoreRefused as e:
            self.close()
            raise StoreUnavailable(
                f"no store in schema {schema}: {e}; name a server's user who may make roles and "
                f"schemas"
            ) from e
        except BaseException:
            self.close()
            raise

    @contextmanager
    def session(self, tenant: str) -> Iterator[PostgresSession]:
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
    def _session(self) -> type[PostgresSession]:
        return PostgresSession

    def close(self) -> None:
        """Close idle connections and stop the store's own server, both within limits."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for con in (*idle, *self._seers):
            con.close()
        if self._server is not None:
            self._server.stop()

    @contextmanager
    def lease(self, tenant: str | None) -> Iterator[PostgresSession]:
        """Take a connection from the pool, the last one used first; None is bound to nobody."""
        if not self._slots.acquire(timeout=LEASE_S_MAX):
            raise StoreUnavailable(
                f"all {CONNECTIONS_MAX} connections were busy for {LEASE_S_MAX:g} s: close sessions"
            )
        try:
            con = self._take()
            session = self._session(self, con, tenant)
            clean = False
            try:
                yield session
                with self.translated():
                    self.clean(con)
                clean = True
            finally:
                session.over = True
                self._give_back(con, clean)
        finally:
            self._slots.release()

    def bind(self, con: Any, tenant: str) -> None:
        """Say in the transaction just begun whose it is, with the proof."""
        (bound,) = con.execute(
            "SELECT concat_ws(E'\\n', %s::text, pg_backend_pid(), pg_current_xact_id())", (tenant,)
        ).fetchone()
        inner = hashlib.sha256(self._inner + bound.encode()).digest()
        proof = hashlib.sha256(self._outer + inner).hexdigest()
        con.execute(
            "SELECT set_config('dagstorm.tenant', %s, true), "
            "set_config('dagstorm.proof', %s, true)",
            (tenant, proof),
        )

    def clean(self, con: Any) -> None:
        """Take from a connection all that its session left in it."""
        con.execute("DISCARD ALL")

    def names(self) -> Mapping[str, str]:
        """Return the names of things for `Ground.names`."""
        table = f"{self.schema}.records"
        return {
            "own": table,
            "theirs": table,
            "owner": self.owner,
            "admin": '"' + self.admin.replace('"', '""') + '"',
            "unique": self.unique,
        }

    @property
    def unique(self) -> str:
        """The columns that tell rows apart. The tenant comes first: no key meets another's."""
        return "tenant, kind, key"

    def truth(self) -> Rows:
        """Return all rows of all tenants."""
        with self._all_seeing() as con:
            found = con.execute(f"SELECT tenant, kind, key, value FROM {self.schema}.records")
            return {(tenant, kind, key): value for tenant, kind, key, value in found}

    def restore(self, rows: Rows) -> None:
        """Make these all the rows there are, and the table's guard what it was.

        The pool starts anew too: what one attack left in a connection is none of the next one's.
        """
        with self._lock:
            idle, self._idle = self._idle, []
        for con in idle:
            con.close()
        with self._all_seeing() as con, con.transaction(), con.cursor() as cursor:
            for statement in self._guard_sql():
                cursor.execute(statement)
            # Not DELETE: rows that are dead but still in the index show in an attacker's plans.
            cursor.execute(f"TRUNCATE {self.schema}.records")
            cursor.executemany(
                f"INSERT INTO {self.schema}.records (tenant, kind, key, value) "
                f"VALUES (%s, %s, %s, %s)",
                [(*row, value) for row, value in rows.items()],
            )

    def drop(self) -> None:
        """Remove the schema, its rows and its roles from the server, and close."""
        with self.administrator() as con, con.transaction():
            con.execute(f"DROP SCHEMA {self.schema} CASCADE")
            con.execute(f"DROP ROLE {self.app}, {self.owner}")
        self.close()

    @contextmanager
    def administrator(self) -> Iterator[Any]:
        """Connect as the server's own user, for what no session may do."""
        with self.translated(), self._connect() as con:
            yield con

    @contextmanager
    def _all_seeing(self) -> Iterator[Any]:
        """Give out the one connection that sees all rows; attacks wait for each other here."""
        with self._lock, self.translated():
            if not self._seers:
                self._seers.append(self._connect())
            (free,) = (
                self._seers[0]
                .execute("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = user")
                .fetchone()
            )
            if not free:
                raise StoreUnavailable(
                    f"the attacks need a server's user that row-level security does not bind; "
                    f"{self.admin!r} is no superuser and has no BYPASSRLS"
                )
            yield self._seers[0]

    def _take(self) -> Any:
        with self._lock:
            if self._closed:
                raise StoreRefused(f"the store {self.schema} is closed; open it anew")
            if self._idle:
                return self._idle.pop()
        with self.translated():
            return self._log_in()

    def _give_back(self, con: Any, clean: bool) -> None:
        with self._lock:
            if clean and not self._closed:
                self._idle.append(con)
                return
        con.close()

    def _log_in(self) -> Any:
        """Connect as the role that sessions have."""
        return self._connect(user=self.app, password=self._password)

    def _connect(self, **as_whom: str) -> Any:
        return self.driver.connect(
            self._dsn,
            autocommit=True,
            connect_timeout=CONNECT_S_MAX,
            application_name="dagstorm",
            options=_LIMITS,
            # The driver would prepare what it has seen often, and DISCARD ALL unprepares it.
            prepare_threshold=None,
            **as_whom,
        )

    def _make(self, con: Any) -> None:
        """Make roles and schema unless they are there; one process at a time, all or nothing."""
        with con.transaction():
            con.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"dagstorm {self.schema}",))
            (there,) = con.execute("SELECT to_regnamespace(%s)", (self.schema,)).fetchone()
            if there is not None:
                return
            password = secrets.token_hex(16)
            for role, login in ((self.owner, "NOLOGIN"), (self.app, "LOGIN")):
                con.execute(f"DROP ROLE IF EXISTS {role}")
                con.execute(f"CREATE ROLE {role} {login} NOINHERIT")
            con.execute(f"ALTER ROLE {self.app} PASSWORD '{password}'")
            con.execute(f"GRANT {self.owner} TO CURRENT_USER")
            con.execute(f"CREATE SCHEMA {self.schema} AUTHORIZATION {self.owner}")
            con.execute(f"SET LOCAL ROLE {self.owner}")
            for statement in (*self._table_sql(), *self._guard_sql()):
                con.execute(statement)
            inner, outer = _pads(secrets.token_bytes(32))
            con.execute(
                f"INSERT INTO {self.schema}.seal VALUES (true, %s, %s, %s)",
                (inner, outer, password),
            )

    def _table_sql(self) -> tuple[str, ...]:
        s, kinds = self.schema, ", ".join(f"'{kind}'" for kind in KINDS)
        return (
            f"CREATE TABLE {s}.seal (one boolean PRIMARY KEY CHECK (one), inner_key bytea NOT NULL,"
            f" outer_key bytea NOT NULL, password text NOT NULL)",
            # Collation "C": keys in code point order, and comparisons that are leakproof.
            f"""CREATE TABLE {s}.records (
                tenant text COLLATE "C" NOT NULL CHECK (length(tenant) <= {TENANT_CHARS_MAX}),
                kind text COLLATE "C" NOT NULL CHECK (kind IN ({kinds})),
                key text COLLATE "C" NOT NULL CHECK (length(key) <= {KEY_CHARS_MAX}),
                value text NOT NULL CHECK (octet_length(value) <= {VALUE_BYTES_MAX}),
                PRIMARY KEY ({self.unique}))""",
            f"GRANT USAGE ON SCHEMA {s} TO {self.app}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {s}.records TO {self.app}",
            f"""CREATE FUNCTION {s}.tenant() RETURNS text
                LANGUAGE plpgsql {self._volatility} SECURITY DEFINER
                SET search_path = pg_catalog, pg_temp AS $$
                DECLARE
                    said text := current_setting('dagstorm.tenant', true);
                    proof text := current_setting('dagstorm.proof', true);
                    -- NULL where no number was given to the transaction, so no proof fits.
                    bound text := said || E'\\n' || pg_backend_pid()
                        || E'\\n' || pg_current_xact_id_if_assigned();
                BEGIN
                    IF proof = (SELECT encode(sha256(outer_key || sha256(
                            inner_key || convert_to(bound, 'UTF8'))), 'hex') FROM {s}.seal) THEN
                        RETURN said;
                    END IF;
                    RETURN NULL;
                END $$""",
            f"REVOKE ALL ON FUNCTION {s}.tenant() FROM PUBLIC",
            f"GRANT EXECUTE ON FUNCTION {s}.tenant() TO {self.app}",
        )

    def _guard_sql(self) -> tuple[str, ...]:
        """Return what puts the guard on the table, whether or not it is there already."""
        table, mine = f"{self.schema}.records", f"tenant = (SELECT {self.schema}.tenant())"
        return (
            f"DROP POLICY IF EXISTS mine ON {table}",
            f"CREATE POLICY mine ON {table} FOR ALL USING ({mine}) WITH CHECK ({mine})",
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        )

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the driver's errors into the store's."""
        try:
            yield
        except (self.driver.OperationalError, self.driver.InterfaceError) as e:
            raise StoreUnavailable(f"PostgreSQL did not do it: {words(e)}") from e
        except self.driver.Error as e:
            raise StoreRefused(f"PostgreSQL refused it: {words(e)}") from e


def _driver() -> Any:
    try:
        return importlib.import_module("psycopg")
    except ImportError as e:
        raise StoreUnavailable(
            f"no PostgreSQL driver: install psycopg[binary] 3.1 or newer ({e})"
        ) from e


def _pads(key: bytes) -> tuple[bytes, bytes]:
    """Return HMAC's two padded keys for SHA-256, as RFC 2104 makes them of a key."""
    block = key.ljust(64, b"\0")
    return bytes(b ^ 0x36 for b in block), bytes(b ^ 0x5C for b in block)
