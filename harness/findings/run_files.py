"""The run directory's data files: results.jsonl, findings.json, by kind, and metrics.csv.

Where the order tier was run, notes.json as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.contract.clause import Clause
from harness.findings.build import findings_of
from harness.findings.campaign import Campaign, Row
from harness.findings.conformance import CELL_RULE, clause_rows, conformance
from harness.findings.executive import executive
from harness.findings.files import write_whole
from harness.findings.finding import Finding
from harness.findings.metrics import metrics_page
from harness.findings.mission import engine_rows, mission_reports, totals
from harness.findings.plain import plain, to_page
from harness.findings.results import note_rows, results_page, sorted_units
from harness.findings.schema import SCHEMA_VERSION, faults_of
from harness.findings.tiers import tier_reports

__all__ = ["BY_KIND", "document_of", "write_run_files"]

BY_KIND = {
    "bug": "bugs.json",
    "dx": "dx.json",
    "improvement": "improvements.json",
    "strength": "strengths.json",
}


def document_of(
    campaign: Campaign,
    findings: Sequence[Finding],
    scenarios: Sequence[Row],
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the whole of findings.json as plain data."""
    missions = mission_reports(campaign, findings, scenarios)
    clauses = clause_rows(campaign, findings)
    matrix = conformance(campaign, findings, clauses)
    status = str(metadata.get("status", ""))
    document: dict[str, Any] = plain(
        {
            "schema_version": SCHEMA_VERSION,
            "metadata": {
                "run": metadata,
                "engines": engine_rows(campaign),
                "totals": totals(campaign, findings),
                "missions": missions,
                "clauses": clauses,
                "conformance": {"rule": CELL_RULE, "rows": matrix},
                "tiers": tier_reports(campaign, findings, missions, clauses),
                "executive": executive(campaign, findings, missions, matrix=matrix, status=status),
            },
            "findings": [finding.to_json() for finding in findings],
        }
    )
    return document


def write_run_files(  # noqa: PLR0917 (one argument per thing that a campaign hands over)
    run_dir: Path | str,
    units: Sequence[Row],
    engines: Sequence[Row],
    missions: Sequence[Row],
    scenarios: Sequence[Row],
    clauses: Mapping[str, Clause],
    confirmations: Mapping[str, Row],
    metadata: Mapping[str, Any],
    standing: Mapping[str, Row] | None = None,
    smallest: Mapping[str, Row] | None = None,
) -> list[Path]:
    """Write a run's data files, each whole or not at all, and return their paths.

    Args:
        scenarios: as plain data, in report order; results.jsonl keeps this order.
        metadata: what run.json holds: run_id, seed, profile, started_at, status, and so on.
        standing: fingerprint -> id, status and dates, from the registry or a baseline.
        smallest: as `build_findings` takes it.

    Raises:
        ValueError: if the findings do not obey the published schema; nothing is written then.
    """
    folder = Path(run_dir)
    ordered = sorted_units(units, [s["id"] for s in scenarios])
    campaign = Campaign(
        ordered,
        engines,
        clauses,
        missions,
        confirmations,
        seen=str(metadata.get("run_id", "")),
        python_version=str(metadata.get("python_version", "")),
        standing=standing or {},
        smallest=smallest or {},
    )
    findings = findings_of(campaign)
    document = document_of(campaign, findings, scenarios, metadata)
    faults = faults_of(document)
    if faults:
        raise ValueError(
            f"findings.json would not obey its schema ({len(faults)} faults): {faults[0]}; "
            "this is dagstorm's own fault, please report it"
        )
    written = [
        write_whole(folder / "results.jsonl", results_page(ordered)),
        write_whole(folder / "findings.json", to_page(document)),
        write_whole(folder / "metrics.csv", metrics_page(ordered)),
    ]
    notes = note_rows(ordered)
    if notes is not None:
        page = to_page({"schema_version": SCHEMA_VERSION, "notes": notes})
        written.append(write_whole(folder / "notes.json", page))
    for kind, name in BY_KIND.items():
        entries = [f for f in document["findings"] if f["kind"] == kind]
        page = to_page({"schema_version": SCHEMA_VERSION, "findings": entries})
        written.append(write_whole(folder / name, page))
    return written
