"""The checks of stand-alone scripts: the clauses' rules, small enough to be read in an issue.

Each function returns the source of `violation(seen, error, outputs, left, took)`, written for
one program and plan, or None where a script on a real clock cannot tell. See `Adapter.render`
for what the arguments are. With several runs, stages are noted and their outputs named as
`run/stage`. The rules are those of the clauses, at moments at which a real clock leaves no
doubt; where an engine may be right, they hold.
"""

from __future__ import annotations

from harness.contract.scripts.around import graph_5
from harness.contract.scripts.asked import cancel_1, cancel_7
from harness.contract.scripts.cleanups import clean_1, clean_2, clean_4, clean_6
from harness.contract.scripts.ids import corr_1, corr_3
from harness.contract.scripts.limits import time_1, time_2, time_3, time_4, time_5
from harness.contract.scripts.order import graph_1, graph_2, retry_1
from harness.contract.scripts.outcomes import ctx_2, part_1, part_3, part_4
from harness.contract.scripts.reverse import clean_3
from harness.contract.scripts.running import cancel_3, cancel_4, clean_5, left_running
from harness.contract.scripts.several import tenant_1, tenant_2, tenant_4
from harness.contract.scripts.streams import stream_2, stream_3, stream_4
from harness.contract.scripts.traffic import event_1, event_2, event_3, event_4, event_5, event_6

__all__ = [
    "cancel_1",
    "cancel_3",
    "cancel_4",
    "cancel_7",
    "clean_1",
    "clean_2",
    "clean_3",
    "clean_4",
    "clean_5",
    "clean_6",
    "corr_1",
    "corr_3",
    "ctx_2",
    "event_1",
    "event_2",
    "event_3",
    "event_4",
    "event_5",
    "event_6",
    "graph_1",
    "graph_2",
    "graph_5",
    "left_running",
    "part_1",
    "part_3",
    "part_4",
    "retry_1",
    "stream_2",
    "stream_3",
    "stream_4",
    "tenant_1",
    "tenant_2",
    "tenant_4",
    "time_1",
    "time_2",
    "time_3",
    "time_4",
    "time_5",
]
