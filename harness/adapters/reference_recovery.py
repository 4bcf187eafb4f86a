"""The reference engine's recovery in dagstorm's terms: retries, checkpoints, compensations."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from harness.kernel.plan import Plan, RunSpec
from harness.kernel.program import Stage

if TYPE_CHECKING:
    from harness.engine import CheckpointStore, Retry, RunResult

__all__ = [
    "DURABLE",
    "RECOVERY_CAPABILITIES",
    "kept_stages",
    "recovered",
    "redriven",
    "retry_of",
    "store_for",
]

RECOVERY_CAPABILITIES = frozenset({"retry", "checkpoint", "compensation"})

# What the engine's documentation promises of checkpoints that outlive the process.
DURABLE = {"effects": "at-least-once", "documented": "checkpoint.py: stages are run at least once"}


def retry_of(stage: Stage) -> Retry | None:
    """Return how the engine is to retry a stage of a program."""
    from harness.engine import Retry

    one = stage.retry
    if one is None:
        return None
    return Retry(one.attempts, one.backoff_s, one.factor, one.jitter_s)


def store_for(plan: Plan) -> CheckpointStore | None:
    """Return where the plan's runs keep their checkpoints, or None if none is redriven.

    With the option `checkpoints` that is a file in the folder that it names, for as long as
    the process lives.
    """
    from harness.engine import MemoryCheckpoints, SqliteCheckpoints

    folder = plan.options.get("checkpoints")
    if folder:
        return SqliteCheckpoints(os.path.join(folder, "runs.db"))
    return MemoryCheckpoints() if any(run.redrives for run in plan.runs) else None


def redriven(run: RunSpec, store: CheckpointStore | None) -> dict[str, Any]:
    """Return what `Pipeline.prepare` is to be told of a run's checkpoints."""
    return {} if store is None else {"checkpoints": store, "redrives": run.redrives or None}


def kept_stages(store: CheckpointStore, run: str) -> list[str] | None:
    """Return the stages that are kept of a run, or None if the store does not know it."""
    from harness.engine import RedriveRefused

    try:
        return [one.stage for one in store.look(run).stages]
    except RedriveRefused:
        return None


def recovered(result: RunResult) -> dict[str, Any]:
    """Return the fields of an outcome that tell of redrives and compensations."""
    return {
        "reused": result.reused,
        "compensated": result.compensated,
        "compensation_failures": tuple(
            f"{one.name}: {type(one.error).__name__}: {one.error}"
            for one in result.compensation_failures
        ),
    }
