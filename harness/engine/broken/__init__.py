"""Deliberately broken engines: what proves that dagstorm's checks can fail.

Each is the reference engine with one small defect of a kind that real engines have. A
check of a clause is believed only because it catches the defects listed for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from harness.engine.broken.cancels import CANCELS
from harness.engine.broken.cleanups import CLEANUPS
from harness.engine.broken.defect import Defect
from harness.engine.broken.graphs import GRAPHS
from harness.engine.broken.outputs import OUTPUTS
from harness.engine.broken.timeouts import TIMEOUTS

__all__ = ["CATALOGUE", "Defect"]

CATALOGUE: Mapping[str, Defect] = MappingProxyType(
    {one.name: one for one in (*TIMEOUTS, *CANCELS, *CLEANUPS, *OUTPUTS, *GRAPHS)}
)
