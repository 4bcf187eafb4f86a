"""Cleanup: resources are given back on every way out, in order, once, and in time."""

from __future__ import annotations

from harness.contract.scenario import Pack
from scenarios.cleanup.mission import CANCEL_CLEANUP
from scenarios.cleanup.registry import REGISTRY
from scenarios.cleanup.ways_out import WAYS_OUT

__all__ = ["PACK"]

PACK = Pack(
    id="cleanup",
    title="Resources and cleanups",
    page=(
        "Is everything that a stage took given back when the run is over? The first group holds "
        "resources the way Python code does, in `finally` and `async with`, and leaves the stage "
        "by every way there is; an engine breaks that only by not waiting for its stages. The "
        "second group uses the engine's own cleanup registry, where it has one: order, failures, "
        "the grace, and two runs of one pipeline at the same time. "
        "That a `finally` was entered, that it came to its end, that it did so before the run was "
        "reported as over, and that it was cut off by a second cancel are four separate facts."
    ),
    scenarios=(*WAYS_OUT, *REGISTRY),
    missions=(CANCEL_CLEANUP,),
)
