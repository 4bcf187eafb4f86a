"""A search as units of a campaign: so that it is spread over workers, resumed and reported.

A swarm is cut into shards of one size, whose seeds follow from their names: what is found does
not depend on how many workers there are. Exhaustive injection has one unit a program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from harness.contract.clauses import CLAUSES
from harness.contract.scenario import Scenario
from harness.kernel.plan import Plan
from harness.lab.search.finder import HEAL

__all__ = ["PACK", "SHARD_RUNS", "SWARM_RUNS", "points_units", "swarm_units"]

PACK = "search"
SHARD_RUNS = 2_500
# Runs of a swarm on each engine.
SWARM_RUNS: Mapping[str, int] = {
    "smoke": 2_500,
    "default": 20_000,
    "daily": 50_000,
    "weekly": 200_000,
    "nightly": 100_000,
    "monthly": 1_000_000,
}
# More injections into one program than these stages have are for a day's search.
STAGES_MAX = 12

# What each unit judges; the first is the one that a result row names.
_JUDGED = ("CLEAN-5", *(c for c in CLAUSES if c != "CLEAN-5"))


def swarm_units(runs: int) -> list[Scenario]:
    """Return the shards of a swarm of at least so many runs on each engine."""
    return [
        Scenario(
            id=f"{PACK}/swarm-{i:04d}",
            title="Programs that nobody wrote",
            program=HEAL,
            plan=Plan(),
            clauses=_JUDGED,
            purpose=f"{SHARD_RUNS} runs of generated programs and plans, judged by every clause.",
            category="chaos",
            sweep="swarm",
        )
        for i in range(-(-runs // SHARD_RUNS))
    ]


def points_units(chosen: Iterable[Scenario]) -> list[Scenario]:
    """Return a unit of exhaustive injection for each scenario that is small enough."""
    return [
        dataclasses.replace(
            one,
            id=f"{PACK}/points-{one.id.replace('/', '-')}",
            title=f"Everything that can cut into: {one.title}",
            clauses=_JUDGED,
            tests=(),
            category="chaos",
            sweep="points",
            fires=(),
            plan=dataclasses.replace(one.plan, cancels=()),
        )
        for one in chosen
        if len(one.program.stages) <= STAGES_MAX
    ]
