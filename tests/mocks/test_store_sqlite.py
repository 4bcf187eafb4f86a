"""The SQLite store holds against every attack, each defect is shown, and a kill loses nothing."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.kernel.errors import HarnessFault
from mocks.store import KINDS, Attempt, SqliteStore, StoreRefused, StoreUnavailable, attacks_on
from mocks.store import sqlite as module
from mocks.store.attacks import ATTACKS
from mocks.store.broken import BROKEN_SQLITE
from mocks.store.store import KEY_CHARS_MAX, ROWS_MAX, TENANT_CHARS_MAX, VALUE_BYTES_MAX
from tests.mocks.stores import ATTACKER, VICTIM, attempts, plant, showing

ROOT = Path(__file__).resolve().parents[2]

# Which attacks show which defect: all of them and no others.
EVERYTHING = [
    "read_all",
    "read_where",
    "read_by_key",
    "count",
    "insert_as_victim",
    "update_victim",
    "update_all",
    "delete_victim",
    "delete_all",
    "drop",
    "path_error",
    "after_commit",
    "pooled_connection",
    "attach_again",
    "new_view",
]
SHOWN = {
    "convention_only": [*EVERYTHING, "give_away", "set_tenant"],
    "deny_list": ["attach_again"],
    "global_key": ["replace", "infer_by_conflict", "infer_by_put", "named_like_the_view"],
    "guarded_by_view_name": ["named_like_the_view"],
    "no_authorizer": [*EVERYTHING, "named_like_the_view"],
    "pooled_guard": ["pooled_connection"],
    "talkative_error": ["infer_by_put"],
    "tenant_in_table": ["set_tenant", "named_like_the_view"],
    "writes_unchecked": ["insert_as_victim", "update_all", "delete_all", "named_like_the_view"],
}


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "store.db")


def test_what_is_put_is_got_and_counted_and_deleted(store: SqliteStore) -> None:
    value = {"text": "ü\x00\ud800", "numbers": [1, 2.5, None, True]}
    with store.session("acme") as session:
        session.put("output", "b", value)
        session.put("output", "a", 1)
        session.put("output", "a", 2)
        session.put("event", "a", "other kind")
    with store.session("acme") as session:
        assert session.get("output", "b") == value
        assert session.rows("output") == [("a", 2), ("b", value)]
        assert (session.count("output"), session.count("event"), session.count("checkpoint")) == (
            2,
            1,
            0,
        )
        assert (session.delete("output", "a"), session.delete("output", "a")) == (True, False)
        assert session.get("output", "a") is None


def test_tenants_with_the_same_keys_have_their_own_values(store: SqliteStore) -> None:
    tenants = ["a", "A", "a.b", "a-b", "0"]
    for tenant in tenants:
        with store.session(tenant) as session:
            session.put("event", "same", tenant)
    found = []
    for tenant in tenants:
        with store.session(tenant) as session:
            found.append(session.rows("event"))
    assert found == [[("same", tenant)] for tenant in tenants]


def test_a_session_that_an_error_leaves_has_put_nothing(store: SqliteStore) -> None:
    with pytest.raises(KeyError), store.session("acme") as session:
        session.put("output", "a", 1)
        raise KeyError
    with store.session("acme") as session:
        assert session.rows("output") == []


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("log", "k", 1),
        ("event", "", 1),
        ("event", "k" * (KEY_CHARS_MAX + 1), 1),
        ("event", "line\nbreak", 1),
        ("event", "k", float("nan")),
        ("event", "k", object()),
        ("event", "k", "v" * VALUE_BYTES_MAX),
    ],
)
def test_what_is_beyond_a_limit_is_refused(
    store: SqliteStore, kind: str, key: str, value: object
) -> None:
    with store.session("acme") as session:
        with pytest.raises(StoreRefused, match=r"^expected a "):
            session.put(kind, key, value)
        assert [session.rows(one) for one in KINDS] == [[], [], []]


@pytest.mark.parametrize("tenant", ["", "a b", "a'b", "-a", "a" * (TENANT_CHARS_MAX + 1)])
def test_a_name_that_is_none_is_refused(store: SqliteStore, tenant: str) -> None:
    with pytest.raises(StoreRefused, match=r"^expected a tenant's name"), store.session(tenant):
        pass


def test_more_rows_than_an_answer_may_have_are_refused(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ROWS_MAX == module.ROWS_MAX
    monkeypatch.setattr(module, "ROWS_MAX", 2)
    with store.session("acme") as session:
        for i in range(3):
            session.put("event", f"{i}", i)
        with pytest.raises(StoreRefused, match="more than 2 rows of kind event"):
            session.rows("event")


def test_a_session_that_is_over_and_a_store_that_is_closed_refuse(store: SqliteStore) -> None:
    with store.session("acme") as session:
        pass
    with pytest.raises(StoreRefused, match="session of tenant 'acme' is over"):
        session.count("event")
    store.close()
    store.close()
    with pytest.raises(StoreRefused, match=r"store\.db is closed"), store.session("acme"):
        pass


def test_a_file_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"no folder .*gone"):
        SqliteStore(tmp_path / "gone" / "store.db")
    (tmp_path / "text").write_text("no database, but longer than a database's header is " * 20)
    with pytest.raises(StoreUnavailable, match="file is not a database"):
        SqliteStore(tmp_path / "text")


def test_a_session_that_waits_too_long_for_another_is_told(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_S_MAX", 0.05)
    with (
        store.session("acme"),
        pytest.raises(StoreUnavailable, match="locked for"),
        store.session("zenith"),
    ):
        pass


@pytest.mark.parametrize("shared_keys", [False, True])
def test_no_attack_shows_anything(store: SqliteStore, shared_keys: bool) -> None:
    plant(store, shared_keys=shared_keys)
    before = store.truth()
    found = [(one.name, one.refused, one.seen, one.changed) for one in attempts(store, "sqlite")]
    assert found == [(name, True, (), 0) for name in attacks_on("sqlite")]
    assert store.truth() == before


@pytest.mark.parametrize("defect", sorted(BROKEN_SQLITE))
def test_each_defect_is_shown_by_just_these_attacks(tmp_path: Path, defect: str) -> None:
    store = BROKEN_SQLITE[defect](tmp_path / "store.db")
    plant(store, shared_keys=False)
    before = store.truth()
    assert sorted(showing(store, "sqlite")) == sorted(SHOWN[defect])
    assert store.truth() == before


def test_each_attack_shows_some_defect() -> None:
    assert {name for names in SHOWN.values() for name in names} == set(ATTACKS["sqlite"])


def test_an_attack_says_what_it_saw_and_changed(tmp_path: Path) -> None:
    store = BROKEN_SQLITE["convention_only"](tmp_path / "store.db")
    plant(store, shared_keys=True)
    with store.session(ATTACKER) as session:
        found = [session.attempt(name, VICTIM) for name in ("read_where", "count", "update_victim")]
    values = [f'{{"marker":"secret of zenith, {i}"}}' for i in range(3)]
    assert found == [
        Attempt("read_where", False, ('["started","event of zenith"]', *values), 0, ""),
        Attempt("count", False, ("4 rows",), 0, ""),
        Attempt("update_victim", False, (), 4, ""),
    ]


def test_what_both_tenants_have_is_not_seen_by_the_one_in_the_other(tmp_path: Path) -> None:
    store = BROKEN_SQLITE["no_authorizer"](tmp_path / "store.db")
    for tenant in (ATTACKER, VICTIM):
        with store.session(tenant) as session:
            session.put("output", f"{tenant}-1", {"state": "completed"})
            session.put("output", f"{tenant}-2", f"only {tenant}'s")
    with store.session(ATTACKER) as session:
        assert session.attempt("read_all", VICTIM).seen == ('"only zenith\'s"',)


def test_an_attack_that_could_show_nothing_is_no_attack(store: SqliteStore) -> None:
    with store.session(VICTIM) as session:
        session.put("output", "k", "short")
    with store.session(ATTACKER) as session:
        with pytest.raises(HarnessFault, match="has no row to attack"):
            session.attempt("read_all", VICTIM)
        with pytest.raises(HarnessFault, match="expected another tenant"):
            session.attempt("read_all", ATTACKER)
        with pytest.raises(HarnessFault, match="no attack 'rob' on sqlite"):
            session.attempt("rob", VICTIM)
        assert session.count("output") == 0


# SQLite's words where the authorizer said no, the last one for a table that it would build.
DENIED = re.compile("is prohibited|not authorized|authorization denied|constructor failed")


@pytest.mark.parametrize(
    "statement",
    [
        "PRAGMA user_version = 7",
        "PRAGMA writable_schema = on",
        "SELECT name FROM sqlite_master",
        "SELECT name FROM sqlite_temp_master",
        "SELECT name FROM pragma_table_list",
        "SELECT value FROM json_each('[1]')",
        "VACUUM",
        "VACUUM INTO '{copy}'",
        "ATTACH '{copy}' AS other",
        "DETACH main",
        "CREATE TEMP TABLE t (x)",
        "CREATE TEMP TRIGGER t AFTER INSERT ON {own} BEGIN SELECT 1; END",
        "ALTER TABLE {own} RENAME TO other",
        "REINDEX",
        "ANALYZE",
        "SELECT load_extension('x')",
    ],
)
def test_a_session_s_own_sql_can_do_nothing_but_use_its_table(
    store: SqliteStore, tmp_path: Path, statement: str
) -> None:
    with store.session("acme") as session:
        session.pause()
        names = {"own": store.table("acme"), "copy": str(tmp_path / "copy.db")}
        reply = session.sql(statement.format_map(names))
        assert DENIED.search(reply.error), reply
        assert session.sql(f"SELECT count(*) FROM {names['own']}").texts == ("0",)
    assert not (tmp_path / "copy.db").exists()


def test_threads_wait_for_each_other(store: SqliteStore) -> None:
    def add(tenant: str) -> None:
        for _ in range(10):
            with store.session(tenant) as session:
                session.put("checkpoint", "sum", (session.get("checkpoint", "sum") or 0) + 1)

    threads = [threading.Thread(target=add, args=(f"t{i % 2}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for tenant in ("t0", "t1"):
        with store.session(tenant) as session:
            assert session.get("checkpoint", "sum") == 20


WRITER = """
import sys
from mocks.store import SqliteStore
store = SqliteStore(sys.argv[1])
number = 0
while True:
    number += 1
    with store.session("acme") as session:
        # Two rows in one transaction, as a checkpoint and its output are.
        session.put("output", f"stage-{number:06}", {"number": number, "bulk": "x" * 20_000})
        session.put("checkpoint", "last", {"number": number, "bulk": "y" * 20_000})
    print(number, flush=True)
"""


@pytest.mark.parametrize("kill_after", [1, 7, 20])
def test_a_killed_process_leaves_every_committed_row_and_no_half_of_one(
    tmp_path: Path, kill_after: int
) -> None:
    path = tmp_path / "store.db"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert writer.stdout is not None
    with writer.stdout:
        told = [int(writer.stdout.readline()) for _ in range(kill_after)]
        writer.send_signal(signal.SIGKILL)
        # What it told before the kill reached it counts as well.
        told += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
    assert writer.wait() == -signal.SIGKILL

    with SqliteStore(path).session("acme") as session:
        rows = session.rows("output")
        last = session.get("checkpoint", "last")
        session.put("checkpoint", "after", "the store still works")
    # The kill may fall between the commit and the telling of it, so one more is possible.
    assert len(rows) - len(told) in (0, 1)
    assert rows == [
        (f"stage-{i:06}", {"number": i, "bulk": "x" * 20_000}) for i in range(1, len(rows) + 1)
    ]
    assert last == {"number": len(rows), "bulk": "y" * 20_000}


def test_processes_that_open_the_same_new_file_all_get_their_rows_in(tmp_path: Path) -> None:
    code = (
        "import sys; from mocks.store import SqliteStore\n"
        "store = SqliteStore(sys.argv[1])\n"
        "for i in range(10):\n"
        "    with store.session('acme') as session: session.put('event', f'{sys.argv[2]}-{i}', i)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "store.db")]
    running = [
        subprocess.Popen([*command, name], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        for name in "abcd"
    ]
    assert [one.wait() for one in running] == [0, 0, 0, 0]
    with SqliteStore(tmp_path / "store.db").session("acme") as session:
        assert session.count("event") == 40


def test_a_driver_s_error_never_leaves_the_store_as_it_is(store: SqliteStore) -> None:
    with store.session("acme") as session:
        assert session.sql("COMMIT").error == ""
        # Nothing left to commit: the session ends well all the same.
    with pytest.raises(StoreRefused) as caught, store.session("acme") as session:
        session._run("INSERT INTO sqlite_master VALUES (1, 2, 3, 4, 5)")
    assert isinstance(caught.value.__cause__, sqlite3.Error)
