"""`dagstorm bisect`: the verdict on every released version, and where it changed.

Despite its name it halves nothing: defects come, go and come back, so every version is
judged. That costs seconds a version, and no verdict is inferred.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.commands.progress import Progress
from harness.commands.words import (
    Once,
    data_of,
    finding_of,
    known,
    positive,
    run_folder,
    to_stderr,
    whole,
)
from harness.contract.clauses import CLAUSES
from harness.contract.scenario import Scenario
from harness.engine.broken import CATALOGUE
from harness.findings.versions import changes_of
from harness.kernel.errors import InputError
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.lab.campaign import PROFILES, Campaign, Engine
from harness.lab.engines import parse_engines
from harness.lab.replay import case_of, replay
from harness.lab.token import decode
from scenarios import scenarios

__all__ = ["add"]

OWN = "own/bisected"
# Undecided verdicts, the more telling first.
_UNDECIDED = ("blocked", "inconclusive", "unsupported", "error")


def add(commands: Any) -> None:
    """Add this module's commands to the parser."""
    one = commands.add_parser("bisect", help="the verdict on every release, where it changed")
    one.add_argument("what", metavar="CLAUSE|FINDING-ID")
    one.add_argument(
        "--engine", action=Once, metavar="NAME", help="for a clause; a finding names its own"
    )
    one.add_argument("--versions", default="all", metavar="FIRST..LAST", help="default: all")
    one.add_argument("--run", metavar="DIR", help="where the finding is")
    one.add_argument("--runs", type=positive, default=PROFILES["default"], help="per scenario")
    one.add_argument("--seed", type=whole, default=1)
    one.add_argument("--workers", type=positive, default=os.cpu_count() or 1)
    one.add_argument("--json", action="store_true")
    one.add_argument("--quiet", action="store_true")
    one.set_defaults(do=_bisect)


def _bisect(options: argparse.Namespace) -> int:
    finding = None
    if options.what.upper() in CLAUSES:
        clause, name = options.what.upper(), options.engine
        if not name:
            raise InputError(f"bisect {clause}: name the engine by --engine")
        chosen = [s for s in scenarios().values() if s.clauses[0] == clause]
    elif "-" in options.what and options.what.split("-")[0].upper() in ("BUG", "DX"):
        folder = run_folder(options.run)
        finding = finding_of(folder, options.what.upper())
        with data_of(folder / "findings.json"):
            clause, name = str(finding["clause"]), str(options.engine or finding["engine"])
            if clause not in CLAUSES:
                raise InputError(
                    f"{finding['id']}: found by a probe of the installed engine; "
                    "there is no run of it to repeat on other versions"
                )
            chosen = _scenarios_of(finding)
    else:
        raise InputError(
            f"bisect {options.what!r}: expected a finding's id such as BUG-001, or a clause; "
            f"{_hint(options.what)}"
        )
    if "@" in name:
        raise InputError(f"--engine {name}: leave the version out; --versions FIRST..LAST narrows")
    engines = [Engine(ref) for ref in parse_engines(f"{name}@{options.versions}", CATALOGUE)]
    progress = Progress(options.quiet)
    with tempfile.TemporaryDirectory(prefix="dagstorm-") as scratch:
        campaign = Campaign(
            Path(scratch),
            engines,
            chosen,
            seed=options.seed,
            runs=options.runs,
            workers=options.workers,
            report=progress.unit,
        )
        campaign.prepare(progress.say)
        campaign.run()
    cells = [_cell(engine, clause, finding, campaign.units) for engine in engines]
    if options.json:
        data = {
            "what": options.what,
            "clause": clause,
            "engine": name,
            "scenarios": [s.id for s in chosen],
            "versions": cells,
            "changes": changes_of(cells),
        }
        print(json.dumps(data, indent=1))
    else:
        _print(options, clause, name, chosen, cells)
    return 0


def _hint(what: str) -> str:
    try:
        known("clause", what, CLAUSES)
    except InputError as exc:
        return str(exc)
    return ""


def _scenarios_of(finding: Mapping[str, Any]) -> list[Scenario]:
    """Return the scenarios that showed a finding; for a search's, its smallest program."""
    every = scenarios()
    named = [every[s] for s in finding["scenarios"] if s in every]
    if named:
        return named
    found = finding["reproduction"]
    if not found.get("program"):
        raise InputError(f"{finding['id']}: it has no program that could be run on other versions")
    return [
        Scenario(
            id=OWN,
            title=finding["title"],
            program=Program.from_json(found["program"]),
            plan=Plan.from_json(found["plan"]),
            clauses=(finding["clause"],),
            purpose="What a search found.",
        )
    ]


def _cell(
    engine: Engine,
    clause: str,
    finding: Mapping[str, Any] | None,
    units: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the verdict on one version, and which scenarios gave it."""
    mine = [u for u in units if (u["engine"], u["engine_version"]) == engine.key]
    rows = {u["scenario"]: u["clauses"].get(clause, {"verdict": u["verdict"]}) for u in mine}
    failing = sorted(s for s, row in rows.items() if row["verdict"] in ("fail", "note"))
    verdicts = {row["verdict"] for row in rows.values()}
    verdict = "pass" if "pass" in verdicts else next((v for v in _UNDECIDED if v in verdicts), "")
    if failing:
        verdict = "fail"
        if finding is not None:
            shapes = {w["shape"] for u in mine for w in u["witnesses"] if w["clause"] == clause}
            verdict = "fail" if _shape(finding) in shapes else "otherwise"
    if finding is not None and verdict != "fail" and OWN in rows and not engine.fault:
        # The schedule that showed it may be one in thousands: try that one, too.
        token = decode(finding["reproduction"]["token"])
        done = replay(token, case_of(token, {}), engine.ref, to_stderr)
        if any(v["clause"] == clause for v in done.violations):
            verdict = "fail"
            failing = [OWN]
    return {
        "version": engine.ref.version,
        "verdict": verdict or "error",
        "violations": sum(row.get("violations", 0) for row in rows.values()),
        "exercised": sum(row.get("exercised", 0) for row in rows.values()),
        "failing": failing,
        "reason": engine.fault or _reason(mine, verdict),
    }


def _shape(finding: Mapping[str, Any]) -> str:
    return str(finding.get("shape", ""))


def _reason(units: Sequence[Mapping[str, Any]], verdict: str) -> str:
    if verdict in _UNDECIDED:
        return next((str(u["reason"]) for u in units if u["reason"]), "")
    return ""


def _print(
    options: argparse.Namespace,
    clause: str,
    name: str,
    chosen: Sequence[Scenario],
    cells: Sequence[Mapping[str, Any]],
) -> None:
    what = clause if options.what.upper() == clause else f"{options.what.upper()} ({clause})"
    print(f"{what} on {name}: {len(cells)} versions, {len(chosen)} scenarios")
    for cell in cells:
        line = f"{cell['version']:<10} {cell['verdict']:<13}"
        if cell["exercised"]:
            line += f" violated in {cell['violations']} of {cell['exercised']} runs"
        if cell["failing"]:
            more = len(cell["failing"]) - 2
            line += f": {', '.join(cell['failing'][:2])}" + (
                f" and {more} more" if more > 0 else ""
            )
        elif cell["reason"]:
            line += f" {cell['reason']}"
        print(line.rstrip())
    changes = changes_of(cells)
    for change in changes:
        print(f"changed with {change['version']}: {change['from']} -> {change['to']}")
    if not changes:
        print("no change between the versions that were decided")
