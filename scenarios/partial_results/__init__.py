"""Partial results: what completed before a run ended early can still be reached."""

from __future__ import annotations

from harness.contract.scenario import Pack
from scenarios.partial_results.endings import ENDINGS
from scenarios.partial_results.mission import CONTRACT_003
from scenarios.partial_results.outputs import OUTPUTS
from scenarios.partial_results.parity import PARTIAL_RESULTS

__all__ = ["PACK"]

PACK = Pack(
    id="partial_results",
    title="Outputs of a run that ended early",
    page=(
        "A run fails, times out or is ended by one of its stages. Are the outputs of the stages "
        "that had completed reachable through what the engine returns or raises, also of those "
        "that completed in the very tick of the failure? Is every failure reported, with its "
        "stage and its cause? And is a failed run's access the same as that of a cancelled one? "
        "One program is ended in every way there is, and then under retries, in a subpipeline, "
        "with forty completions or twenty failures in one tick, and among stages that do not stop."
    ),
    scenarios=(*OUTPUTS, *ENDINGS),
    missions=(CONTRACT_003, PARTIAL_RESULTS),
)
