"""What `dagstorm run` prints when it is done."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from harness import findings
from harness.commands.conclusion import Concluded
from harness.commands.gate import gate_lines
from harness.commands.notes import note_lines
from harness.findings.changes import changes_page
from harness.findings.known import counts
from harness.lab.campaign import Campaign

__all__ = ["print_summary"]

RESOLVED_SHOWN_MAX = 20


def print_summary(
    options: argparse.Namespace, folder: Path, campaign: Campaign, concluded: Concluded
) -> None:
    found, changes = concluded.found, concluded.changes
    if options.json:
        data = {
            "run": str(folder),
            "verdicts": {
                e.ref.label: dict(
                    Counter(
                        u["verdict"]
                        for u in campaign.units
                        if (u["engine"], u["engine_version"]) == e.key
                    )
                )
                for e in campaign.engines
            },
            "bugs": [
                {k: b[k] for k in ("id", "clause", "severity", "title", "engine", "confirmation")}
                for b in found
                if b["kind"] == "bug"
            ],
            "left_out": campaign.left_out,
            "changes": changes_page(changes, concluded.against),
            "gate": concluded.gate,
        }
        notes = findings.note_rows(campaign.units)
        if notes is not None:
            data["notes"] = notes
        print(json.dumps(data, indent=1))
        return
    for engine in campaign.engines:
        mine = [u for u in campaign.units if (u["engine"], u["engine_version"]) == engine.key]
        counted = Counter(u["verdict"] for u in mine)
        words = ", ".join(f"{n} {v}" for v, n in sorted(counted.items()))
        runs = sum(u["runs"] for u in mine)
        print(f"{engine.ref.label}: {words} ({runs} runs)")
        if engine.fault:
            print(f"  could not be run: {engine.fault}")
    marks = changes.marks if concluded.against else {}
    waived = {one["id"] for one in changes.waived}
    for bug in found:
        if not counts(bug["kind"], bug["clause"]):
            continue
        where = f"{bug['engine']} {', '.join(v for v in bug['engine_versions'] if v)}".strip()
        mark = marks.get(bug["fingerprint"], "unchanged")
        said = "waived" if bug["id"] in waived else mark if mark != "unchanged" else ""
        line = (
            f"{bug['id']}  {bug['severity']:<8}  {bug['clause']:<9} {bug['title']} "
            f"[{where}] ({bug['confirmation']}) {said}"
        )
        print(line.rstrip())
    for line in note_lines(campaign.units):
        print(line)
    for one in changes.resolved[:RESOLVED_SHOWN_MAX]:
        where = f"{one['engine']} {', '.join(v for v in one['versions'] if v)}".strip()
        print(f"{one['id']}  resolved  {one['clause']:<9} {one['title']} [{where}]")
    if len(changes.resolved) > RESOLVED_SHOWN_MAX:
        print(f"and {len(changes.resolved) - RESOLVED_SHOWN_MAX} more resolved: see changes.json")
    if campaign.not_live:
        print(f"{len(campaign.not_live)} scenarios are not for the live laboratory; see run.json")
    if campaign.left_out:
        print(f"the budget left out {campaign.left_out} scenarios")
    for line in gate_lines(concluded.gate):
        print(line)
    print(f"reports: {folder}/index.html, {folder}/executive.md, {folder}/missions")
    print(f"findings: {folder}/findings.json")
