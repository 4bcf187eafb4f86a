"""What a command of the live laboratory measured, told as a campaign's: findings, books, gate.

`dagstorm faults` and `dagstorm load` judge in their own ways; what they come to are unit rows
as any scenario's, and from there on all is the same: files, schema, registry, reports.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness import findings, report
from harness.commands.books import Books, summary_of
from harness.commands.gate import decide
from harness.commands.words import RUNS_FOLDER, to_stderr, writable
from harness.contract.clause import Clause
from harness.findings.changes import Changes, changes_page
from harness.findings.known import counts
from harness.kernel.errors import InputError
from harness.lab.conclude import write_json

__all__ = ["Measured", "begun", "bug_lines", "measured"]

Row = Mapping[str, Any]


class Measured(NamedTuple):
    """A run's findings in their order, what it changed, the gate's verdict, its own summary."""

    found: list[dict[str, Any]]
    changes: Changes
    gate: dict[str, Any]
    summary: dict[str, Any]


def begun(
    options: argparse.Namespace, books: Books, name: str, started: time.struct_time
) -> tuple[str, str, Path]:
    """Return the run's id, when it began, and its folder, which is empty.

    Raises:
        InputError: if the folder cannot be written, which leaves no trace in the registry, or if
            the registry is none.
    """
    folder = _folder(Path(options.out)) if options.out else None
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", started)
    wanted = f"{time.strftime('%Y%m%d-%H%M%S', started)}-{name}-{options.seed}"
    try:
        run_id = books.begin(wanted, at)
    except InputError:
        if folder is not None:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return run_id, at, folder or _folder(RUNS_FOLDER / run_id)


def _folder(folder: Path) -> Path:
    writable(folder)
    if any(folder.iterdir()):
        raise InputError(f"--out {folder}: exists and is not empty; name another folder")
    return folder


def measured(  # noqa: PLR0917 (all that a run comes to)
    options: argparse.Namespace,
    books: Books,
    folder: Path,
    units: Sequence[Row],
    engines: Sequence[Row],
    clauses: Mapping[str, Clause],
    metadata: dict[str, Any],
    note: str,
) -> Measured:
    """Write the run's files; its totals and its gate are put into `metadata`, and run.json.

    Args:
        engines: the engines' descriptions.
        note: said of each defect: how it was seen, and how to see it again.
    """
    metadata["totals"] = _totals(units)
    about = findings.Campaign(units, engines, clauses, seen=metadata["run_id"])
    entries = [f.to_json() for f in findings.findings_of(about)]
    ids = books.take(entries, str(metadata["completed_at"]))
    standing, changes = books.judge(entries, ids, units, engines)
    confirmations = {
        e["fingerprint"]: {"confirmation": "live_only", "confirmation_note": note}
        for e in entries
        if counts(e["kind"], e["clause"])
    }
    findings.write_run_files(
        folder,
        units,
        engines,
        [],
        _scenarios(units),
        clauses,
        confirmations,
        metadata,
        standing,
    )
    found: list[dict[str, Any]] = json.loads((folder / "findings.json").read_text("utf-8"))[
        "findings"
    ]
    gate = decide(options.fail_on, found, changes_page(changes, books.against), (), changes.expired)
    metadata["gate"] = gate
    write_json(folder / "run.json", metadata)
    repeat = {"work": "", "left_out": []}
    summary = summary_of(metadata, units, engines, found, changes, repeat)
    books.write(folder, changes, summary)
    report.render_run(folder)
    try:
        report.append_job_summary(folder, os.environ)
    except OSError as exc:
        to_stderr(f"the job's summary page was not written: {exc}")
    return Measured(found, changes, gate, summary)


def _totals(units: Sequence[Row]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for unit in sorted(units, key=lambda u: u["verdict"]):
        totals[unit["verdict"]] = totals.get(unit["verdict"], 0) + 1
    return totals


def _scenarios(units: Sequence[Row]) -> list[dict[str, Any]]:
    return list(
        {
            u["scenario"]: {
                "id": u["scenario"],
                "clauses": u["clauses_judged"],
                **{k: u[k] for k in ("program", "plan", "pack", "title", "purpose")},
                "category": u["category"],
                "tests": u["tests"],
                "sweep": "",
                "fires": [],
            }
            for u in units
        }.values()
    )


def bug_lines(done: Measured, against: str | None) -> list[str]:
    """Return a line for each bug, with what the registry or the baseline says of it."""
    marks = done.changes.marks if against else {}
    waived = {one["id"] for one in done.changes.waived}
    lines = []
    for bug in done.found:
        if not counts(bug["kind"], bug["clause"]):
            continue
        mark = marks.get(bug["fingerprint"], "unchanged")
        said = "waived" if bug["id"] in waived else mark if mark != "unchanged" else ""
        lines.append(
            f"{bug['id']}  {bug['severity']:<8}  {bug['clause']:<9} {bug['title']} "
            f"[{bug['engine']}] ({bug['confirmation']}) {said}".rstrip()
        )
    return lines
