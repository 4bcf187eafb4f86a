"""Findings: what a campaign learned, as data; every report is rendered from it."""

from __future__ import annotations

from harness.findings.bugs import clearest_witnesses
from harness.findings.build import build_findings, findings_of
from harness.findings.campaign import Campaign
from harness.findings.files import write_whole
from harness.findings.finding import Finding
from harness.findings.fingerprint import fingerprint
from harness.findings.results import note_rows
from harness.findings.run_files import write_run_files
from harness.findings.schema import faults_of, schema
from harness.findings.sights import witnesses_to_confirm
from harness.findings.versions import version_tables

__all__ = [
    "Campaign",
    "Finding",
    "build_findings",
    "clearest_witnesses",
    "faults_of",
    "findings_of",
    "fingerprint",
    "note_rows",
    "schema",
    "version_tables",
    "witnesses_to_confirm",
    "write_run_files",
    "write_whole",
]
