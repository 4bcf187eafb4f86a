"""A plan: under which circumstances a program is run.

Which runs there are (and of which tenant), the timeout for all stages, when and what
the caller cancels, which faults are injected. Plain, versioned data, like the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.kernel.errors import InputError
from harness.kernel.program import Program, needed_capabilities
from harness.kernel.steps import ERRORS

__all__ = ["PLAN_VERSION", "Cancel", "Fault", "Plan", "RunSpec", "required_capabilities"]

PLAN_VERSION = 1
LIMIT_RUNS = 1_000


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run of the program: its id, its tenant, and when it starts (seconds)."""

    id: str = "r0"
    tenant: str = "t0"
    start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Cancel:
    """The caller cancels.

    Attributes:
        target: "run" for the task that awaits the engine's run.
        at_s: virtual time in seconds, or None if `at_point` says when.
        at_point: after that many callbacks of the loop since the run began; -1 lets the
            tape draw a point among those that a clean run of the same program has.
        times: how often, `gap_s` apart.
    """

    target: str = "run"
    run: str = "r0"
    at_s: float | None = None
    at_point: int | None = None
    times: int = 1
    gap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Fault:
    """A tool call is made to fail: the `nth` call (from 1) of `tool` raises `error`."""

    tool: str
    nth: int = 1
    error: str = "RuntimeError"
    onwards: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The circumstances of one scenario.

    Attributes:
        stage_timeout_s: the timeout, in seconds, of every stage that declares none, or None.
        cleanup_grace_s: how long cleanups may take in all before an engine may give up on them.
        on_failure: the declared policy for siblings of a stage that fails or times out:
            "cancel" (they are cancelled and awaited) or "continue".
        options: engine settings that only some adapters know; an unknown one is ignored.
    """

    runs: tuple[RunSpec, ...] = (RunSpec(),)
    stage_timeout_s: float | None = None
    cleanup_grace_s: float = 10.0
    on_failure: str = "cancel"
    cancels: tuple[Cancel, ...] = ()
    faults: tuple[Fault, ...] = ()
    horizon_s: float = 3_600.0
    steps_max: int = 200_000
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"version": PLAN_VERSION}
        default = Plan()
        for name in ("stage_timeout_s", "cleanup_grace_s", "on_failure", "horizon_s", "steps_max"):
            value = getattr(self, name)
            if value != getattr(default, name):
                out[name] = value
        if self.options:
            out["options"] = dict(self.options)
        records: tuple[tuple[str, Any], ...] = (
            ("runs", RunSpec),
            ("cancels", Cancel),
            ("faults", Fault),
        )
        for name, cls in records:
            items = getattr(self, name)
            if items != getattr(default, name):
                blank: Any = Fault(tool="") if cls is Fault else cls()
                out[name] = [
                    {
                        k: getattr(item, k)
                        for k in cls.__slots__
                        if k == "tool" or getattr(item, k) != getattr(blank, k)
                    }
                    for item in items
                ]
        return out

    @classmethod
    def from_json(cls, data: object, *, where: str = "plan") -> Plan:
        """Check and build a plan from JSON data.

        Raises:
            InputError: naming the place, what was expected and what came.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"{where}: expected an object")
        version = data.get("version", PLAN_VERSION)
        if version != PLAN_VERSION:
            raise InputError(f"{where}: version {version!r} is not {PLAN_VERSION}")
        unknown = set(data) - {"version"} - set(cls.__slots__)
        if unknown:
            raise InputError(
                f"{where}: unknown field {sorted(unknown)[0]!r}; known: {', '.join(cls.__slots__)}"
            )
        args: dict[str, Any] = {k: v for k, v in data.items() if k != "version"}
        for name, kind in (("runs", RunSpec), ("cancels", Cancel), ("faults", Fault)):
            if name in args:
                args[name] = _records(kind, args[name], where=f"{where}.{name}")
        plan = cls(**args)
        _check(plan, where)
        return plan


def _records(kind: type, items: object, *, where: str) -> tuple[Any, ...]:
    if not isinstance(items, (list, tuple)):
        raise InputError(f"{where}: expected a list")
    out = []
    for i, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise InputError(f"{where}[{i}]: expected an object")
        unknown = set(item) - set(kind.__slots__)  # type: ignore[attr-defined]
        if unknown:
            raise InputError(f"{where}[{i}]: unknown field {sorted(unknown)[0]!r}")
        try:
            out.append(kind(**item))
        except TypeError as exc:
            raise InputError(f"{where}[{i}]: {exc}") from exc
    return tuple(out)


def _number(value: object, low: float, high: float, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InputError(f"{where}: expected a number from {low:g} to {high:g}, got {value!r}")


def _check(plan: Plan, where: str) -> None:
    if not 0 < len(plan.runs) <= LIMIT_RUNS:
        raise InputError(f"{where}.runs: expected 1 to {LIMIT_RUNS} runs, got {len(plan.runs)}")
    ids = [r.id for r in plan.runs]
    if len(set(ids)) != len(ids):
        raise InputError(f"{where}.runs: run ids must differ, got {ids}")
    _number(plan.horizon_s, 0, 1e7, f"{where}.horizon_s")
    _number(plan.steps_max, 1, 1e8, f"{where}.steps_max")
    _number(plan.cleanup_grace_s, 0, 1e6, f"{where}.cleanup_grace_s")
    if plan.on_failure not in ("cancel", "continue"):
        raise InputError(
            f"{where}.on_failure: expected cancel or continue, got {plan.on_failure!r}"
        )
    if not isinstance(plan.options, Mapping):
        raise InputError(f"{where}.options: expected an object, got {plan.options!r}")
    limit = plan.stage_timeout_s
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, float))):
        raise InputError(f"{where}.stage_timeout_s: expected seconds as a number, got {limit!r}")
    for i, run in enumerate(plan.runs):
        _number(run.start_s, 0, 1e6, f"{where}.runs[{i}].start_s")
    for i, cancel in enumerate(plan.cancels):
        at = f"{where}.cancels[{i}]"
        if cancel.target != "run":
            raise InputError(f"{at}.target: expected 'run', got {cancel.target!r}")
        if cancel.run not in ids:
            raise InputError(f"{at}.run: no run {cancel.run!r} in the plan")
        if (cancel.at_s is None) == (cancel.at_point is None):
            raise InputError(f"{at}: give either at_s or at_point")
        if cancel.at_s is not None:
            _number(cancel.at_s, 0, 1e6, f"{at}.at_s")
        _number(cancel.times, 1, 100, f"{at}.times")
        _number(cancel.gap_s, 0, 1e6, f"{at}.gap_s")
    for i, fault in enumerate(plan.faults):
        if fault.error not in ERRORS:
            raise InputError(f"{where}.faults[{i}].error: expected one of {', '.join(ERRORS)}")
        _number(fault.nth, 1, 1e6, f"{where}.faults[{i}].nth")


def required_capabilities(program: Program, plan: Plan) -> frozenset[str]:
    """Return every engine capability that running `program` under `plan` needs."""
    needs = set(needed_capabilities(program))
    if plan.stage_timeout_s is not None:
        needs.add("stage_timeout")
    if plan.on_failure == "continue":
        needs.add("continue_on_failure")
    if len(plan.runs) > 1:
        needs.add("concurrent_runs")
    return frozenset(needs)
