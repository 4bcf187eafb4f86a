"""What a campaign comes to, once its units are run: proofs, findings, gate, reports."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from harness import findings, report
from harness.commands.books import Books, left_of, summary_of
from harness.commands.gate import decide
from harness.commands.progress import Progress
from harness.commands.proofs import proved, shrunk
from harness.contract.clauses import CLAUSES
from harness.findings.changes import Changes, changes_page
from harness.findings.thresholds import hold
from harness.lab.campaign import Campaign
from harness.lab.conclude import write_json
from harness.lab.pool import Pool
from harness.lab.traces import write_traces
from harness.lab.unit_rows import scenario_data
from harness.lab.watching import Watching
from scenarios import missions

__all__ = ["Concluded", "conclude"]


class Measured(NamedTuple):
    """What was measured of the processes: their samples, and a row of growth for each engine."""

    watching: Watching
    growth: list[dict[str, Any]]


class Concluded(NamedTuple):
    """A run's findings in their order, what it changed, the gate's verdict, its own summary."""

    found: list[dict[str, Any]]
    changes: Changes
    against: str | None
    gate: dict[str, Any]
    summary: dict[str, Any]


def conclude(  # noqa: PLR0917 (all that a campaign comes to)
    options: argparse.Namespace,
    books: Books,
    folder: Path,
    campaign: Campaign,
    metadata: dict[str, Any],
    progress: Progress,
    processes: Measured,
    proofs_until: float | None,
) -> Concluded:
    """Write findings and reports of what was run."""
    units = campaign.units
    engines = [e.description() for e in campaign.engines]
    mine = {s.id for s in campaign.scenarios}
    plain_missions = [
        dataclasses.asdict(m) for m in missions().values() if mine & set(m.tests.values())
    ]
    plain_scenarios = [
        {
            **scenario_data(s),
            **{k: getattr(s, k) for k in ("pack", "title", "purpose", "category", "tests")},
        }
        for s in campaign.scenarios
    ]
    measured = findings.Campaign(units, engines, CLAUSES, plain_missions, seen=metadata["run_id"])
    with Pool(campaign.workers, processes.watching.worker) as pool:
        if metadata["status"] == "completed":
            measured = shrunk(
                measured, campaign, metadata, progress, pool=pool, deadline=proofs_until
            )
        entries = [f.to_json() for f in findings.findings_of(measured)]
        ids = books.take(entries, metadata["completed_at"])
        if metadata["status"] == "completed" and not options.no_confirm:
            measured = proved(
                measured, campaign, ids, metadata, progress, pool=pool, deadline=proofs_until
            )
            entries = [f.to_json() for f in findings.findings_of(measured)]
    standing, changes = books.judge(entries, ids, units, engines)
    totals = Counter(u["verdict"] for u in units)
    metadata["totals"] = dict(sorted(totals.items()))
    shown = {k: v for k, v in metadata.items() if k not in ("request", "work")}
    findings.write_run_files(
        folder,
        units,
        engines,
        plain_missions,
        plain_scenarios,
        CLAUSES,
        measured.confirmations,
        shown,
        standing,
        measured.smallest,
    )
    document = json.loads((folder / "findings.json").read_text("utf-8"))
    found: list[dict[str, Any]] = document["findings"]
    gate = decide(
        options.fail_on,
        found,
        changes_page(changes, books.against),
        hold(options.thresholds, units, processes.growth),
        changes.expired,
    )
    metadata["gate"] = gate
    write_json(folder / "run.json", metadata)
    repeat = {"work": metadata["work"], "left_out": left_of(campaign)}
    summary = summary_of(metadata, units, engines, found, changes, repeat)
    books.write(folder, changes, summary)
    told = findings.clearest_witnesses(measured)
    write_traces(folder, [f for f in found if f["kind"] == "bug"], told)
    processes.watching.write(folder, processes.growth)
    report.render_run(folder)
    try:
        report.append_job_summary(folder, os.environ)
    except OSError as exc:
        progress.say(f"the job's summary page was not written: {exc}")
    return Concluded(found, changes, books.against, gate, summary)
