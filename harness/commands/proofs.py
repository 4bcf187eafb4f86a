"""What a campaign proves of its findings: the smallest runs, the scripts, the fresh processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from harness import findings
from harness.commands.choice import QUICK
from harness.commands.progress import Progress
from harness.lab.campaign import Campaign
from harness.lab.conclude import AGAIN_LIMIT_S, confirmations
from harness.lab.fresh import FRESH_LIMIT_S, in_fresh_processes
from harness.lab.minimal import SHRINK_LIMIT_S, smallest

__all__ = ["proved", "shrunk"]

# Seconds for each kind of proof where nobody waits for the answer.
LONG_LIMIT_S = 900.0

Row = Mapping[str, Any]


def _is_quick(metadata: Row) -> bool:
    """Whoever asked for a search, or for a night, would rather wait than have less."""
    return metadata["profile"] in QUICK and not metadata["request"]["search"]


def shrunk(
    seen: findings.Campaign, campaign: Campaign, metadata: Row, progress: Progress
) -> findings.Campaign:
    """Return what a campaign measured together with the smallest run of each defect."""
    small = smallest(
        campaign.engines,
        campaign.units,
        _defects(seen),
        progress.say,
        workers=campaign.workers,
        limit_s=SHRINK_LIMIT_S if _is_quick(metadata) else LONG_LIMIT_S,
    )
    return dataclasses.replace(seen, smallest=small)


def proved(
    seen: findings.Campaign,
    campaign: Campaign,
    ids: Mapping[str, str],
    metadata: Row,
    progress: Progress,
) -> findings.Campaign:
    """Return the same together with what scripts and fresh processes say of each defect.

    Args:
        ids: fingerprint -> id, by which the scripts are named.
    """
    quick = _is_quick(metadata)
    answers = confirmations(
        campaign.folder,
        campaign.engines,
        [{**bug, "id": ids[bug["fingerprint"]]} for bug in _defects(seen)],
        findings.witnesses_to_confirm(seen),
        progress.say,
        again_limit_s=AGAIN_LIMIT_S if quick else LONG_LIMIT_S,
    )
    answers = in_fresh_processes(
        campaign.engines,
        campaign.cases,
        _defects(dataclasses.replace(seen, confirmations=answers)),
        answers,
        progress.say,
        workers=campaign.workers,
        limit_s=FRESH_LIMIT_S if quick else LONG_LIMIT_S,
    )
    return dataclasses.replace(seen, confirmations=answers)


def _defects(seen: findings.Campaign) -> list[dict[str, Any]]:
    """Return what a campaign found broken, the gravest first.

    Not as JSON, which has no word for a timeout that is no number.
    """
    return [
        dataclasses.asdict(f)
        for f in findings.findings_of(seen)
        if f.kind in ("bug", "dx") and f.clause and f.reproduction is not None
    ]
