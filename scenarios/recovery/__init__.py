"""Recovery: retries, redrives from checkpoints, and compensations."""

from __future__ import annotations

from harness.contract.scenario import Pack
from scenarios.recovery.compensations import COMPENSATIONS
from scenarios.recovery.mission import REDRIVE
from scenarios.recovery.redrives import REDRIVES
from scenarios.recovery.retries import RETRIES

__all__ = ["PACK"]

PACK = Pack(
    id="recovery",
    title="Retry, redrive and compensation",
    page=(
        "A stage fails. Where it declares a retry: is it tried as often as declared, with the "
        "declared waits, and never again once the run was cancelled, is being ended, or the stage "
        "had completed? Where the run fails for good: can it be redriven so that only what had "
        "not completed is run, with the same outputs to read, by one redrive at a time, wherever "
        "a cancel had landed? And where stages declared compensations: do they run when the run "
        "fails and only then, for completed stages only, the last completed first, each once, not "
        "cut by a caller who cancels, and are those reported that fail? Stages count their own "
        "executions, so that an engine's account of them is not needed."
    ),
    scenarios=(*RETRIES, *REDRIVES, *COMPENSATIONS),
    missions=(REDRIVE,),
)
