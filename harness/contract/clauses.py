"""The catalogue: every clause by its id, in the contract's order."""

from __future__ import annotations

from collections.abc import Mapping

from harness.contract.cancel import CANCEL
from harness.contract.clause import Clause
from harness.contract.clean import CLEAN
from harness.contract.ground import CTX, GRAPH
from harness.contract.partial import PART, STREAM
from harness.contract.timeouts import TIME

__all__ = ["CLAUSES"]

CLAUSES: Mapping[str, Clause] = {
    clause.id: clause for clause in (*TIME, *CANCEL, *CLEAN, *STREAM, *PART, *GRAPH, *CTX)
}
