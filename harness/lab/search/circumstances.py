"""The circumstances of a generated program: runs, tenants, cancels, faults, sink, layers.

What is aimed is aimed at what the program holds: a cancel at an instant of the grid, a fault
at a tool that is called, a consumer at a stage that hands on chunks.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.kernel.plan import Cancel, Consumer, Fault, Layer, Plan, RunSpec, Sink
from harness.kernel.program import Program
from harness.lab.search.features import Swarm

__all__ = ["plan_for"]

ERRORS = ("RuntimeError", "OSError", "ValueError", "TimeoutError")
# The first eight characters of the names are the same, as names of tenants often begin alike.
TENANTS = ("tenant-north", "tenant-south", "tenant-east")
HORIZON_S = 3_600.0
STEPS_MAX = 60_000


def plan_for(
    rng: random.Random, swarm: Swarm, program: Program, labels: Mapping[str, set[str]]
) -> Plan:
    """Return a plan for a program; `labels` names its tools and the stages with chunks."""
    on, chance, grid = swarm.on, rng.random, swarm.grid
    runs = _runs(rng, swarm)
    limit = None
    if "stage_timeout" in on and (chance() < 0.8 or "never" in on):
        limit = (grid[int(chance() * len(grid))] or grid[1]) * (1, 1, 2, 3)[int(chance() * 4)]
    grace = 10.0
    if "grace" in on:
        grace = grid[1] * (1, 2, 3)[int(chance() * 3)]
    consumer = None
    if "consumer" in on and labels["chunks"] and len(runs) == 1:
        consumer = _consumer(rng, swarm, sorted(labels["chunks"]))
    return Plan(
        runs=runs,
        stage_timeout_s=limit,
        cleanup_grace_s=grace,
        on_failure="continue" if "continue" in on and chance() < 0.7 else "cancel",
        cancels=_cancels(rng, swarm, runs),
        faults=_faults(rng, labels["tools"]) if "tool_faults" in on and labels["tools"] else (),
        horizon_s=HORIZON_S,
        steps_max=STEPS_MAX,
        sink=_sink(rng, on) if "sink" in on else None,
        consumer=consumer,
        layers=_layers(rng, swarm, program, runs),
    )


def _runs(rng: random.Random, swarm: Swarm) -> tuple[RunSpec, ...]:
    on, chance, grid = swarm.on, rng.random, swarm.grid
    if "redrive" in on:
        count = 2 + int(chance() * 2)
        after = [f"r{i}" for i in range(count)]
        at_once = chance() < 0.2 and "runs" in on
        first = _spec(rng, on, 0, 0.0)
        return tuple(
            [
                # A run is gone on with for the same tenant, with the same inputs.
                replace(first, id=f"r{i}", redrives="" if not i else after[0 if at_once else i - 1])
                for i in range(count)
            ]
        )
    if "runs" not in on:
        return (_spec(rng, on, 0, 0.0),)
    many = bool(on & _OF_MANY)
    count = (3 + int(chance() * 7)) if many else (2 + int(chance() * 3))
    # At once, in the tick in which something happens, one after the other, long after.
    spacing = (0.0, grid[1], grid[1] / 2, 2.0, 30.0)[int(chance() * 5)]
    start_s = 0.0
    specs = []
    for i in range(count):
        specs.append(_spec(rng, on, i, start_s))
        if chance() < 0.8:
            start_s += spacing
        if many and chance() < 0.1:
            start_s += 40.0
    return tuple(specs)


_OF_MANY = frozenset({"breaker", "rate", "idempotent", "guard"})


def _spec(rng: random.Random, on: frozenset[str], i: int, start_s: float) -> RunSpec:
    chance = rng.random
    inputs: dict[str, Any] = {}
    correlation = traceparent = ""
    if "input" in on:
        inputs = {"marker": f"marker-{i}-{int(chance() * 0xFFFFFF):06x}"}
    if "correlation" in on and chance() < 0.9:
        correlation = f"corr-{i}-{int(chance() * 0xFFFFFF):06x}"
    if "trace" in on and chance() < 0.8:
        trace, span = int(chance() * (1 << 48)) + 1, int(chance() * (1 << 40)) + 1
        traceparent = f"00-{trace:032x}-{span:016x}-01"
    tenant = TENANTS[int(chance() * 3)] if "tenants" in on else "t0"
    return RunSpec(f"r{i}", tenant, start_s, inputs, correlation, traceparent)


def _cancels(rng: random.Random, swarm: Swarm, runs: tuple[RunSpec, ...]) -> tuple[Cancel, ...]:
    on, chance, grid = swarm.on, rng.random, swarm.grid
    if not ("cancel" in on or "cancel_point" in on) or chance() < 0.2:
        return ()
    found: list[Cancel] = []
    for spec in runs:
        if len(runs) > 1 and chance() < 0.5:
            continue
        times, gap_s = 1, 0.0
        if "cancel_again" in on and chance() < 0.7:
            times, gap_s = 2 + int(chance() * 2), (0.0, grid[1] / 2, grid[1])[int(chance() * 3)]
        if "cancel_point" in on and not found and chance() < 0.6:
            # The laboratory has one such point a run of the plan.
            found.append(Cancel(run=spec.id, at_point=-1, times=times, gap_s=gap_s))
            if len(runs) == 1:
                break
            continue
        at_s = spec.start_s + grid[int(chance() * len(grid))] * (0.5, 1, 1, 2)[int(chance() * 4)]
        found.append(Cancel(run=spec.id, at_s=at_s, times=times, gap_s=gap_s))
    return tuple(found)


def _faults(rng: random.Random, tools: set[str]) -> tuple[Fault, ...]:
    chance = rng.random
    return tuple(
        [
            Fault(tool, 1 + int(chance() * 2), ERRORS[int(chance() * 4)], chance() < 0.5)
            for tool in sorted(tools)
            if chance() < 0.7
        ]
    )


def _sink(rng: random.Random, on: frozenset[str]) -> Sink:
    chance = rng.random
    delivery_s = (0.0, 0.005, 0.01, 0.05, 0.2)[int(chance() * 5)]
    error = hangs_at = None
    trouble = chance()
    if trouble < 0.25:
        error = ("OSError", "CancelledError", "RuntimeError")[int(chance() * 3)]
    elif trouble < 0.45:
        hangs_at = 1 + int(chance() * 6)
    drain_s = (0.0, 0.1, 0.5, 2.0)[int(chance() * 4)]
    if "queue" not in on:
        return Sink(delivery_s, error, 1 + int(chance() * 3), hangs_at, drain_s=drain_s)
    policy = ("", "block", "drop_newest", "drop_oldest", "spill")[int(chance() * 5)]
    return Sink(
        delivery_s,
        error,
        1 + int(chance() * 3),
        hangs_at,
        queue_max=(1, 2, 4, 10)[int(chance() * 4)],
        policy=policy,
        drain_s=drain_s,
        block_s=(0.1, 0.5, 1.0)[int(chance() * 3)] if policy == "block" else None,
        spill_max=(2, 8, 30)[int(chance() * 3)] if policy == "spill" else None,
    )


def _consumer(rng: random.Random, swarm: Swarm, stages: list[str]) -> Consumer:
    chance = rng.random
    stop = 1 + int(chance() * 3) if chance() < 0.5 else None
    every_s = swarm.grid[int(chance() * len(swarm.grid))]
    return Consumer(stages[int(chance() * len(stages))], every_s, stop, 1 + int(chance() * 3))


def _layers(
    rng: random.Random, swarm: Swarm, program: Program, runs: tuple[RunSpec, ...]
) -> tuple[Layer, ...]:
    on, chance = swarm.on, rng.random
    found: list[Layer] = []

    def add(kind: str, **options: Any) -> None:
        names = tuple([s.name for s in program.stages if chance() < 0.5]) if chance() < 0.5 else ()
        if kind in ("raise", "deny"):
            own = tuple([spec.id for spec in runs if chance() < 0.5])
            phase = "after" if kind == "raise" and chance() < 0.4 else "before"
            layer = Layer(kind, f"{kind}{9 - len(found)}", names, phase, runs=own)
        else:
            layer = Layer(kind, f"{kind}{9 - len(found)}", names, options=options)
        found.insert(int(chance() * (len(found) + 1)), layer)

    if "layers" in on:
        for _ in range(1 + int(chance() * 2)):
            add("observe")
        if chance() < 0.5:
            add("raise")
    if "guard" in on and chance() < 0.7:
        add("deny")
    if "breaker" in on:
        add("circuit_breaker", threshold=1 + int(chance() * 3), reset_s=(2.0, 30.0)[chance() < 0.5])
    if "rate" in on:
        add("rate_limit", limit=1 + int(chance() * 2), window_s=(1.0, 10.0)[chance() < 0.5])
    if "idempotent" in on:
        add("idempotency", key="order-1")
    return tuple(found)
