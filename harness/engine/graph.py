"""A pipeline as checked, frozen data: what a run works from.

All that can be refused is refused here, before anything runs, and the refusal names the
stages concerned.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.engine.errors import EngineError, PipelineError

if TYPE_CHECKING:
    from harness.engine.context import Context
    from harness.engine.retry import Retry

__all__ = ["Graph", "Settings", "StageSpec", "find_faults", "isolated", "seconds"]

SECONDS_MAX = 1_000_000_000

StageFn = Callable[["Context"], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class StageSpec:
    """One declared stage; timeouts in seconds, None for none."""

    name: str
    fn: StageFn
    needs: tuple[str, ...] = ()
    timeout_s: float | None = None
    idle_timeout_s: float | None = None
    retry: Retry | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for a pipeline as a whole."""

    name: str
    timeout_s: float | None
    cleanup_grace_s: float
    on_failure: str
    chunks_max: int
    rng: random.Random = field(default_factory=random.Random)


@dataclass(frozen=True, slots=True)
class Graph:
    """A checked pipeline: timeouts are final, and each stage knows who needs it.

    Attributes:
        stages, dependents: by stage name, in order of declaration.
    """

    settings: Settings
    stages: Mapping[str, StageSpec]
    dependents: Mapping[str, tuple[str, ...]]


def seconds(value: object, what: str) -> float:
    """Check a number of seconds.

    Raises:
        PipelineError: naming `what`, unless it is a number from 0 to `SECONDS_MAX`.
    """
    ok = isinstance(value, (int, float)) and not isinstance(value, bool)
    # NaN fails both comparisons; comparing needs no conversion, so no int is too large.
    if not ok or not 0 <= value <= SECONDS_MAX:  # type: ignore[operator]
        raise PipelineError(
            f"{what}: expected a number of seconds from 0 to {SECONDS_MAX:g}, got {value!r}"
        )
    return float(value)  # type: ignore[arg-type]


def find_faults(stages: Sequence[StageSpec]) -> list[str]:
    """Name what makes a graph unusable: no stage, an unknown dependency, a cycle."""
    if not stages:
        return ["it has no stages; declare at least one by stage()"]
    by_name = {spec.name: spec for spec in stages}
    found = [
        f"stage {spec.name!r} needs {need!r}, which is not declared"
        for spec in stages
        for need in spec.needs
        if need not in by_name
    ]
    cycle = _find_cycle(by_name)
    if cycle:
        found.append(f"stages need each other in a circle: {' -> '.join(cycle)}")
    return found


def _find_cycle(by_name: Mapping[str, StageSpec]) -> list[str]:
    """Return the stages of one cycle, its first one repeated at the end, or nothing."""
    waits = {n: sum(need in by_name for need in spec.needs) for n, spec in by_name.items()}
    dependents: dict[str, list[str]] = {name: [] for name in by_name}
    for name, spec in by_name.items():
        for need in spec.needs:
            if need in by_name:
                dependents[need].append(name)
    ready = [name for name, count in waits.items() if not count]
    for name in ready:
        for dependent in dependents[name]:
            waits[dependent] -= 1
            if not waits[dependent]:
                ready.append(dependent)
    # Each stage left waits for another that is left: following them must come full circle.
    at = next((name for name, count in waits.items() if count), None)
    path: dict[str, None] = {}
    while at is not None and at not in path:
        path[at] = None
        at = next(need for need in by_name[at].needs if waits.get(need))
    if at is None:
        return []
    names = list(path)
    return [*names[names.index(at) :], at]


def isolated(value: Any, what: str) -> Any:
    """Return a deep copy, so that no stage can change what another one sees.

    Raises:
        EngineError: naming `what` if the value cannot be copied.
    """
    try:
        return copy.deepcopy(value)
    except Exception as exc:
        raise EngineError(
            f"{what} cannot be copied ({type(value).__name__}), so stages could change it under "
            "each other; hand on plain data, or an object whose __deepcopy__ returns itself"
        ) from exc
