"""Each finding's and each claim's verdict on every version of an engine that a run had.

No order is assumed: a defect may come, go and come back, so every version is judged and
nothing is inferred from its neighbours. A cell says

- `fail`: this very finding (by its fingerprint) was seen on this version;
- `otherwise`: its clause was violated in the same scenarios, but in another way;
- `pass`, `blocked`, `inconclusive`, `unsupported`, `error`: what the scenarios in which the
  finding was seen came to on this version, the first of these that any of them has;
- `not run`: none of them was run on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from harness.findings.campaign import Row
from harness.findings.order import by_version

__all__ = ["CELLS", "changes_of", "version_tables"]

CELLS = (
    "fail",
    "otherwise",
    "pass",
    "blocked",
    "inconclusive",
    "unsupported",
    "error",
    "not run",
)
_DECIDED = ("fail", "otherwise", "pass")


def version_tables(document: Row, results: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one table for each engine that the run had in two versions or more.

    Args:
        document: what findings.json holds.
        results: the rows of results.jsonl.
    """
    versions: dict[str, list[str]] = {}
    for engine in document["metadata"]["engines"]:
        versions.setdefault(engine["name"], []).append(engine["version"])
    return [
        {
            "engine": name,
            "versions": sorted(found, key=by_version),
            "findings": _finding_rows(name, sorted(found, key=by_version), document, results),
            "claims": _claim_rows(name, sorted(found, key=by_version), document),
        }
        for name, found in sorted(versions.items())
        if len(found) > 1
    ]


def changes_of(cells: Iterable[Row]) -> list[dict[str, str]]:
    """Return where the verdict changed between versions that were decided, in their order."""
    decided = [c for c in cells if c["verdict"] in _DECIDED]
    return [
        {"version": new["version"], "from": old["verdict"], "to": new["verdict"]}
        for old, new in pairwise(decided)
        if old["verdict"] != new["verdict"]
    ]


def _finding_rows(
    engine: str, versions: Sequence[str], document: Row, results: Sequence[Row]
) -> list[dict[str, Any]]:
    mine = {
        v: [r for r in results if (r["engine"], r["engine_version"]) == (engine, v)]
        for v in versions
    }
    rows = []
    for finding in document["findings"]:
        if finding["engine"] != engine or finding["kind"] not in ("bug", "dx"):
            continue
        if not finding["clause"]:
            continue  # read off the engine's interface: no run of it was judged
        cells = [_cell(finding, version, mine[version]) for version in versions]
        changes = changes_of(cells)
        rows.append(
            {
                **{k: finding[k] for k in ("id", "kind", "clause", "severity", "title")},
                "cells": cells,
                "changes": changes,
                "says": _says(cells, changes),
            }
        )
    return rows


def _cell(finding: Row, version: str, results: Sequence[Row]) -> dict[str, Any]:
    seen = [m for m in finding["evidence"]["measured"] if m["engine_version"] == version]
    violations = sum(m["violations"] for m in seen)
    if violations:
        exercised = sum(m["exercised"] for m in seen)
        cell = {"verdict": "fail", "violations": violations, "exercised": exercised}
        return {"version": version, **cell}
    scenarios = {m["scenario"] for m in finding["evidence"]["measured"]}
    # A swarm makes other programs each time: that it saw nothing says nothing of this finding.
    rows = [
        r["clauses"].get(finding["clause"], {"verdict": r["verdict"]})
        for r in results
        if r["scenario"] in scenarios and not r["scenario"].startswith("search/swarm-")
    ]
    verdicts = {"otherwise" if r["verdict"] in ("fail", "note") else r["verdict"] for r in rows}
    found = next((c for c in CELLS if c in verdicts), "not run")
    return {
        "version": version,
        "verdict": found,
        "violations": sum(r.get("violations", 0) for r in rows),
        "exercised": sum(r.get("exercised", 0) for r in rows),
    }


def _says(cells: Sequence[Row], changes: Sequence[Row]) -> str:
    """Say in words where the finding came and went."""
    failing = [c["version"] for c in cells if c["verdict"] == "fail"]
    decided = [c["version"] for c in cells if c["verdict"] in _DECIDED]
    if not failing:
        return "seen on none of these versions"
    came = [c["version"] for c in changes if c["to"] == "fail"]
    went = [c["version"] for c in changes if c["from"] == "fail"]
    if not came and not went:
        every = "every" if len(decided) == len(cells) else "every decided"
        return f"on {every} version, {failing[0]} to {failing[-1]}"
    parts = [] if came and came[0] == failing[0] else [f"there from {failing[0]}, the first"]
    parts += [f"came with {v}" for v in came]
    parts += [f"gone with {v}" for v in went]
    return ", ".join(parts)


def _claim_rows(engine: str, versions: Sequence[str], document: Row) -> list[dict[str, Any]]:
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for mission in document["metadata"]["missions"]:
        for chapter in mission["chapters"]:
            if chapter["engine"] != engine:
                continue
            for claim in chapter["claims"]:
                row = rows.setdefault(
                    (mission["id"], claim["id"]),
                    {"mission": mission["id"], "id": claim["id"], "says": claim["says"]},
                )
                row[chapter["engine_version"]] = claim["verdict"]
    return [
        {
            **{k: row[k] for k in ("mission", "id", "says")},
            "cells": [{"version": v, "verdict": row.get(v, "not run")} for v in versions],
        }
        for row in rows.values()
    ]
