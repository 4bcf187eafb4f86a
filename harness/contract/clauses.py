"""The catalogue: every clause by its id, in the contract's order."""

from __future__ import annotations

from collections.abc import Mapping

from harness.contract.cancel import CANCEL
from harness.contract.clause import Clause
from harness.contract.clean import CLEAN
from harness.contract.correlation import CORR
from harness.contract.events import EVENT
from harness.contract.ground import CTX, GRAPH
from harness.contract.layers import LAYERS
from harness.contract.partial import PART, STREAM
from harness.contract.recovery import RECOVERY, RETRY
from harness.contract.streams import CONSUMED
from harness.contract.tenants import TENANT
from harness.contract.timeouts import TIME

__all__ = ["CLAUSES"]

CLAUSES: Mapping[str, Clause] = {
    clause.id: clause
    for clause in (
        *TIME,
        *CANCEL,
        *CLEAN,
        *STREAM,
        *CONSUMED,
        *PART,
        *RECOVERY,
        *EVENT,
        *TENANT,
        *CORR,
        *GRAPH,
        *LAYERS,
        *CTX,
        *RETRY,
    )
}
