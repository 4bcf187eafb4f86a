"""Cancellation: by a stage, of a branch, by the caller, and by an engine's own means."""

from __future__ import annotations

from harness.contract.scenario import Pack
from scenarios.branch_cancel.by_caller import BY_CALLER
from scenarios.branch_cancel.by_stage import BY_STAGE
from scenarios.branch_cancel.child import CHILD

__all__ = ["PACK"]

PACK = Pack(
    id="branch_cancel",
    title="Cancellation and its scope",
    page=(
        "What stops, what goes on, and who is told, when something is cancelled? A stage can end "
        "the run, or only its branch; the caller can cancel at any suspension point (these "
        "scenarios are swept over every one), before the start, twice, or while cleanups run; a "
        "stage can swallow its cancellation or raise CancelledError itself; and a child pipeline "
        "must share its parent's fate."
    ),
    scenarios=(*BY_STAGE, *BY_CALLER, *CHILD),
)
