"""What a tenant's own SQL can try against another tenant, by name.

An attack is data: steps of SQL, each said by the attacker, by the victim (whose session an
attacker may come after on a pooled connection) or by nobody (a connection taken from the
pool by code that forgot to bind a tenant). It assumes nothing about the answers; what they
mean is judged in `mocks.store.attempt`, for any store alike.

Not tried, because neither backend keeps it secret: the number of all tenants' rows together,
the size of the files, how long an answer took, and which tenants there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["ATTACKS", "Attack", "Dialect", "Step", "attacks_on"]

Dialect = Literal["sqlite", "postgres"]


@dataclass(frozen=True, slots=True)
class Step:
    """One statement and who says it; with `put` the key that is put through the door instead."""

    sql: str = ""
    who: Literal["attacker", "victim", "nobody"] = "attacker"
    put: str = ""


@dataclass(frozen=True, slots=True)
class Attack:
    """One way to get at another tenant's rows.

    Attributes:
        name: what `attempt` calls it by.
        what: one line on what it tries.
        steps: the statements in order; {own} {theirs} {A} {B} {kind} {key} {ghost} and what
            `Ground.names` has are filled in, texts as literals.
        dialects: the backends that it can be tried on.
        pairs: steps whose answers must not differ, the second asking for the ghost's key.
        counts: the step that answers with a number of the victim's rows.
        absent_ok: whether a name that is not there is an answer like another.
        at_once: whether a session stays open when the next one speaks; else they take turns.
    """

    name: str
    what: str
    steps: tuple[Step, ...]
    dialects: tuple[Dialect, ...] = ("sqlite", "postgres")
    pairs: tuple[tuple[int, int], ...] = ()
    counts: int | None = None
    absent_ok: bool = False
    at_once: bool = False


def _sql(*statements: str) -> tuple[Step, ...]:
    return tuple(Step(one) for one in statements)


_PG: tuple[Dialect, ...] = ("postgres",)
_LITE: tuple[Dialect, ...] = ("sqlite",)
_ALL = "SELECT value FROM {theirs}"
_PLAN = "EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT 1 FROM {theirs} "
_PLANS = tuple(
    _PLAN + f"WHERE {condition} AND key = {{{key}}}"
    for condition in ("tenant = {B} AND kind = {kind}", "kind = {kind}")
    for key in ("key", "ghost")
)
_ROW = "(tenant, kind, key, value) VALUES ({A}, {kind}, %s, '\"mine\"')"
_STOLEN = "SET value = '\"overwritten\"'"

_CATALOGUE = (
    Attack("read_all", "select without a condition", _sql(_ALL, "SELECT value FROM {own}")),
    Attack("read_where", "select the victim's rows", _sql(_ALL + " WHERE tenant = {B}")),
    Attack(
        "read_by_key",
        "select by a guessed key, through the attacker's own door too",
        _sql(*(f"SELECT value FROM {{{n}}} WHERE key = {{key}}" for n in ("theirs", "own"))),
    ),
    Attack(
        "count",
        "count the victim's rows",
        _sql("SELECT count(*) FROM {theirs} WHERE tenant = {B}"),
        counts=0,
    ),
    Attack(
        "insert_as_victim",
        "insert a row with the victim's tenant id",
        _sql("INSERT INTO {theirs} (tenant, kind, key, value) VALUES ({B}, {kind}, {ghost}, '1')"),
    ),
    Attack(
        "update_victim",
        "update the victim's rows",
        _sql("UPDATE {theirs} " + _STOLEN + " WHERE tenant = {B}"),
    ),
    Attack("update_all", "update without a condition", _sql("UPDATE {theirs} " + _STOLEN)),
    Attack(
        "give_away",
        "insert an own row and hand it to the victim",
        _sql(
            "INSERT INTO {own} " + _ROW % "{ghost}",
            "UPDATE {own} SET tenant = {B} WHERE tenant = {A} AND key = {ghost}",
        ),
        # A door that shows no tenant column has nothing to hand over.
        absent_ok=True,
    ),
    Attack(
        "delete_victim", "delete the victim's rows", _sql("DELETE FROM {theirs} WHERE tenant = {B}")
    ),
    Attack("delete_all", "delete without a condition", _sql("DELETE FROM {theirs}")),
    Attack("truncate", "truncate, which no policy filters", _sql("TRUNCATE {theirs}"), _PG),
    Attack("drop", "drop the table the rows are in", _sql("DROP TABLE {theirs}"), _LITE),
    Attack(
        "upsert",
        "insert an own row under the victim's key, or else update",
        _sql(
            *(
                f"INSERT INTO {{own}} {_ROW % key} "
                f"ON CONFLICT ({{unique}}) DO UPDATE SET value = excluded.value"
                for key in ("{key}", "{ghost}")
            )
        ),
        _PG,
        pairs=((0, 1),),
    ),
    Attack(
        "replace",
        "insert or replace an own row under the victim's key",
        _sql("INSERT OR REPLACE INTO {own} " + _ROW % "{key}"),
        _LITE,
        absent_ok=True,
    ),
    Attack(
        "infer_by_conflict",
        "learn from a unique key's conflict that the victim has that key",
        _sql("INSERT INTO {own} " + _ROW % "{key}", "INSERT INTO {own} " + _ROW % "{ghost}"),
        pairs=((0, 1),),
    ),
    Attack(
        "infer_by_put",
        "put under the victim's key through the attacker's own door and hear what is said",
        (Step(put="{key}"), Step(put="{ghost}")),
        pairs=((0, 1),),
    ),
    Attack(
        "infer_by_plan",
        "learn from EXPLAIN ANALYZE how many rows the policy hid from a leakproof condition",
        _sql(
            *_PLANS,
            "SET LOCAL enable_seqscan = off",
            *_PLANS,
            "SET LOCAL enable_bitmapscan = off",
            "SET LOCAL enable_indexscan = off",
            "SET LOCAL enable_indexonlyscan = off",
            "SET LOCAL enable_seqscan = on",
            *_PLANS,
        ),
        _PG,
        pairs=((0, 1), (2, 3), (5, 6), (7, 8), (13, 14), (15, 16)),
    ),
    Attack(
        "cast_error",
        "have a failing cast or path quote the value that the policy hides",
        _sql(_ALL + " WHERE tenant = {B} AND value::int = 0"),
        _PG,
    ),
    Attack(
        "path_error",
        "have a failing JSON path quote the value",
        _sql("SELECT json_extract('{{}}', value) FROM {theirs} WHERE tenant = {B}"),
        _LITE,
    ),
    Attack(
        "leaky_function",
        "call a function with a side effect on each row before the policy is asked",
        _sql(
            "SELECT 1 FROM {theirs} WHERE set_config('leak.it', "
            "concat(current_setting('leak.it', true), value), true) = ''",
            "SELECT current_setting('leak.it', true)",
        ),
        _PG,
    ),
    Attack(
        "set_tenant",
        "change the setting that says whose session this is",
        _sql(
            "SET dagstorm.tenant = {B}",
            _ALL,
            "SELECT set_config('dagstorm.tenant', {B}, true)",
            _ALL,
            "UPDATE {theirs} " + _STOLEN,
        ),
        _PG,
    ),
    Attack(
        "set_tenant",
        "change the table that says whose session this is",
        _sql("UPDATE temp.session SET tenant = {B}", "SELECT value FROM {own}"),
        _LITE,
        absent_ok=True,
    ),
    Attack(
        "row_security_off",
        "switch row security off for the session",
        _sql("SET row_security = off", _ALL),
        _PG,
    ),
    Attack(
        "policy_off",
        "switch the table's policy off, as its owner may",
        _sql("ALTER TABLE {theirs} DISABLE ROW LEVEL SECURITY", _ALL),
        _PG,
    ),
    Attack(
        "become",
        "become the owner or the administrator, or what the connection was before",
        _sql(
            "SET ROLE {owner}",
            _ALL,
            "SET ROLE {admin}",
            _ALL,
            "RESET ROLE",
            _ALL,
            "SET SESSION AUTHORIZATION {admin}",
            _ALL,
        ),
        _PG,
    ),
    Attack(
        "after_commit",
        "commit, and go on in a transaction that nobody bound",
        _sql("COMMIT", _ALL, "BEGIN", _ALL, "COMMIT"),
    ),
    Attack(
        "pooled_connection",
        "take over the victim's connection from the pool without binding a tenant",
        (
            Step("SELECT 1", "victim"),
            Step(_ALL, "nobody"),
            Step("SELECT value FROM {own}", "nobody"),
        ),
    ),
    Attack(
        "prepared_statement",
        "run on a pooled connection what the victim prepared and planned",
        (
            Step("PREPARE dagstorm_plan AS " + _ALL, "victim"),
            # From the sixth time on PostgreSQL may keep one plan for all.
            *(Step("EXECUTE dagstorm_plan", "victim") for _ in range(6)),
            Step("EXECUTE dagstorm_plan"),
        ),
        _PG,
        absent_ok=True,
    ),
    Attack(
        "watch_activity",
        "read the victim's statements in the server's list of activity",
        (
            Step(put="{key}", who="victim"),
            Step("SELECT query FROM pg_stat_activity"),
        ),
        _PG,
        at_once=True,
    ),
    Attack(
        "named_like_the_view",
        "name a table expression like the view that may read the table",
        _sql("WITH {own} AS (SELECT value FROM {theirs}) SELECT value FROM {own}"),
        _LITE,
    ),
    Attack(
        "attach_again",
        "attach the same file under another name",
        _sql("COMMIT", "ATTACH {path} AS again", "SELECT value FROM again.{theirs}"),
        _LITE,
        absent_ok=True,
    ),
    Attack(
        "new_view",
        "make a view of the table for oneself",
        _sql("CREATE TEMP VIEW peep AS " + _ALL, "SELECT value FROM temp.peep"),
        _LITE,
        absent_ok=True,
    ),
)

ATTACKS: Mapping[Dialect, Mapping[str, Attack]] = {
    "sqlite": {one.name: one for one in _CATALOGUE if "sqlite" in one.dialects},
    "postgres": {one.name: one for one in _CATALOGUE if "postgres" in one.dialects},
}
"""Every attack, by the backend that it can be tried on and by its name."""


def attacks_on(dialect: Dialect) -> tuple[str, ...]:
    """Return the names of the attacks for a backend, in the order of the catalogue."""
    return tuple(ATTACKS[dialect])
