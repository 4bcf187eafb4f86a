"""The record of one laboratory run: everything that a check may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.kernel.journal import Journal
from harness.kernel.outcome import Outcome

__all__ = ["Leak", "RunRecord", "Waiting"]


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that was left behind when the run was over.

    Attributes:
        kind: task, timer, thread, asyncgen or unretrieved.
        what: name or text that identifies it; no addresses.
        stage: the stage whose body it runs, or "".
        location: `file:line function` of the outermost frame inside the engine, or "".
    """

    kind: str
    what: str
    stage: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who waits where, when nothing can happen any more."""

    task: str
    where: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of a program under a plan in the laboratory.

    Attributes:
        lab: "sim" or "live".
        ended: "over" (every run returned or raised), "deadlock", "horizon" (virtual time ran
            out) or "steps" (too many callbacks).
        build_error: the engine's words if it refused to build the pipeline, else None.
        outcomes: run id -> what the engine told its user; a run that never ended has none.
        leaks: what was left behind, judged before anything is torn down.
        waiting: who waited where, if `ended` is not "over".
        late_s: how late a timer may have fired in this run, in seconds: tolerance of checks.
        points: number of loop callbacks between the begin and the end of the runs.
        tape: choices by stream, enough to replay the run.
        took_s: seconds on the run's own clock.
        chosen: identity of a step's list of durations -> the one that was (last) chosen.
        stage_points: (run, stage) -> the first and the last point at which its body was under way.
    """

    lab: str
    seed: int
    ended: str
    journal: Journal
    outcomes: Mapping[str, Outcome]
    build_error: str | None = None
    leaks: tuple[Leak, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    late_s: float = 0.0
    points: int = 0
    took_s: float = 0.0
    tape: Mapping[str, list[int]] = field(default_factory=dict)
    chosen: Mapping[int, float] = field(default_factory=dict)
    stage_points: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
