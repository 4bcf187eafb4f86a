"""Does a worker grow with the runs that it has made? Told for each engine, by repeated runs.

One scenario, undisturbed, again and again in one process, in equal batches; what the process
holds is taken after each. The first batches are its warm-up. What seems to leak is looked at a
second time, by the rule that load uses (`resources.LEAK_RULE`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.contract.scenario import Scenario
from harness.kernel.errors import DagstormError, EnvironmentFault
from harness.lab.pool import Pool
from harness.lab.resources import LeakVerdict, batches, leak_verdict, sample
from harness.lab.subject import Engine
from harness.lab.unit_rows import scenario_data, weight_of
from harness.lab.worker import WorkerDied

__all__ = ["BATCHES", "GROWTH_RULE", "RUNS", "WARM_UP", "growth_of", "growth_rows"]

BATCHES, WARM_UP, RUNS = 12, 2, 25
# Memory counts in pages and is given out in arenas; a live object is one object.
FLOORS = (("memory", "KiB", 0.5), ("objects", "objects", 0.05))
# A scenario of thousands of stages would take as long as the whole campaign.
WEIGHT_MAX = 20
GROWTH_RULE = (
    f"{BATCHES} batches of {RUNS} undisturbed runs of one scenario in one process, the first "
    f"{WARM_UP} of them its warm-up: the Theil-Sen slope of its resident memory times the runs "
    "after the warm-up, in MB of 10^6 bytes; 0 where the rule of leaks, asked twice, sees none"
)

Row = dict[str, Any]


def growth_rows(
    engines: Sequence[Engine],
    units: Sequence[Mapping[str, Any]],
    scenarios: Sequence[Scenario],
    pool: Pool,
    *,
    workers: int = 1,
) -> list[Row]:
    """Measure every engine of a campaign that passed a small scenario; returns a row for each.

    Args:
        units: of the campaign: the first small scenario that an engine passed is repeated.
        scenarios: in the campaign's order.
    """
    jobs = []
    for engine in engines:
        passed = {
            u["scenario"]
            for u in units
            if (u["engine"], u["engine_version"], u["lab"]) == (*engine.key, "sim")
            and u["verdict"] == "pass"
        }
        small = (s for s in scenarios if s.id in passed and not s.sweep and _is_small(s))
        if (one := next(small, None)) is not None:
            jobs.append((engine, one))
    with ThreadPoolExecutor(max(1, workers)) as threads:
        return list(threads.map(lambda job: growth_of(job[0], job[1], pool), jobs))


def _is_small(scenario: Scenario) -> bool:
    return weight_of(scenario.program, scenario.plan) <= WEIGHT_MAX and not scenario.plan.toxics


def growth_of(engine: Engine, scenario: Scenario, pool: Pool) -> Row:
    """Measure one engine by one scenario.

    Returns:
        engine, engine_version, scenario, runs (after the warm-up), memory_growth_mb (None if it
        could not be measured), leaks (quantities that leak), why (of what was not measured), and
        verdicts: for each quantity its unit, slope a run, rule and series.
    """
    row: Row = {
        "engine": engine.ref.name,
        "engine_version": engine.ref.version,
        "scenario": scenario.id,
        "runs": (BATCHES - WARM_UP) * RUNS,
        "memory_growth_mb": None,
        "leaks": [],
        "why": "",
        "verdicts": [],
    }
    request = {"op": "repeat", "scenario": scenario_data(scenario), "runs": RUNS}
    try:
        with pool.lend(engine) as worker:

            def once() -> dict[str, float]:
                objects = worker.ask(request)["objects"]
                held = sample("worker", worker.pid, alone=True)
                if held is None:
                    raise EnvironmentFault("the worker's process cannot be looked at")
                return {"memory": held.rss_bytes / 1024, "objects": objects}

            verdicts = _verdicts(once)
            if any(one.leaks for one in verdicts):
                again = {one.quantity: one for one in _verdicts(once)}
                row["leaks"] = [
                    one.quantity for one in verdicts if one.leaks and again[one.quantity].leaks
                ]
    except (DagstormError, WorkerDied) as exc:
        return {**row, "why": str(exc)}
    memory = verdicts[0]
    grown = memory.per_run * 1024 * row["runs"] / 1e6 if "memory" in row["leaks"] else 0.0
    return {
        **row,
        "memory_growth_mb": round(grown, 6),
        "verdicts": [
            {
                "quantity": one.quantity,
                "unit": one.unit,
                "per_run": one.per_run,
                "rule": one.rule,
                "series": list(one.series),
            }
            for one in verdicts
        ],
    }


def _verdicts(once: Callable[[], Mapping[str, float]]) -> list[LeakVerdict]:
    held = batches(once, BATCHES)
    return [
        leak_verdict(
            held[quantity],
            quantity=quantity,
            unit=unit,
            runs_per_batch=RUNS,
            warm_up=WARM_UP,
            floor=floor,
        )
        for quantity, unit, floor in FLOORS
    ]
