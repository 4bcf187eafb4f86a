"""Tenancy: a run belongs to one tenant, and the engine holds it to that.

The tenant is named once, by whoever starts the run. Stages cannot change it; a run that is
started inside a stage has that stage's tenant and cannot name another. Of the store that a run
is given it sees sessions of its own tenant only. That is the engine's part: that a session
cannot reach another tenant's rows, whatever it says, is the store's, and a store that merely
adds a condition to its statements is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from harness.engine.errors import EngineError, PipelineError, TenancyError

__all__ = ["StoreSession", "TenantRows", "TenantStore", "checked_tenant"]

TENANT_CHARS_MAX = 200
KIND = "output"


class StoreSession(Protocol):
    """One transaction of one tenant."""

    tenant: str

    def put(self, kind: str, key: str, value: Any) -> None: ...

    def get(self, kind: str, key: str) -> Any: ...

    def rows(self, kind: str) -> list[tuple[str, Any]]: ...

    def count(self, kind: str) -> int: ...

    def delete(self, kind: str, key: str) -> bool: ...


class TenantStore(Protocol):
    """Where sessions come from; leaving a session's block commits, or rolls back on an error."""

    def session(self, tenant: str, /) -> AbstractContextManager[StoreSession]: ...


class TenantRows:
    """A run's way to its tenant's rows. Each call is a transaction of its own, unless `session`
    is used; none may be held across an `await`.

    Calls are synchronous, as stores are; a slow one belongs into `Context.to_thread`.
    """

    __slots__ = ("_store", "tenant")

    def __init__(self, store: TenantStore | None, tenant: str) -> None:
        self._store = store
        self.tenant = tenant

    @contextmanager
    def session(self) -> Iterator[StoreSession]:
        """Begin a transaction of the run's tenant.

        Raises:
            EngineError: if the run was given no store.
            TenancyError: if the store gives a session of another tenant.
        """
        if self._store is None:
            raise EngineError("the run has no store; give it one by `store=`")
        with self._store.session(self.tenant) as session:
            if session.tenant != self.tenant:
                raise TenancyError(
                    f"expected a session of tenant {self.tenant!r} from the store, got one of "
                    f"another; a store must give each tenant its own"
                )
            yield session

    def put(self, key: str, value: Any, *, kind: str = KIND) -> None:
        """Store a value under the key, in place of the one that may be there."""
        with self.session() as session:
            session.put(kind, key, value)

    def get(self, key: str, *, kind: str = KIND) -> Any:
        """Return the value under the key, None if there is none."""
        with self.session() as session:
            return session.get(kind, key)

    def rows(self, *, kind: str = KIND) -> list[tuple[str, Any]]:
        """Return all keys and values of the tenant's."""
        with self.session() as session:
            return session.rows(kind)

    def count(self, *, kind: str = KIND) -> int:
        with self.session() as session:
            return session.count(kind)

    def delete(self, key: str, *, kind: str = KIND) -> bool:
        """Remove a key; whether it was there."""
        with self.session() as session:
            return session.delete(kind, key)


def checked_tenant(tenant: object) -> str:
    """Return a tenant's name if it can be one.

    Raises:
        PipelineError: if it cannot.
    """
    ok = isinstance(tenant, str) and tenant.isprintable() and not tenant.isspace()
    if not ok or not 0 < len(tenant) <= TENANT_CHARS_MAX:  # type: ignore[arg-type]
        raise PipelineError(
            f"tenant: expected a name of 1 to {TENANT_CHARS_MAX} printable characters, "
            f"got {tenant!r:.100}"
        )
    return tenant  # type: ignore[return-value]
