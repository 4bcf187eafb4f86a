"""Deliberately broken engines: what proves that dagstorm's checks can fail.

Each is the reference engine with one small defect of a kind that real engines have. A
check of a clause is believed only because it catches the defects listed for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from harness.engine.broken.cancels import CANCELS
from harness.engine.broken.cleanups import CLEANUPS
from harness.engine.broken.correlations import CORRELATIONS
from harness.engine.broken.defect import Defect
from harness.engine.broken.durability import DURABILITIES
from harness.engine.broken.events import EVENTS
from harness.engine.broken.graphs import GRAPHS
from harness.engine.broken.layers import LAYERS
from harness.engine.broken.outputs import OUTPUTS
from harness.engine.broken.recovery import RECOVERIES
from harness.engine.broken.streams import STREAMS
from harness.engine.broken.tenants import TENANTS
from harness.engine.broken.timeouts import TIMEOUTS

__all__ = ["CATALOGUE", "LIVE_CATALOGUE", "Defect"]

CATALOGUE: Mapping[str, Defect] = MappingProxyType(
    {
        one.name: one
        for one in (
            *TIMEOUTS,
            *CANCELS,
            *CLEANUPS,
            *OUTPUTS,
            *GRAPHS,
            *RECOVERIES,
            *LAYERS,
            *EVENTS,
            *STREAMS,
            *TENANTS,
            *CORRELATIONS,
        )
    }
)

# What only shows in a process that is killed, stopped or starved; see `dagstorm faults`.
LIVE_CATALOGUE: Mapping[str, Defect] = MappingProxyType({one.name: one for one in DURABILITIES})
