"""Tenants: values, trouble and rows of one that must not reach another."""

from __future__ import annotations

from harness.contract.scenario import Pack
from scenarios.tenant_isolation.channels import CHANNELS
from scenarios.tenant_isolation.layers import LAYERS
from scenarios.tenant_isolation.mission import TENANT_ISOLATION
from scenarios.tenant_isolation.store import STORE

__all__ = ["PACK"]

PACK = Pack(
    id="tenant_isolation",
    title="Tenants kept apart",
    page=(
        "Can anything of one tenant reach another, when their runs share one pipeline object, one "
        "process and one store? Each run is handed a marker, a text that no other run has. The "
        "stages put it into outputs, chunks, events, log records, errors, child runs and stored "
        "rows; afterwards all that every run produced is searched for the markers of the others, "
        "keys included, in another case, backwards, in hexadecimal digits and in base64. So a "
        "leak is found whatever way it took. The second group asks whether one tenant's failures, "
        "load or cached results reach another through a circuit breaker, a rate limit or an "
        "idempotency key. The third has stages attack the store with SQL of their own, from their "
        "own session: what another tenant keeps has to be refused by the store itself, be it to "
        "read, to change, to count or to infer. The fourth asks of runs of one tenant, whose "
        "values are no secrets, that they are not mixed up either, and that a run which fails or "
        "is cancelled spoils no other."
    ),
    scenarios=(*CHANNELS, *LAYERS, *STORE),
    missions=(TENANT_ISOLATION,),
)
