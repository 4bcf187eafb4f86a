"""What every fault needs: the engine, a place to work in, and subjects started alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contract.clause import Judgement, Violation, untested, violated
from harness.kernel.errors import EnvironmentFault
from harness.lab.engines import EngineRef
from harness.lab.faults.process import Place, Subject

__all__ = ["HORIZON_S", "LIMIT_S", "Bench", "judgement", "must_be_up", "names_stage", "stage"]

# No life of a subject takes longer, whatever its engine does.
LIMIT_S = 45.0
HORIZON_S = 15.0


@dataclass(frozen=True, slots=True)
class Bench:
    """One engine under test.

    Attributes:
        info: what its adapter says of it.
        times: how many trials are made at the most; a fault may have fewer to make.
        say: told how far it is.
    """

    place: Place
    ref: EngineRef
    python: str
    info: Mapping[str, Any]
    seed: int
    times: int
    say: Callable[[str], None]

    def subject(self, request: Mapping[str, Any], *, nice: int = 0) -> Subject:
        """Start a subject process; `request` is what `subject.py` reads."""
        whole = {"adapter": dict(self.ref.adapter), "horizon_s": HORIZON_S, **request}
        return Subject(self.place, self.python, whole, isolated=self.ref.isolated, nice=nice)

    @property
    def durable(self) -> Mapping[str, Any] | None:
        """What the engine documents of checkpoints that outlive the process, or None."""
        if "checkpoint" not in self.info["capabilities"]:
            return None
        found = self.info["facts"].get("durable")
        return found if isinstance(found, Mapping) else None

    @property
    def why_not_durable(self) -> tuple[str, dict[str, str]]:
        """Say why the engine cannot be redriven after its process was killed."""
        if "checkpoint" not in self.info["capabilities"]:
            why = str(self.info["missing"].get("checkpoint", ""))
            return "needs checkpoint", {"checkpoint": why}
        why = "the adapter states no fact `durable`: no checkpoints that outlive the process"
        return why, {"checkpoint": why}

    def offers(self, *capabilities: str) -> dict[str, str]:
        """Return those of the capabilities that the engine lacks, with what was looked for."""
        missing = self.info["missing"]
        return {
            c: str(missing.get(c, "")) for c in capabilities if c not in self.info["capabilities"]
        }

    def job(
        self,
        program: Mapping[str, Any],
        plan: Mapping[str, Any],
        runs: Sequence[str] = ("r0",),
        *,
        folder: Path | None = None,
        redrive: bool = False,
    ) -> dict[str, Any]:
        """Return what a subject is to run; with `folder`, its checkpoints are kept there."""
        options = {"options": {"checkpoints": str(folder)}} if folder else {}
        specs = [{"id": r, "redrives": r if redrive else ""} for r in runs]
        return {"program": program, "plan": {**plan, **options}, "runs": specs}


def stage(name: str, *steps: Mapping[str, Any], needs: Sequence[str] = ()) -> dict[str, Any]:
    """Return a stage of a program as JSON data."""
    return {"name": name, "needs": list(needs), "steps": list(steps)}


def judgement(found: Sequence[Violation], tested: bool, **figures: int) -> Judgement:
    """Return what a clause says of a trial: untested if the fault did not bear on it."""
    return violated(list(found), **figures) if tested or found else untested()


def names_stage(outcome: Mapping[str, Any], name: str) -> bool:
    """Say whether an outcome tells its user that this stage failed: by its failures, or where the
    engine lists none by its exception or what it says of each stage."""
    said = list(outcome.get("failures", ()))
    if said:
        return any(one.get("stage") == name or name in str(one.get("message")) for one in said)
    raised = outcome.get("raised") or {}
    if raised.get("stage") == name or name in str(raised.get("message", "")):
        return True
    report = outcome.get("stages", {}).get(name)
    return report is not None and report["status"] in ("failed", "timed_out")


def must_be_up(ending: Mapping[str, Any], what: str) -> None:
    """Raise `EnvironmentFault` if a subject that nothing was done to could not run."""
    if ending.get("crash") or "running" not in ending:
        why = ending.get("crash") or ending.get("build") or ending.get("stderr") or "no word of it"
        raise EnvironmentFault(f"faults: {what} could not be run: {str(why)[-300:]}")
