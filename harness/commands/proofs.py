"""What a campaign proves of its findings: the smallest runs, the scripts, the fresh processes."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from harness import findings
from harness.commands.choice import QUICK
from harness.commands.progress import Progress
from harness.lab.campaign import Campaign
from harness.lab.conclude import AGAIN_LIMIT_S, confirmations
from harness.lab.fresh import FRESH_LIMIT_S, in_fresh_processes
from harness.lab.minimal import SHRINK_LIMIT_S, smallest
from harness.lab.pool import Pool

__all__ = ["proved", "shrunk"]

# Seconds for each kind of proof where nobody waits for the answer.
LONG_LIMIT_S = 900.0

Row = Mapping[str, Any]


def _is_quick(metadata: Row) -> bool:
    """Whoever asked for a search, or for a night, would rather wait than have less."""
    return metadata["profile"] in QUICK and not metadata["request"]["search"]


def _left_s(limit_s: float, deadline: float | None) -> float:
    """Return what is left for one kind of proof, in seconds."""
    return limit_s if deadline is None else max(0.0, min(limit_s, deadline - time.monotonic()))


def shrunk(
    seen: findings.Campaign,
    campaign: Campaign,
    metadata: Row,
    progress: Progress,
    *,
    pool: Pool,
    deadline: float | None,
) -> findings.Campaign:
    """Return what a campaign measured together with the smallest run of each defect.

    Args:
        pool: of workers that have run none of the campaign's units.
        deadline: of all proofs, on the monotonic clock; half of the time until it is for this.
    """
    limit_s = SHRINK_LIMIT_S if _is_quick(metadata) else LONG_LIMIT_S
    if deadline is not None:
        limit_s = min(limit_s, _left_s(limit_s, deadline) / 2)
    small = smallest(
        campaign.engines,
        campaign.units,
        _defects(seen),
        progress.say,
        workers=campaign.workers,
        limit_s=limit_s,
        pool=pool,
    )
    return dataclasses.replace(seen, smallest=small)


def proved(
    seen: findings.Campaign,
    campaign: Campaign,
    ids: Mapping[str, str],
    metadata: Row,
    progress: Progress,
    *,
    pool: Pool,
    deadline: float | None,
) -> findings.Campaign:
    """Return the same together with what scripts and fresh processes say of each defect.

    Args:
        ids: fingerprint -> id, by which the scripts are named.
        pool, deadline: as `shrunk` takes them.
    """
    quick = _is_quick(metadata)

    def replayed(answers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if all(told["confirmation"] == "confirmed" for told in answers.values()):
            return answers
        bugs = _defects(dataclasses.replace(seen, confirmations=answers))
        return in_fresh_processes(
            campaign.engines,
            campaign.cases,
            [bug for bug in bugs if bug["fingerprint"] in answers],
            answers,
            progress.say,
            workers=campaign.workers,
            limit_s=_left_s(FRESH_LIMIT_S if quick else LONG_LIMIT_S, deadline),
        )

    # Scripts sleep most of their time. Meanwhile what has none is replayed, and what the reports
    # are written with is brought in.
    with ThreadPoolExecutor(2) as beside:
        early: list[Future[dict[str, dict[str, Any]]]] = []
        beside.submit(importlib.import_module, "pandas")
        answers = confirmations(
            campaign.folder,
            campaign.engines,
            [{**bug, "id": ids[bug["fingerprint"]]} for bug in _defects(seen)],
            findings.witnesses_to_confirm(seen),
            progress.say,
            workers=campaign.workers,
            again_limit_s=AGAIN_LIMIT_S if quick else LONG_LIMIT_S,
            deadline=deadline,
            pool=pool,
            unscripted=lambda told: early.append(beside.submit(replayed, told)),
        )
    done = early[0].result()
    rest = replayed({mark: told for mark, told in answers.items() if mark not in done})
    return dataclasses.replace(seen, confirmations={**rest, **done})


def _defects(seen: findings.Campaign) -> list[dict[str, Any]]:
    """Return what a campaign found broken, the gravest first.

    Not as JSON, which has no word for a timeout that is no number.
    """
    return [
        dataclasses.asdict(f)
        for f in findings.findings_of(seen)
        if f.kind in ("bug", "dx") and f.clause and f.reproduction is not None
    ]
