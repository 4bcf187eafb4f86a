"""Correlation: the ids of a run wherever its code goes, and its spans as one tree."""

from __future__ import annotations

from harness.contract.scenario import Pack
from scenarios.correlation.ids import IDS
from scenarios.correlation.mission import CORRELATION
from scenarios.correlation.spans import SPANS

__all__ = ["PACK"]

PACK = Pack(
    id="correlation",
    title="Correlation ids and trace context",
    page=(
        "Can all that comes of a request be put together again afterwards? Each run has a "
        "correlation id that its caller gave it. Code of the run asks the engine for whom it "
        "works, in stages, in tasks and worker threads that they start, in child runs and in "
        "cleanups, also after a timeout or a cancel; events, log records and the run's error are "
        "looked at for the same id. Fifty runs at once must not mix theirs. The second group "
        "gives runs a W3C traceparent and looks at the spans that come out: one tree for each "
        "run, under its caller's span, each stage under its run, each child run under its stage. "
        "Callers that send headers that break the rules are part of it."
    ),
    scenarios=(*IDS, *SPANS),
    missions=(CORRELATION,),
)
