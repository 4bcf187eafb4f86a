"""Timeouts: of stages, inside stages, many at once, with odd values and in ties."""

from __future__ import annotations

from harness.contract.scenario import Pack
from scenarios.timeouts.mission import DAG_009
from scenarios.timeouts.own import OWN
from scenarios.timeouts.stage import STAGE
from scenarios.timeouts.values import VALUES

__all__ = ["PACK"]

PACK = Pack(
    id="timeouts",
    title="Timeouts of stages",
    page=(
        "Does a stage that hangs end when it should, and only then? The first group uses the "
        "engine's own timeout for stages and looks at the moment it fires, at what it is called, "
        "at siblings and at ties. The second uses timeouts inside a stage, which an engine must "
        "let alone. The third gives the engine values that no timeout should have. Engines "
        "without a stage timeout are put to the test by the second group only; what they lack "
        "is reported as an improvement."
    ),
    scenarios=(*STAGE, *OWN, *VALUES),
    missions=(DAG_009,),
)
