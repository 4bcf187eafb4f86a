"""Where tenants' events, outputs and checkpoints are kept, and the attacks on it.

`SqliteStore` needs nothing; `PostgresStore` needs a driver and a server, and says so where
they are missing. Both are `Store`.
"""

from mocks.store.attacks import ATTACKS, Attack, attacks_on
from mocks.store.postgres import PostgresStore
from mocks.store.sqlite import SqliteStore
from mocks.store.store import (
    KINDS,
    Attempt,
    Store,
    StoreRefused,
    StoreUnavailable,
    TenantSession,
)

__all__ = [
    "ATTACKS",
    "KINDS",
    "Attack",
    "Attempt",
    "PostgresStore",
    "SqliteStore",
    "Store",
    "StoreRefused",
    "StoreUnavailable",
    "TenantSession",
    "attacks_on",
]
