"""What each profile of a campaign does: how deep, of what, what failed before, how long.

Everything follows from the profile, the seed and the date, never from the machine: a
nightly of one date is the same wherever and whenever it is run, but for how far its
search gets within its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from harness.kernel.errors import InputError
from harness.lab.campaign import PROFILES

__all__ = ["DAYS", "DEFAULT_SEED", "PLANS", "Profile", "Shares", "day_of", "seed_of", "shares_of"]

DEFAULT_SEED = 1
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile.

    Attributes:
        runs: of each scenario on each engine.
        budget_s: default time limit, None for none, in seconds from when the engines are ready to
            the last report. It holds only where nothing is named.
        replays: of what failed before: "" nothing, "findings" the shortest run of every finding,
            "ledger" every kept run of what is not resolved.
        searches: "" or "swarm", after everything else; "points", every point of every scenario.
        fail_on: which findings make the exit code 1 unless `--fail-on` says so.
        packs: for each day of the week, the packs that are run; empty for all.
        dated: the seed is the date.
        mission: the mission that is run, if there is one of this name.
    """

    runs: int
    budget_s: float | None = None
    replays: str = ""
    searches: str = ""
    fail_on: str = "never"
    packs: Mapping[str, tuple[str, ...]] | None = None
    dated: bool = False
    mission: str = ""


# One theme a weekday, each deep; the weekend takes them all.
WEEK: Mapping[str, tuple[str, ...]] = {
    "mon": ("context", "partial_results", "streaming"),
    "tue": ("graph", "branch_cancel", "recovery"),
    "wed": ("timeouts", "middleware", "tools", "cleanup"),
    "thu": ("event_overflow", "correlation", "chaos_monthly"),
    "fri": ("tenant_isolation",),
    "sat": (),
    "sun": (),
}

PLANS: Mapping[str, Profile] = {
    "smoke": Profile(PROFILES["smoke"], budget_s=20.0),
    "default": Profile(PROFILES["default"]),
    "daily": Profile(PROFILES["daily"], replays="findings", fail_on="new"),
    "weekly": Profile(PROFILES["weekly"], searches="points", fail_on="new", packs=WEEK),
    "nightly": Profile(
        PROFILES["nightly"],
        budget_s=900.0,  # ten minutes of runs: see `shares_of`
        replays="ledger",
        searches="swarm",
        fail_on="new",
        dated=True,
    ),
    "monthly": Profile(PROFILES["monthly"], fail_on="new", mission="CHAOS-MONTHLY"),
}


# Of a budget, what is kept for shrinking and scripts, and then for the reports.
PROOFS_SHARE, PROOFS_MAX_S = 0.4, 300.0
REPORTS_SHARE, REPORTS_MIN_S = 0.05, 2.0


@dataclass(frozen=True, slots=True)
class Shares:
    """How a budget is spent, each in seconds since the engines were ready.

    Attributes:
        runs_s: no run is started afterwards.
        proofs_s: nothing is shrunk, confirmed or replayed afterwards.
    """

    runs_s: float
    proofs_s: float


def shares_of(budget_s: float) -> Shares:
    """Share a budget out: what the runs leave of theirs goes to the proofs."""
    reports_s = min(budget_s / 2, max(REPORTS_MIN_S, REPORTS_SHARE * budget_s))
    kept_s = min(PROOFS_SHARE * budget_s, PROOFS_MAX_S)
    return Shares(runs_s=budget_s - kept_s, proofs_s=budget_s - reports_s)


def seed_of(profile: str, today: date) -> int:
    """Return the seed of a campaign that names none: for a nightly 20261121, the date (UTC)."""
    if PLANS[profile].dated:
        return today.year * 10_000 + today.month * 100 + today.day
    return DEFAULT_SEED


def day_of(named: str | None, today: date) -> str:
    """Return the day of the week that a weekly campaign is for.

    Raises:
        InputError: if there is no such day.
    """
    if named is None:
        return DAYS[today.weekday()]
    day = named.lower()[:3]
    if day not in DAYS:
        raise InputError(f"--day {named}: no such day; known: {', '.join(DAYS)}")
    return day
