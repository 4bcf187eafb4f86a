"""What the tests of both backends share: two tenants' rows, and which attacks show something."""

from __future__ import annotations

from mocks.store import Attempt, Store, attacks_on
from mocks.store.attacks import Dialect

ATTACKER, VICTIM = "acme", "zenith"


def plant(store: Store, *, shared_keys: bool) -> None:
    """Give both tenants three outputs and an event, with values that are known again."""
    for tenant in (ATTACKER, VICTIM):
        with store.session(tenant) as session:
            for i in range(3):
                session.put("output", f"{tenant}-{i}", {"marker": f"secret of {tenant}, {i}"})
            key = "first" if shared_keys else f"first-of-{tenant}"
            session.put("event", key, ["started", f"event of {tenant}"])


def attempts(store: Store, dialect: Dialect) -> list[Attempt]:
    """Carry out every attack, all in one session."""
    with store.session(ATTACKER) as session:
        return [session.attempt(name, VICTIM) for name in attacks_on(dialect)]


def showing(store: Store, dialect: Dialect) -> list[str]:
    """Return the attacks that the store did not hold against."""
    return [one.name for one in attempts(store, dialect) if not one.refused]
