"""The packs: what is run on every engine, and the missions that the packs answer.

A pack is a folder with one theme. To add one, write `scenarios/<name>/__init__.py` that
exposes `PACK`, and name it here: the order here is the order of every listing and report.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.contract.scenario import Mission, Pack, Scenario
from scenarios import (
    branch_cancel,
    chaos_monthly,
    cleanup,
    context,
    correlation,
    event_overflow,
    graph,
    middleware,
    partial_results,
    recovery,
    streaming,
    tenant_isolation,
    timeouts,
    tools,
)

__all__ = ["PACKS", "mission", "missions", "pack", "scenario", "scenarios"]

PACKS: tuple[Pack, ...] = (
    timeouts.PACK,
    branch_cancel.PACK,
    cleanup.PACK,
    tools.PACK,
    streaming.PACK,
    event_overflow.PACK,
    partial_results.PACK,
    recovery.PACK,
    tenant_isolation.PACK,
    correlation.PACK,
    context.PACK,
    graph.PACK,
    middleware.PACK,
    chaos_monthly.PACK,
)

_SCENARIOS: Mapping[str, Scenario] = {one.id: one for p in PACKS for one in p.scenarios}
_MISSIONS: Mapping[str, Mission] = {one.id: one for p in PACKS for one in p.missions}


def scenarios() -> Mapping[str, Scenario]:
    """Return every scenario by its id, in the order of packs."""
    return _SCENARIOS


def missions() -> Mapping[str, Mission]:
    """Return every mission by its id, in the order of packs."""
    return _MISSIONS


def pack(name: str) -> Pack:
    """Return the pack of that name; raises `KeyError` if there is none."""
    return {one.id: one for one in PACKS}[name]


def scenario(name: str) -> Scenario:
    """Return the scenario of that id; raises `KeyError` if there is none."""
    return _SCENARIOS[name]


def mission(name: str) -> Mission:
    """Return the mission of that id; raises `KeyError` if there is none."""
    return _MISSIONS[name]
