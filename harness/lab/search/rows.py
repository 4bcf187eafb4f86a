"""What a search found, as plain data in the shape of a scenario's result.

So findings, reports, shrinking and replays treat it as they treat the hand-written packs; only
that each witness brings a program of its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.contract.clause import Clause
from harness.contract.clauses import CLAUSES
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.plan import Cancel
from harness.lab.search.coverage import SITUATIONS
from harness.lab.search.finder import Finder, Found
from harness.lab.search.shrink import key_of
from harness.lab.standalone import script_of

__all__ = ["unit_row", "witness_row"]

WITNESS_JOURNAL_MAX = 150


def witness_row(one: Found, exercised: int, lab: Laboratory) -> dict[str, Any]:
    """Return one kind of violation with the run that shows it."""
    violation, record = one.violation, one.record
    plan = one.plan
    if one.cancel_point is not None:
        point = one.cancel_point
        plan = dataclasses.replace(plan, cancels=tuple(_at(c, point) for c in plan.cancels))
    rows = record.journal.to_json()
    settled = one.program.with_durations(record.chosen)
    script, _ = script_of(lab.adapter, one.clause, settled, plan, violation.shape)
    return {
        "clause": one.clause.id,
        "shape": violation.shape,
        "severity": one.clause.severity,
        "stage": violation.stage,
        "expected": violation.expected,
        "actual": violation.actual,
        "location": violation.location,
        "figures": dict(violation.figures),
        "violations": one.runs,
        "exercised": exercised,
        "first_seed": one.first_seed,
        "seed": record.seed,
        # The point at which a cancel landed stands in the plan.
        "tape": {k: v for k, v in record.tape.items() if k != "points"},
        "program": one.program.to_json(),
        "plan": plan.to_json(),
        "journal": rows[:WITNESS_JOURNAL_MAX],
        "journal_cut": max(0, len(rows) - WITNESS_JOURNAL_MAX),
        "at": [i for i in violation.at if i >= 0],
        "digest": digest(record),
        "nondeterministic": one.nondeterministic,
        "judged": True,
        "scripted": script is not None,
        "key": list(key_of(one.clause.id, violation.shape, violation.location)),
        "label": one.label,
    }


def _at(cancel: Cancel, point: int) -> Cancel:
    return cancel if cancel.at_point is None else dataclasses.replace(cancel, at_point=point)


def unit_row(finder: Finder) -> dict[str, Any]:
    """Return a search's result; every clause that any run put to the test has a row."""
    finder.confirm_replays()
    rows = {c.id: _clause_row(finder, c) for c in CLAUSES.values()}
    failing = [c for c, row in rows.items() if row["verdict"] == "fail"]
    # What no run of a search put to the test is no news; a check that crashed is.
    crashed = [c for c, t in finder.tallies.items() if t.crashed]
    if failing:
        verdict, reason = "fail", f"{', '.join(failing)} violated"
    elif crashed:
        verdict, reason = "inconclusive", finder.tallies[crashed[0]].crashed
    elif not any(row["exercised"] for row in rows.values()):
        verdict, reason = "inconclusive", "nothing was judged"
    else:
        verdict, reason = "pass", ""
    seen = {name: finder.seen[name] for name in SITUATIONS}
    return {
        "verdict": verdict,
        "reason": reason,
        "runs": finder.runs,
        "violations": finder.violating,
        "first_seed": finder.first_seed,
        "virtual_s": round(finder.virtual_s / max(1, finder.runs), 6),
        "clauses": rows,
        "figures": {
            "programs": finder.programs,
            "situations_seen": sum(1 for count in seen.values() if count),
            "situations": len(seen),
            "not_healed": finder.unhealed,
            "relations_tried_on": finder.related,
            "relations_broken": len(finder.notes),
        },
        "witnesses": [
            witness_row(one, finder.tallies[one.clause.id].exercised, finder.lab)
            for one in finder.found.values()
        ],
        "missing": {},
        "samples": [],
        "situations": seen,
        "relations": finder.notes,
    }


def _clause_row(finder: Finder, clause: Clause) -> dict[str, Any]:
    tally = finder.tallies.get(clause.id)
    lacks = sorted(clause.needs - finder.lab.info.capabilities)
    mine = [one for one in finder.found.values() if one.clause is clause]
    verdict, reason = "pass", ""
    if lacks:
        verdict, reason = "unsupported", f"needs {', '.join(lacks)}"
    elif tally is None:
        verdict, reason = "inconclusive", "no run put it to the test"
    elif tally.violations and clause.id in finder.lab.info.semantics:
        verdict, reason = "note", finder.lab.info.semantics[clause.id]
    elif tally.violations and all(one.nondeterministic for one in mine):
        verdict, reason = "inconclusive", "the runs that violate it do not replay alike"
    elif tally.violations:
        verdict = "fail"
    elif tally.crashed:
        verdict, reason = "inconclusive", tally.crashed
    elif not tally.exercised:
        verdict, reason = "inconclusive", "no run put it to the test"
    return {
        "verdict": verdict,
        "reason": reason,
        "blocked_by": "",
        "runs": finder.runs,
        "exercised": 0 if tally is None else tally.exercised,
        "violations": 0 if tally is None else tally.violations,
        "figures": {} if tally is None else tally.figures,
    }
