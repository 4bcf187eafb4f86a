"""How an attack is carried out from a tenant's session, and what came of it.

What the attacker learned is looked for in all that the store said to it, rows, errors and
notices, by the victim's own values; what it changed is the difference between two looks at all
rows with the administrator's eyes. So one and the same attack judges any store, sound or
broken, and no store's own word is taken for it. Where telling is enough (does this key
exist?) the same is asked of a key that nobody has, and any difference between the two answers
counts as learned. SQL that is none, or names what is not there, is not taken for a refusal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, Protocol

from harness.kernel.errors import HarnessFault
from mocks.store.attacks import ATTACKS, Attack, Dialect, Step
from mocks.store.store import Attempt, StoreRefused, text_of, value_of

__all__ = ["Fault", "Ground", "Reply", "Rows", "carry_out"]

Rows = dict[tuple[str, str, str], str]
"""All rows of a store: (tenant, kind, key) to the value's JSON text."""

Fault = Literal["", "malformed", "absent"]

# Shorter texts occur by chance; a value is known again by a string of its own this long.
MARK_CHARS_MIN = 8
ERROR_CHARS_MAX = 300
GHOST = "no-such-key-of-anyone"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the store said to one statement.

    Attributes:
        texts: every cell of every row, and every notice, as text.
        count: rows returned or changed.
        error: its error in full, "" for none.
        fault: "" unless the statement never was an attack: "malformed" SQL, or "absent" names.
    """

    texts: tuple[str, ...] = ()
    count: int = 0
    error: str = ""
    fault: Fault = ""


class Ground(Protocol):
    """What a backend's session gives to an attack besides the session's own methods."""

    dialect: Dialect
    tenant: str

    def sql(self, statement: str) -> Reply:
        """Run the statement as the session's own SQL; an error undoes that statement alone."""

    def put(self, kind: str, key: str, value: Any) -> None:
        """Put through the session's door."""

    def names(self, victim: str) -> Mapping[str, str]:
        """Return what statements may name: `own` and `theirs` (where rows are), and others."""

    def elsewhere(self, tenant: str | None) -> AbstractContextManager[Ground]:
        """Take another session of the same store, or with None a connection bound to nobody."""

    def pause(self) -> None:
        """Commit; until `resume` the session holds no transaction."""

    def resume(self) -> None:
        """Begin the session's next transaction, bound to its tenant as at its start."""

    def truth(self) -> Rows:
        """Return all rows of all tenants, read as the administrator."""

    def restore(self, rows: Rows) -> None:
        """Make these all the rows there are, as the administrator."""


@dataclass(frozen=True, slots=True)
class _Target:
    """Whom it is aimed at: a key of the victim's that the attacker does not use itself."""

    attacker: str
    victim: str
    kind: str
    key: str
    before: Rows


def carry_out(ground: Ground, name: str, victim: str) -> Attempt:
    """Carry out one attack from a session and put all rows back; see `TenantSession.attempt`."""
    attack = ATTACKS[ground.dialect].get(name)
    if attack is None:
        raise HarnessFault(
            f"no attack {name!r} on {ground.dialect}; "
            f"there are {', '.join(ATTACKS[ground.dialect])}"
        )
    ground.pause()
    before = ground.truth()
    try:
        target = _target(before, ground.tenant, victim)
        if attack.pairs:
            # What was deleted once can still be told from what never was: begin on new ground.
            ground.restore(before)
        replies = _replies(ground, attack, target)
        after = ground.truth()
    finally:
        ground.restore(before)
        ground.resume()
    for step, reply in zip(attack.steps, replies, strict=True):
        if reply.fault == "malformed" or (reply.fault and not attack.absent_ok):
            raise HarnessFault(f"attack {name} is no attack here: {step.sql}: {reply.error}")
    heard = [
        Reply() if step.who == "victim" else reply
        for step, reply in zip(attack.steps, replies, strict=True)
    ]
    seen = (*_values_seen(target, heard), *_facts(attack, target, heard))
    changed = sum(
        before.get(row) != after.get(row)
        for row in before.keys() | after.keys()
        if row[0] == victim
    )
    error = next((r.error for r in heard if r.error), "")
    return Attempt(name, not seen and not changed, seen, changed, error[:ERROR_CHARS_MAX])


def _target(before: Rows, attacker: str, victim: str) -> _Target:
    if attacker == victim:
        raise HarnessFault(f"expected another tenant as victim; got the attacker's own, {victim!r}")
    own = {(kind, key) for tenant, kind, key in before if tenant == attacker}
    for (tenant, kind, key), text in sorted(before.items()):
        if tenant == victim and (kind, key) not in own and _marks(text):
            return _Target(attacker, victim, kind, key, before)
    raise HarnessFault(
        f"tenant {victim!r} has no row to attack: give it a key that {attacker!r} does not use, "
        f"with a string of at least {MARK_CHARS_MIN} characters in its value"
    )


def _replies(ground: Ground, attack: Attack, target: _Target) -> list[Reply]:
    literals = {"A": target.attacker, "B": target.victim, "kind": target.kind}
    literals |= {"key": target.key, "ghost": GHOST}
    said = {name: _literal(text) for name, text in literals.items()}
    said |= ground.names(target.victim)
    replies: list[Reply] = []
    tenants = {"attacker": target.attacker, "victim": target.victim, "nobody": None}
    with ExitStack() as sessions:
        # One session for the steps that one party says in a row, as it would have in the pool.
        for who, steps in groupby(attack.steps, key=lambda step: step.who):
            if not attack.at_once:
                sessions.close()
            session = sessions.enter_context(ground.elsewhere(tenants[who]))
            for step in steps:
                if step.put:
                    replies.append(_put(session, step, target))
                else:
                    replies.append(session.sql(step.sql.format_map(said)))
    return replies


def _put(session: Ground, step: Step, target: _Target) -> Reply:
    """Put through the door: the attacker a value of its own, the victim what it has there."""
    key = step.put.format(key=target.key, ghost=GHOST)
    held = target.before.get((session.tenant, target.kind, key), text_of("mine"))
    try:
        session.put(target.kind, key, value_of(held))
    except StoreRefused as e:
        return Reply(error=str(e))
    return Reply(count=1)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _marks(text: str) -> set[str]:
    """Return the strings that give a value away: those in it that are long enough."""

    def strings(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for name, one in value.items():
                yield from (name, *strings(one))
        elif isinstance(value, list):
            for one in value:
                yield from strings(one)

    # As it stands in the JSON text, for that is what a store could quote.
    return {text_of(s)[1:-1] for s in strings(value_of(text)) if len(s) >= MARK_CHARS_MIN}


def _values_seen(target: _Target, replies: list[Reply]) -> tuple[str, ...]:
    said = "\n".join(text for reply in replies for text in (*reply.texts, reply.error))
    # What the attacker has itself it did not learn here.
    own = "\n".join(text for row, text in target.before.items() if row[0] == target.attacker)
    return tuple(
        text
        for row, text in sorted(target.before.items())
        if row[0] == target.victim and any(m in said and m not in own for m in _marks(text))
    )


def _facts(attack: Attack, target: _Target, replies: list[Reply]) -> tuple[str, ...]:
    facts: list[str] = []
    if attack.counts is not None:
        counted = replies[attack.counts].texts
        if counted and counted[0] not in ("", "0"):
            facts.append(f"{counted[0]} rows")
    if any(_told(replies[i], target.key) != _told(replies[j], GHOST) for i, j in attack.pairs):
        facts.append(f"key {target.key} exists")
    return tuple(facts)


def _told(reply: Reply, key: str) -> tuple[int, tuple[str, ...], str]:
    """Return the answer with the key that was asked for taken out of it."""
    return (
        reply.count,
        tuple(text.replace(key, "") for text in reply.texts),
        reply.error.replace(key, ""),
    )
