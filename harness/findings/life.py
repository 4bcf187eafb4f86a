"""A run's findings written into what is known of them: sightings, states, failing runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from harness.findings.absence import REPLAY, SEARCHED
from harness.findings.campaign import Row, engine_label
from harness.findings.changes import Changes, Measured
from harness.findings.known import Known, Life, Seed, Sight, shortest

__all__ = ["drop_pictures", "first_sight", "live_on"]


def drop_pictures(entry: Row) -> dict[str, Any]:
    """Return a finding without what a run directory keeps: pictures, journals, row by row."""
    slim = dict(entry)
    slim["evidence"] = {
        k: v for k, v in entry["evidence"].items() if k not in ("measured", "proof", "witness")
    }
    if entry.get("reproduction"):
        slim["reproduction"] = {
            k: v for k, v in entry["reproduction"].items() if k not in ("diagram", "timeline")
        }
    return slim


def first_sight(entry: Row, name: str, run: str, at: str) -> Known:
    """Return a finding that no run has told of yet."""
    return Known(
        fingerprint=entry["fingerprint"],
        id=name,
        kind=entry["kind"],
        engine=entry["engine"],
        clause=entry["clause"],
        severity=entry["severity"],
        title=entry["title"],
        first_seen=run,
        first_at=at,
        last_seen=run,
        last_at=at,
        entry={**drop_pictures(entry), "id": name},
    )


def live_on(
    known: Mapping[str, Known],
    measured: Measured,
    changes: Changes,
    *,
    run: str,
    at: str,
    profile: str,
    today: date,
) -> list[Known]:
    """Write a run into what is known, and return what it touched.

    Args:
        known: fingerprint -> finding; holds every finding of the run.
        at: when the run ended, as the log tells it.
    """
    rows = measured.by_version
    touched: dict[str, Known] = {}
    for entry in measured.findings:
        one = known[entry["fingerprint"]]
        touched[one.fingerprint] = one
        _seen(one, entry, rows, changes, run=run, at=at, profile=profile)
        decision = one.decision
        if decision is not None and not decision.holds(today):
            one.decision = type(decision)(
                decision.kind, decision.reason, decision.until, decision.since, told=True
            )
    for (mark, version), state in changes.moves.items():
        if state in ("resolved", "clean"):
            one = known[mark]
            touched[mark] = one
            life = one.versions.setdefault(version, Life(state))
            life.state, life.by_run, life.at = state, run, at
            if state == "resolved":
                what = "resolved" if one.kind != "strength" else "violated"
                one.note(at, what, run=run, version=version)
    for one in known.values():
        if _replays(one, rows):
            touched[one.fingerprint] = one
    return list(touched.values())


def _seen(
    one: Known,
    entry: Row,
    rows: Mapping[tuple[str, str], Mapping[str, Row]],
    changes: Changes,
    *,
    run: str,
    at: str,
    profile: str,
) -> None:
    one.entry = drop_pictures(entry)
    one.severity, one.title = entry["severity"], entry["title"]
    one.last_seen, one.last_at = run, at
    one.occurrences += 1
    if not one.reported:
        one.first_seen, one.first_at, one.reported = run, at, True
        one.note(at, "new", run=run)
    for version in entry["engine_versions"]:
        life = one.versions.setdefault(version, Life("open", first_seen=run))
        state = changes.moves[one.fingerprint, version]
        if state == "regressed" and life.state != "regressed":
            one.note(at, "regressed", run=run, version=version)
        life.state = "open" if one.kind == "strength" else state
        life.first_seen = life.first_seen or run
        life.last_seen, life.by_run, life.at = run, "", at
        life.occurrences += 1
        mine = rows.get((one.engine, version), {})
        measured = [
            row
            for row in entry["evidence"]["measured"]
            if row["engine_version"] == version and row["scenario"] in mine
        ]
        for row in measured:
            _sighted(life, row, mine[row["scenario"]], run)
        if one.kind != "strength":
            _keep_seeds(life, entry, version, measured, mine, run, profile)


def _sighted(life: Life, row: Row, result: Row, run: str) -> None:
    scenario = row["scenario"]
    if not scenario.startswith(REPLAY):
        # Of shards it is only worth knowing that a search showed it.
        name = SEARCHED if scenario.startswith(SEARCHED) else scenario
        asked = int(result.get("runs_asked", row["runs"]))
        life.sights[name] = Sight(
            asked, int(row["exercised"]), int(row["violations"]), result["seed"], run
        )


def _keep_seeds(  # noqa: PLR0917 (of one finding, on one version, in one run)
    life: Life,
    entry: Row,
    version: str,
    measured: Sequence[Row],
    mine: Mapping[str, Row],
    run: str,
    profile: str,
) -> None:
    """Keep the runs that fail: the finding's own, what a search found, else any."""
    found: dict[str, Seed] = {}
    reproduction = entry.get("reproduction") or {}
    about = reproduction.get("environment", {})
    own = reproduction.get("token") or ""
    if own and about.get("engine") == engine_label(entry["engine"], version):
        size, scenario = _size(reproduction), str(about.get("scenario", ""))
        campaign = int(mine[scenario]["seed"]) if scenario in mine else 0
        found[own] = Seed(own, size, profile, campaign, run, "", scenario)
    for row in measured:
        token, scenario = row.get("token") or "", row["scenario"]
        wanted = scenario.startswith(SEARCHED) or not (found or life.seeds)
        if token and token not in found and wanted:
            campaign = int(mine[scenario]["seed"])
            found[token] = Seed(token, len(token), profile, campaign, run, "", scenario)
    kept = {seed.token: seed for seed in life.seeds}
    life.seeds = shortest({**found, **kept}.values())


def _size(reproduction: Row) -> int:
    """Return how large a failing run is; the smallest are replayed first."""
    return len(json.dumps([reproduction.get("program"), reproduction.get("plan")]))


def _replays(one: Known, rows: Mapping[tuple[str, str], Mapping[str, Row]]) -> bool:
    """Note what became of kept runs that were replayed; say whether there were any."""
    found = False
    for (engine, version), mine in rows.items():
        life = one.versions.get(version)
        if engine != one.engine or life is None:
            continue
        verdicts = {
            row["token"]: str(row["verdict"])
            for scenario, row in mine.items()
            if scenario.startswith(REPLAY)
        }
        for seed in life.seeds:
            if seed.token in verdicts:
                seed.verdict, found = verdicts[seed.token], True
    return found
