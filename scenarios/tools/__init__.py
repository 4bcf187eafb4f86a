"""Tools: what a stage calls, under timeouts of the stage's own."""

from __future__ import annotations

from harness.contract.scenario import Pack
from scenarios.tools.calls import CALLS
from scenarios.tools.mission import WORK_007

__all__ = ["PACK"]

PACK = Pack(
    id="tools",
    title="Timeouts of tools",
    page=(
        "A stage calls tools that are slow, that stream, that hold resources and that fail. The "
        "stage bounds each call with `asyncio.timeout`, as its author would, so that the tests "
        "put no engine at a disadvantage for lacking a timeout of its own for tools; whether it "
        "has one is decided by timeouts/tool_timeout_each."
    ),
    scenarios=CALLS,
    missions=(WORK_007,),
)
