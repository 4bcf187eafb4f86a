"""Events, outputs and checkpoints of tenants, kept apart by the store itself.

A store has sessions; a session belongs to one tenant and is one transaction: it commits
when its `with` block ends well and rolls back when an error leaves it. What the store holds
is a value for each (tenant, kind, key). Its rules:

- Nothing that a session's own SQL can say reaches another tenant's rows. `attempt` carries
  out a named attack of `mocks.store.attacks` from within a session and says what came of it.
- A `put` is atomic and, once its session has committed, survives a `kill -9` of the process.
- Everything has a limit. Beyond it the store refuses, with `StoreRefused`, and has changed nothing.
- The interface is synchronous. Open a session, use it, close it: never hold one across an
  `await`, for another session may wait for it. Asynchronous callers use a thread.

Out of its scope is code in this same process that goes round SQL (the drivers' objects are
in its reach), and whoever can read the database's files or log in as its administrator.
"""

from __future__ import annotations

import json
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from harness.kernel.errors import DagstormError, EnvironmentFault

__all__ = [
    "KEY_CHARS_MAX",
    "KINDS",
    "ROWS_MAX",
    "TENANT_CHARS_MAX",
    "VALUE_BYTES_MAX",
    "Attempt",
    "Store",
    "StoreRefused",
    "StoreUnavailable",
    "TenantSession",
    "checked_key",
    "checked_kind",
    "checked_tenant",
    "text_of",
    "value_of",
]

KINDS = ("event", "output", "checkpoint")

TENANT_CHARS_MAX = 64
KEY_CHARS_MAX = 200
VALUE_BYTES_MAX = 65_536
# Of one kind and tenant, in one answer.
ROWS_MAX = 10_000

_TENANT = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{TENANT_CHARS_MAX - 1}}}")


class StoreRefused(DagstormError):
    """The store itself refused what a session asked: it is not allowed, or over a limit."""


class StoreUnavailable(EnvironmentFault):
    """No such store on this machine, or it did not answer in time; says what to do."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attack from within a tenant's session came to.

    Attributes:
        name: the attack, by its name in `mocks.store.attacks`.
        refused: whether the store held: the attacker learned nothing and changed nothing.
        seen: what of the victim's the attacker got to know: values as JSON text, or a fact
            in words where it was not a value (`key k1 exists`, `3 rows`).
        changed: how many of the victim's rows are new, gone or different afterwards.
        error: the store's words when it answered with an error, "" when it merely hid the rows.
    """

    name: str
    refused: bool
    seen: tuple[str, ...]
    changed: int
    error: str


class TenantSession(Protocol):
    """One transaction of one tenant. Not for two threads at a time."""

    tenant: str

    def put(self, kind: str, key: str, value: Any) -> None:
        """Store a JSON value under the key, in place of the one that may be there."""

    def get(self, kind: str, key: str) -> Any:
        """Return the value under the key, or None if there is none."""

    def rows(self, kind: str) -> list[tuple[str, Any]]:
        """Return all keys and values of the kind, in the keys' code point order."""

    def count(self, kind: str) -> int:
        """Return how many keys of the kind there are."""

    def delete(self, kind: str, key: str) -> bool:
        """Remove the key; whether it was there."""

    def attempt(self, name: str, victim: str) -> Attempt:
        """Carry out an attack on another tenant, then put all rows back as they were.

        What the session did before is committed first, for an attacker may do that too. For
        a store that nobody else writes to meanwhile: their rows would be put back as well.

        Raises:
            HarnessFault: no such attack for this store, it could not be carried out as
                meant, or the victim has no value long enough to be known again.
        """


class Store(Protocol):
    """Where tenants' sessions come from. Safe for threads and for several processes."""

    def session(self, tenant: str) -> AbstractContextManager[TenantSession]:
        """Begin a transaction for the tenant; leaving the block commits or rolls back."""

    def close(self) -> None:
        """Let go of everything the store holds; a second call does nothing."""


def checked_tenant(tenant: object) -> str:
    """Return the tenant's name if it may be one.

    Raises:
        StoreRefused: it is no such name.
    """
    if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
        raise StoreRefused(
            f"expected a tenant's name of 1 to {TENANT_CHARS_MAX} letters, digits, '.', '_' or "
            f"'-', beginning with a letter or digit; got {tenant!r:.100}"
        )
    return tenant


def checked_kind(kind: str) -> str:
    """Return the kind if there is such a one.

    Raises:
        StoreRefused: there is none.
    """
    if kind not in KINDS:
        raise StoreRefused(f"expected a kind of {', '.join(KINDS)}; got {kind!r:.100}")
    return kind


def checked_key(key: object) -> str:
    """Return the key if it may be one.

    Raises:
        StoreRefused: it is empty, too long, or not printable text.
    """
    if not isinstance(key, str) or not 0 < len(key) <= KEY_CHARS_MAX or not key.isprintable():
        raise StoreRefused(
            f"expected a key of 1 to {KEY_CHARS_MAX} printable characters; got {key!r:.100}"
        )
    return key


def text_of(value: Any) -> str:
    """Return the value as the JSON text that is stored.

    Raises:
        StoreRefused: it is no JSON value, or its text is too long.
    """
    try:
        # ASCII only: no database is asked what it makes of NUL or of half a surrogate pair.
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as e:
        raise StoreRefused(f"expected a JSON value; got {type(value).__name__}: {e}") from e
    if len(text) > VALUE_BYTES_MAX:
        raise StoreRefused(
            f"expected a value of at most {VALUE_BYTES_MAX} bytes of JSON; got {len(text)}: "
            f"store it in parts"
        )
    return text


def value_of(text: str) -> Any:
    """Return the value of stored JSON text."""
    return json.loads(text)
