"""What the trials of one fault on one engine come to: a row like any scenario's.

A trial is judged clause by clause; a clause that no trial put to the test is inconclusive,
never passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.contract.clause import Judgement, Violation
from harness.contract.clauses import CLAUSES
from harness.kernel.adapter import CAPABILITIES
from harness.lab.faults.ledger import Noted

__all__ = ["Tally", "Trial", "unsupported_row"]

JOURNAL_MAX = 400
SAMPLES_MAX = 100


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial: what was run, what happened, and what each clause says of it.

    Attributes:
        seed: number of the trial.
        judged: clause id -> judgement.
        sample: numbers measured, for metrics.csv.
        note: what was done to the process, in a few words.
    """

    seed: int
    program: Mapping[str, Any]
    plan: Mapping[str, Any]
    entries: Sequence[Noted]
    judged: Mapping[str, Judgement]
    sample: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


class Tally:
    """Counts the trials of one fault.

    Args:
        fault: its name; the scenario is `faults/<name>`.
        clauses: ids that it puts to the test, the first being the one a result row names.
    """

    def __init__(self, fault: str, title: str, purpose: str, clauses: Sequence[str]) -> None:
        self.fault, self.title, self.purpose = fault, title, purpose
        self.clauses = tuple(clauses)
        self.trials: list[Trial] = []
        self.not_fired = 0
        self.remarks: list[str] = []

    def add(self, trial: Trial) -> None:
        self.trials.append(trial)

    def row(self, info: Mapping[str, Any], seed: int, took_s: float) -> dict[str, Any]:
        """Return the unit row of all trials; `seed` is the command's."""
        rows = {c: self._clause_row(c, info) for c in self.clauses}
        verdict, reason = self._verdict(rows)
        bad = [t for t in self.trials if any(j.violations for j in t.judged.values())]
        shown = bad[0] if bad else self.trials[0] if self.trials else None
        return _blank(self, seed) | {
            "verdict": verdict,
            "reason": reason,
            "runs": len(self.trials),
            "violations": len(bad),
            "first_seed": bad[0].seed if bad else None,
            "clauses": rows,
            "figures": {**self._figures(), "trials": len(self.trials), "not_fired": self.not_fired},
            "witnesses": self._witnesses(),
            "samples": [{"run": t.seed, **t.sample} for t in self.trials[:SAMPLES_MAX]],
            "duration_s": round(took_s, 3),
            "program": dict(shown.program) if shown else {},
            "plan": dict(shown.plan) if shown else {},
            "remarks": list(self.remarks),
            "notes": [t.note for t in self.trials],
        }

    def _clause_row(self, clause: str, info: Mapping[str, Any]) -> dict[str, Any]:
        missing = sorted(CLAUSES[clause].needs - set(info["capabilities"]))
        judged = [t.judged[clause] for t in self.trials if clause in t.judged]
        tested = [j for j in judged if j.verdict in ("holds", "violated")]
        bad = [j for j in tested if j.violations]
        figures: dict[str, int] = {}
        for one in tested:
            for name, value in one.figures.items():
                figures[name] = figures.get(name, 0) + value
        reason = ""
        if missing:
            verdict, reason = "unsupported", f"needs {', '.join(missing)}"
        elif bad:
            verdict = "note" if clause in info.get("semantics", {}) else "fail"
            reason = str(info.get("semantics", {}).get(clause, ""))
        elif tested:
            verdict = "pass"
        else:
            verdict, reason = "inconclusive", "no trial put it to the test"
        return {
            "verdict": verdict,
            "reason": reason,
            "runs": len(self.trials),
            "exercised": len(tested),
            "violations": len(bad),
            "figures": figures,
        }

    def _verdict(self, rows: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
        failing = [c for c, row in rows.items() if row["verdict"] == "fail"]
        if failing:
            return "fail", f"{', '.join(failing)} violated"
        if not self.trials:
            return "inconclusive", self.remarks[-1] if self.remarks else "the fault never fired"
        for verdict in ("inconclusive", "unsupported"):
            found = [c for c, row in rows.items() if row["verdict"] == verdict]
            if found and (verdict == "inconclusive" or len(found) == len(rows)):
                return verdict, f"{found[0]}: {rows[found[0]]['reason']}"
        return "pass", ""

    def _figures(self) -> dict[str, int]:
        first = self.clauses[:1]
        primary = [t.judged[c] for t in self.trials for c in first if c in t.judged]
        figures: dict[str, int] = {}
        for one in primary:
            for name, value in one.figures.items():
                figures[name] = figures.get(name, 0) + value
        return figures

    def _witnesses(self) -> list[dict[str, Any]]:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for trial in self.trials:
            for clause, judgement in trial.judged.items():
                shapes = {v.shape: v for v in reversed(judgement.violations)}
                for shape, violation in shapes.items():
                    mine = found.setdefault((clause, shape), _witness(clause, violation, trial))
                    mine["violations"] += 1
        for (clause, _), mine in found.items():
            mine["exercised"] = sum(
                t.judged[clause].verdict in ("holds", "violated")
                for t in self.trials
                if clause in t.judged
            )
        return list(found.values())


def _witness(clause: str, violation: Violation, trial: Trial) -> dict[str, Any]:
    began_s = trial.entries[0].at_s if trial.entries else 0.0
    journal = [
        [round(e.at_s - began_s, 4), e.run, e.stage, e.kind, e.detail]
        for e in trial.entries[:JOURNAL_MAX]
    ]
    return {
        "clause": clause,
        "shape": violation.shape,
        "severity": CLAUSES[clause].severity,
        "stage": violation.stage,
        "expected": violation.expected,
        "actual": f"{violation.actual} ({trial.note})" if trial.note else violation.actual,
        "location": violation.location,
        "figures": dict(violation.figures),
        "violations": 0,
        "exercised": 0,
        "first_seed": trial.seed,
        "seed": trial.seed,
        "tape": {},
        "program": trial.program,
        "plan": trial.plan,
        "journal": journal,
        "at": [i for i in violation.at if i < JOURNAL_MAX],
        "token": "",
    }


def _blank(tally: Tally, seed: int) -> dict[str, Any]:
    return {
        "virtual_s": 0.0,
        "missing": {},
        "runs_asked": 0,  # trials are drawn anew; a seed does not give the same again
        "pack": "faults",
        "scenario": f"faults/{tally.fault}",
        "title": tally.title,
        "purpose": tally.purpose,
        "category": "chaos",
        "tests": [],
        "clauses_judged": list(tally.clauses),
        "lab": "live",
        "seed": seed,
        "token": "",
    }


def unsupported_row(
    tally: Tally, seed: int, reason: str, missing: Mapping[str, str]
) -> dict[str, Any]:
    """Return the row of a fault that an engine cannot be put through, and why."""
    said = {c: w or f"not offered: {CAPABILITIES.get(c, c)}" for c, w in missing.items()}
    blank = tally.row({"capabilities": [], "semantics": {}}, seed, 0.0)
    return blank | {"verdict": "unsupported", "reason": reason, "missing": said, "clauses": {}}
