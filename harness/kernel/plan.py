"""A plan: under which circumstances a program is run.

Which runs there are (and of which tenant), the timeout for all stages, when and what
the caller cancels, which faults are injected. Plain, versioned data, like the program.

Longer than most: a record for each circumstance, and what is checked of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from harness.kernel.errors import InputError
from harness.kernel.program import LIMIT_TIMEOUT_S, Program, needed_capabilities
from harness.kernel.steps import ERRORS

__all__ = [
    "LAYER_KINDS",
    "PLAN_VERSION",
    "TOXICS",
    "Cancel",
    "ClockStep",
    "Consumer",
    "Fault",
    "Layer",
    "Plan",
    "RunSpec",
    "Sink",
    "Toxic",
    "required_capabilities",
]

PLAN_VERSION = 1
LIMIT_RUNS = 1_000
POLICIES = ("", "block", "drop_newest", "drop_oldest", "spill")

# Kind of layer -> the engine capability that it needs.
LAYER_KINDS = {
    "observe": "interceptors",
    "raise": "interceptors",
    "deny": "guard",
    "circuit_breaker": "circuit_breaker",
    "rate_limit": "rate_limit",
    "idempotency": "idempotency",
}


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run of the program.

    Attributes:
        tenant: whom it is for.
        start_s: when it starts, in seconds; a redrive starts when what it redrives is over, if
            that is later.
        inputs: what it is given; `input` steps read it.
        correlation: the correlation id that its caller gives, or "" for none.
        traceparent: the caller's W3C trace context, or "" for none.
        redrives: id of the run that it goes on with from its last checkpoint, or "".
    """

    id: str = "r0"
    tenant: str = "t0"
    start_s: float = 0.0
    inputs: Mapping[str, Any] = field(default_factory=dict)
    correlation: str = ""
    traceparent: str = ""
    redrives: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The caller cancels, or somebody outside the engine cancels the task of one stage.

    Attributes:
        target: "run" for the task that awaits the engine's run, "stage" for the task in which the
            body of a stage is under way; if it is not under way then, nothing is cancelled.
        run: which run; of a stage, that of a subpipeline has the id that its stages note.
        stage: of target "stage": which one.
        by: of target "run": "cancel" for `Task.cancel`, or the deadline that ends the run, once
            and at `at_s`: "timeout" (`asyncio.timeout`), "wait_for" (`asyncio.wait_for`) or
            "group" (another task of a `TaskGroup` fails).
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
    stage: str = ""
    by: str = "cancel"


# Who a cancel is for, and by what means it comes about.
TARGETS = ("run", "stage")
WAYS = ("cancel", "timeout", "wait_for", "group")

# Kind of toxic -> its attributes, in Toxiproxy's names and units: milliseconds, bytes, and
# kilobytes (of 1000) a second for `rate`.
TOXICS = {
    "latency": ("latency", "jitter"),
    "bandwidth": ("rate",),
    "slow_close": ("delay",),
    "timeout": ("timeout",),
    "reset_peer": ("timeout",),
    "limit_data": ("bytes",),
}
DIRECTIONS = ("downstream", "upstream")


@dataclass(frozen=True, slots=True)
class Fault:
    """A tool call is made to fail: the `nth` call (from 1) of `tool` raises `error`.

    Attributes:
        onwards: all calls after that one fail as well.
        one_in: if given, `nth` says nothing: any call of the tool fails, one in so many, as the
            tape draws it. In the undisturbed run none does.
    """

    tool: str
    nth: int = 1
    error: str = "RuntimeError"
    onwards: bool = False
    one_in: int | None = None


@dataclass(frozen=True, slots=True)
class Toxic:
    """What is wrong with the network between the stages and the services that they call.

    Attributes:
        type: one of `TOXICS`, with the meaning that Toxiproxy gives it.
        attributes: whole numbers; what is left out is 0.
        stream: "downstream", what the service sends, or "upstream", what is sent to it.
    """

    type: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    stream: str = "downstream"


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The machine's wall clock is set: from `at_s` on it is `by_s` further on than it was.

    A step at 0 is a clock that was wrong all the time. Clocks that only count on
    (`time.monotonic`, the loop's own) are never set.
    """

    at_s: float
    by_s: float


@dataclass(frozen=True, slots=True)
class Sink:
    """The event sink that all runs share, behind the engine's own queue, and what is asked of
    that queue.

    Attributes:
        delivery_s: how long the sink takes for each event.
        error: what it raises, or None; `error_every` says at each how many-th event.
        hangs_at: the number (from 1) of the event at which it hangs for ever, or None.
        queue_max: the queue's capacity to be asked of the engine, or None for its default.
        policy: what the engine is to do when the queue is full, or "" for its default.
        drain_s: how long the engine may take to drain the queue at the run's end.
        block_s: how long a producer may be kept waiting, under policy "block", by a sink that
            takes nothing; None for the engine's default, which then is only not to be for ever.
        spill_max: how many events may wait on disk, under policy "spill", or None for the
            engine's default.
    """

    delivery_s: float = 0.0
    error: str | None = None
    error_every: int = 1
    hangs_at: int | None = None
    queue_max: int | None = None
    policy: str = ""
    drain_s: float = 1.0
    block_s: float | None = None
    spill_max: int | None = None


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who consumes a stage's partial results while the run goes on.

    Attributes:
        stage: whose.
        every_s: how long the consumer takes for each.
        stop_after: how many it takes before it stops consuming, or None for all.
        buffer_max: how many may wait for it, to be asked of the engine.
    """

    stage: str
    every_s: float = 0.0
    stop_after: int | None = None
    buffer_max: int = 16


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer (middleware, interceptor) around stages, in order of declaration: outermost first.

    Attributes:
        kind: "observe" (a layer of the user's that looks on), "raise" (one that fails), "deny"
            (a guard of the user's that denies), or one of the engine's own: "circuit_breaker",
            "rate_limit", "idempotency".
        stages: those around which it is put; none named means all.
        phase: of "raise": "before" or "after" the stage.
        error: of "raise": what is raised.
        runs: of "raise" and "deny": the runs for which it does so; none named means all.
        options: of the engine's own: threshold, reset_s, limit, window_s, key.
    """

    kind: str
    name: str
    stages: tuple[str, ...] = ()
    phase: str = "before"
    error: str = "RuntimeError"
    runs: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """The circumstances of one scenario.

    Attributes:
        stage_timeout_s: the timeout, in seconds, of every stage that declares none, or None.
        cleanup_grace_s: how long cleanups may take in all before an engine may give up on them.
        on_failure: the declared policy for siblings of a stage that fails or times out:
            "cancel" (they are cancelled and awaited) or "continue".
        sink: the event sink, or None for one that takes everything at once.
        consumer: of a stage's partial results, or None.
        layers: around stages.
        toxics: of the network to the services that `call` steps use.
        clock_steps: of the engine's wall clock.
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
    sink: Sink | None = None
    consumer: Consumer | None = None
    layers: tuple[Layer, ...] = ()
    toxics: tuple[Toxic, ...] = ()
    clock_steps: tuple[ClockStep, ...] = ()
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
        for name in ("sink", "consumer"):
            one = getattr(self, name)
            if one is not None:
                out[name] = _without_defaults(one)
        for name in _RECORDS:
            items = getattr(self, name)
            if items != getattr(default, name):
                out[name] = [_without_defaults(item) for item in items]
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
        for name, kind in _RECORDS.items():
            if name in args:
                args[name] = _records(kind, args[name], where=f"{where}.{name}")
        for name, kind in (("sink", Sink), ("consumer", Consumer)):
            if args.get(name) is not None:
                args[name] = _record(kind, args[name], where=f"{where}.{name}")
        for known in fields(cls):
            if known.name in args and known.type in _TYPES:
                _typed(known.type, args[known.name], f"{where}.{known.name}")
        plan = cls(**args)
        _check(plan, where)
        return plan


_RECORDS: dict[str, type] = {
    "runs": RunSpec,
    "cancels": Cancel,
    "faults": Fault,
    "layers": Layer,
    "toxics": Toxic,
    "clock_steps": ClockStep,
}


def _without_defaults(one: Any) -> dict[str, Any]:
    """Return a record's fields as plain data, those that have their default's value left out."""
    out: dict[str, Any] = {}
    for known in fields(one):
        value = getattr(one, known.name)
        default = known.default if known.default_factory is MISSING else known.default_factory()
        if value != default:
            out[known.name] = list(value) if isinstance(value, tuple) else value
    return out


def _records(kind: type, items: object, *, where: str) -> tuple[Any, ...]:
    if not isinstance(items, (list, tuple)):
        raise InputError(f"{where}: expected a list")
    return tuple(_record(kind, item, where=f"{where}[{i}]") for i, item in enumerate(items))


def _record(kind: type, item: object, *, where: str) -> Any:
    if not isinstance(item, Mapping):
        raise InputError(f"{where}: expected an object")
    unknown = set(item) - set(kind.__slots__)  # type: ignore[attr-defined]
    if unknown:
        raise InputError(f"{where}: unknown field {sorted(unknown)[0]!r}")
    for known in fields(kind):
        if known.name in item:
            _typed(known.type, item[known.name], f"{where}.{known.name}")
        elif known.default is MISSING and known.default_factory is MISSING:
            raise InputError(f"{where}: it needs {known.name!r}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in item.items()})


# A field's annotation -> what is expected in JSON, and of which types it is.
_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "str": ("a text", (str,)),
    "bool": ("true or false", (bool,)),
    "int": ("a whole number", (int,)),
    "float": ("a number", (int, float)),
    "Mapping[str, Any]": ("an object", (Mapping,)),
    "tuple[str, ...]": ("a list of texts", (list, tuple)),
}


def _typed(annotation: object, value: object, where: str) -> None:
    """Check the type of a field's value; what it may be is for `_check`."""
    wanted = str(annotation).removesuffix(" | None")
    if value is None and wanted != annotation:
        return
    expected, types = _TYPES[wanted]
    right = isinstance(value, types) and (bool in types or not isinstance(value, bool))
    if right and wanted == "tuple[str, ...]":
        right = all(isinstance(one, str) for one in value)  # type: ignore[attr-defined]
    if not right:
        raise InputError(f"{where}: expected {expected}, got {value!r}")


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
    if limit is not None and LIMIT_TIMEOUT_S < abs(limit) < math.inf:
        raise InputError(
            f"{where}.stage_timeout_s: expected at most {LIMIT_TIMEOUT_S:g} s, got more"
        )
    for i, run in enumerate(plan.runs):
        _number(run.start_s, 0, 1e6, f"{where}.runs[{i}].start_s")
    deadlines: set[str] = set()
    for i, cancel in enumerate(plan.cancels):
        at = f"{where}.cancels[{i}]"
        _check_way(cancel, at)
        top = cancel.run.split("/", 1)[0] if cancel.target == "stage" else cancel.run
        if top not in ids:
            raise InputError(f"{at}.run: no run {cancel.run!r} in the plan")
        if cancel.by != "cancel" and cancel.run in deadlines:
            raise InputError(f"{at}.by: run {cancel.run!r} has a deadline already")
        deadlines |= {cancel.run} if cancel.by != "cancel" else set()
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
        if fault.one_in is not None:
            _number(fault.one_in, 2, 1e6, f"{where}.faults[{i}].one_in")
    for i, toxic in enumerate(plan.toxics):
        _check_toxic(toxic, f"{where}.toxics[{i}]")
    for i, step in enumerate(plan.clock_steps):
        _number(step.at_s, 0, 1e6, f"{where}.clock_steps[{i}].at_s")
        _number(step.by_s, -1e6, 1e6, f"{where}.clock_steps[{i}].by_s")
    _check_surroundings(plan, ids, where)


def _check_way(cancel: Cancel, at: str) -> None:
    if cancel.target not in TARGETS:
        raise InputError(f"{at}.target: expected {' or '.join(TARGETS)}, got {cancel.target!r}")
    if (cancel.target == "stage") != bool(cancel.stage):
        raise InputError(f"{at}.stage: a cancel of target 'stage', and no other, names one")
    if cancel.by not in WAYS:
        raise InputError(f"{at}.by: expected {', '.join(WAYS)}, got {cancel.by!r}")
    if cancel.by != "cancel" and (cancel.target != "run" or cancel.at_s is None):
        raise InputError(f"{at}.by: {cancel.by!r} ends a run, at a time at_s")
    if cancel.by != "cancel" and cancel.times != 1:
        raise InputError(f"{at}.times: a deadline expires once, got {cancel.times}")


def _check_toxic(toxic: Toxic, at: str) -> None:
    if toxic.type not in TOXICS:
        raise InputError(f"{at}.type: expected one of {', '.join(TOXICS)}, got {toxic.type!r}")
    if toxic.stream not in DIRECTIONS:
        known = " or ".join(DIRECTIONS)
        raise InputError(f"{at}.stream: expected {known}, got {toxic.stream!r}")
    if not isinstance(toxic.attributes, Mapping):
        raise InputError(f"{at}.attributes: expected an object, got {toxic.attributes!r}")
    for name, value in toxic.attributes.items():
        if name not in TOXICS[toxic.type]:
            known = ", ".join(TOXICS[toxic.type])
            raise InputError(f"{at}.attributes: {toxic.type} has no {name!r}; it has: {known}")
        if type(value) is not int or not 0 <= value <= 10**9:
            raise InputError(f"{at}.attributes.{name}: expected a whole number, got {value!r}")


def _check_surroundings(plan: Plan, ids: list[str], where: str) -> None:
    for i, run in enumerate(plan.runs):
        at = f"{where}.runs[{i}]"
        if run.redrives and run.redrives not in ids[:i]:
            raise InputError(f"{at}.redrives: no earlier run {run.redrives!r} in the plan")
        if not isinstance(run.inputs, Mapping):
            raise InputError(f"{at}.inputs: expected an object, got {run.inputs!r}")
    sink, consumer = plan.sink, plan.consumer
    if sink is not None:
        _number(sink.delivery_s, 0, 1e6, f"{where}.sink.delivery_s")
        _number(sink.drain_s, 0, 1e6, f"{where}.sink.drain_s")
        _number(sink.error_every, 1, 1e6, f"{where}.sink.error_every")
        if sink.block_s is not None:
            _number(sink.block_s, 0, 1e6, f"{where}.sink.block_s")
        for name in ("hangs_at", "queue_max", "spill_max"):
            if getattr(sink, name) is not None:
                _number(getattr(sink, name), 1, 1e6, f"{where}.sink.{name}")
        if sink.error is not None and sink.error not in ERRORS:
            raise InputError(f"{where}.sink.error: expected one of {', '.join(ERRORS)}")
        if sink.policy not in POLICIES:
            known = ", ".join(p for p in POLICIES if p)
            raise InputError(f"{where}.sink.policy: expected {known}, got {sink.policy!r}")
    if consumer is not None:
        _number(consumer.every_s, 0, 1e6, f"{where}.consumer.every_s")
        _number(consumer.buffer_max, 1, 1e6, f"{where}.consumer.buffer_max")
        if consumer.stop_after is not None:
            _number(consumer.stop_after, 0, 1e6, f"{where}.consumer.stop_after")
    for i, layer in enumerate(plan.layers):
        at = f"{where}.layers[{i}]"
        if layer.kind not in LAYER_KINDS:
            known = ", ".join(LAYER_KINDS)
            raise InputError(f"{at}.kind: expected one of {known}, got {layer.kind!r}")
        if layer.phase not in ("before", "after"):
            raise InputError(f"{at}.phase: expected before or after, got {layer.phase!r}")
        if layer.error not in ERRORS:
            raise InputError(f"{at}.error: expected one of {', '.join(ERRORS)}")


def _runs_at_once(plan: Plan) -> bool:
    """Say whether any runs may overlap: a redrive begins when what it redrives is over."""
    redriven = [run.redrives for run in plan.runs if run.redrives]
    return len(plan.runs) - len(redriven) > 1 or len(set(redriven)) < len(redriven)


def required_capabilities(program: Program, plan: Plan) -> frozenset[str]:
    """Return every engine capability that running `program` under `plan` needs."""
    needs = set(needed_capabilities(program))
    if plan.stage_timeout_s is not None:
        needs.add("stage_timeout")
    if plan.on_failure == "continue":
        needs.add("continue_on_failure")
    if _runs_at_once(plan):
        needs.add("concurrent_runs")
    if plan.sink is not None:
        needs.add("events")
        if plan.sink.queue_max is not None or plan.sink.policy:
            needs.add("event_queue")
    if plan.consumer is not None:
        needs.add("stream_consumer")
    if any(run.inputs for run in plan.runs):
        needs.add("run_inputs")
    if any(run.redrives for run in plan.runs):
        needs.add("checkpoint")
    if any(run.traceparent for run in plan.runs):
        needs.add("trace_context")
    needs |= {LAYER_KINDS[layer.kind] for layer in plan.layers}
    return frozenset(needs)
