"""The step language: what a stage of a program does, as plain data.

A step is an operation name and its arguments. The table `OPS` is the language:
each entry says which arguments there are, of what shape, and what the step means.
Everything else (validation, JSON, the interpreter, the script renderers, the
documentation) is derived from or checked against this table.

A *duration* is a number of seconds, or a list of such numbers: then the tape
chooses one of them at each execution (ties and the timeout itself are put in a
list on purpose). A *block* is a list of steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.kernel.errors import InputError

__all__ = ["OPS", "Field", "OpSpec", "Step", "blocks", "parse_block", "parse_step", "step", "walk"]

LIMIT_SECONDS = 86_400.0
LIMIT_STEPS = 10_000

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Field:
    """One argument of an operation: its shape, and its default where it has one."""

    shape: str
    default: Any = _MISSING
    choices: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        return self.default is _MISSING


@dataclass(frozen=True, slots=True)
class OpSpec:
    """One operation: its meaning, its arguments, the engine capability it needs (or none)."""

    meaning: str
    fields: Mapping[str, Field]
    needs: str | None = None
    ends: bool = False


def _f(shape: str, default: Any = _MISSING, *choices: str) -> Field:
    return Field(shape, default, choices)


OPS: dict[str, OpSpec] = {
    "sleep": OpSpec("await a timer", {"seconds": _f("duration")}),
    "yield": OpSpec("give the loop a turn, `times` times", {"times": _f("count", 1)}),
    "acquire": OpSpec(
        "take a resource, held to the end of the block and released in a `finally`; "
        "an async cleanup awaits `cleanup_s`, a failing one raises at its end",
        {
            "name": _f("name"),
            "cleanup": _f("choice", "async", "async", "sync"),
            "cleanup_s": _f("duration", 0),
            "fails": _f("flag", False),
        },
    ),
    "release": OpSpec("release a resource of this block early", {"name": _f("name")}),
    "using": OpSpec(
        "hold a resource by an `async with` over the block",
        {
            "name": _f("name"),
            "cleanup_s": _f("duration", 0),
            "fails": _f("flag", False),
            "steps": _f("block"),
        },
    ),
    "cleanup": OpSpec(
        "register a cleanup with the engine's own registry",
        {
            "name": _f("name"),
            "cleanup_s": _f("duration", 0),
            "fails": _f("flag", False),
            "identify": _f("flag", False),
        },
        needs="cleanup_registry",
    ),
    "generate": OpSpec(
        "iterate an async generator of `items` items, one each `every_s`, kept by the stage",
        {"name": _f("name"), "items": _f("count"), "every_s": _f("duration", 0)},
    ),
    "chunk": OpSpec(
        "hand a partial result to the engine's stream", {"value": _f("value")}, needs="streaming"
    ),
    "emit": OpSpec(
        "emit an event through the engine",
        {"type": _f("name"), "data": _f("value", None)},
        needs="events",
    ),
    "flood": OpSpec(
        "emit `count` events through the engine, one each `every_s`, numbered from 0 under the "
        "producer's name, and look at the engine's own account of them after each",
        {"producer": _f("name"), "count": _f("count"), "every_s": _f("duration", 0)},
        needs="events",
    ),
    "input": OpSpec(
        "read the run's own input `key`; what `marker` gives takes the place of the text "
        '"$marker" in the values, events, chunks, messages and log records of later steps',
        {"key": _f("name", "marker")},
        needs="run_inputs",
    ),
    "identify": OpSpec(
        "record for whom, by the engine's word, the code at this place works: run, tenant, "
        "correlation and trace ids",
        {"place": _f("name", "stage")},
        needs="identity",
    ),
    "log": OpSpec(
        "write a log record as the engine has its users do it",
        {"message": _f("text")},
        needs="log_records",
    ),
    "store": OpSpec(
        "write a value into the engine's store, under the run's tenant; the key may hold "
        '"$marker" as well',
        {"key": _f("name"), "value": _f("value")},
        needs="tenant_store",
    ),
    "trespass": OpSpec(
        "try, in the run's own session with the engine's store, to get at the rows of another "
        'tenant, in the way of that name; "$other" is the first other tenant of the plan, and '
        "nothing is tried on the run's own",
        {"how": _f("name"), "tenant": _f("name")},
        needs="tenant_store",
    ),
    "compensate": OpSpec(
        "declare what undoes this stage, once it has completed, if the run fails later",
        {"name": _f("name"), "seconds": _f("duration", 0), "fails": _f("flag", False)},
        needs="compensation",
    ),
    "flaky": OpSpec(
        "raise in the first `times` executions of the stage, over retries and redrives together; "
        "go on in later ones",
        {
            "times": _f("count", 1),
            "error": _f("error", "RuntimeError"),
            "message": _f("text", "flaky"),
        },
    ),
    "read": OpSpec(
        "read the output `key` of a stage that this one needs",
        {"stage": _f("name"), "key": _f("name", "value")},
        needs="inputs",
    ),
    "mutate": OpSpec(
        "try to change in place the output that was read from a stage",
        {"stage": _f("name"), "key": _f("name", "value")},
        needs="inputs",
    ),
    "call": OpSpec(
        "call a mock tool that takes `seconds`, gives the stage `chunks` items on the way, "
        "holds a resource with a cleanup of `cleanup_s`, and fails if told to; "
        "`timeout_s` is the engine's own timeout for this call",
        {
            "tool": _f("name"),
            "seconds": _f("duration", 0),
            "timeout_s": _f("duration", None),
            "chunks": _f("count", 0),
            "holds": _f("flag", False),
            "cleanup_s": _f("duration", 0),
            "error": _f("error", None),
        },
    ),
    "parallel": OpSpec(
        "run the branches as tasks of the stage's own and await them all; "
        "a failing branch cancels the others",
        {"branches": _f("blocks")},
    ),
    "spawn": OpSpec(
        "start a task of the stage's own; not awaited unless `join` is set at the block's end",
        {"name": _f("name"), "join": _f("flag", True), "steps": _f("block")},
    ),
    "thread": OpSpec(
        "block a worker thread and await it; with `identify`, record there for whom it works",
        {"seconds": _f("duration"), "identify": _f("flag", False)},
    ),
    "heartbeat": OpSpec("tell the engine that the stage is alive", {}, needs="heartbeat"),
    "timeout": OpSpec(
        "run the block under the stage's own `asyncio.timeout`; on expiry run `otherwise`",
        {
            "label": _f("name"),
            "seconds": _f("duration"),
            "steps": _f("block"),
            "otherwise": _f("block", ()),
        },
    ),
    "subpipeline": OpSpec(
        "run another program as a child of this run and await it",
        {"program": _f("program"), "keep": _f("flag", False)},
        needs="subpipeline",
    ),
    "context": OpSpec("record what the context offers a stage", {}, needs="context"),
    "ok": OpSpec(
        'finish with a value; the text "$items" stands for the list of items that generators '
        "and tools gave this stage so far",
        {"value": _f("value", None)},
        ends=True,
    ),
    "fail": OpSpec(
        "finish by telling the engine of a failure", {"message": _f("text", "failed")}, ends=True
    ),
    "raise": OpSpec(
        "raise an exception",
        {"error": _f("error", "ValueError"), "message": _f("text", "raised")},
        ends=True,
    ),
    "cancel_run": OpSpec(
        "ask the engine to end the run",
        {"reason": _f("text", "cancelled")},
        needs="cancel_run",
        ends=True,
    ),
    "cancel_branch": OpSpec(
        "ask the engine to skip what depends on this stage",
        {"reason": _f("text", "cancelled")},
        needs="cancel_branch",
        ends=True,
    ),
    "skip": OpSpec("finish as skipped", {"reason": _f("text", "skipped")}, needs="skip", ends=True),
    "swallow": OpSpec(
        "run the block and swallow up to `times` cancellations, each time running it again",
        {"times": _f("count", 1), "steps": _f("block")},
    ),
    "allocate": OpSpec(
        "take up to so many megabytes of memory, which are more than the process may have",
        {"megabytes": _f("count", 10_000)},
    ),
    "never": OpSpec("await something that never comes", {}),
}

ERRORS = ("ValueError", "RuntimeError", "KeyError", "OSError", "TimeoutError", "CancelledError")


@dataclass(frozen=True, slots=True)
class Step:
    """One step: an operation of `OPS` and all its arguments, defaults filled in."""

    op: str
    args: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the step as JSON-able data, arguments that equal their default left out."""
        out: dict[str, Any] = {"op": self.op}
        for name, field in OPS[self.op].fields.items():
            value = self.args[name]
            if not field.required and value == field.default:
                continue
            out[name] = _plain(value)
        return out


def step(op: str, **args: Any) -> Step:
    """Make one checked step.

    Raises:
        InputError: if the operation or an argument is not of the language.
    """
    return parse_step({"op": op, **args}, where=op)


def _plain(value: Any) -> Any:
    if isinstance(value, Step):
        return value.to_json()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "to_json"):
        return value.to_json()
    return value


def parse_step(data: object, *, where: str) -> Step:
    """Check one step given as JSON data (or as a `Step`) and fill in its defaults.

    Raises:
        InputError: naming the place (`where`), the argument, what was expected and what came.
    """
    if isinstance(data, Step):
        return data
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: a step is an object with 'op', not {type(data).__name__}")
    op = data.get("op")
    if not isinstance(op, str) or op not in OPS:
        raise InputError(f"{where}: unknown step {op!r}; known: {', '.join(sorted(OPS))}")
    spec = OPS[op]
    unknown = set(data) - {"op"} - set(spec.fields)
    if unknown:
        raise InputError(
            f"{where}: step {op!r} has no argument {sorted(unknown)[0]!r}; "
            f"it has: {', '.join(spec.fields) or 'none'}"
        )
    args: dict[str, Any] = {}
    for name, field in spec.fields.items():
        if name not in data:
            if field.required:
                raise InputError(f"{where}: step {op!r} needs {name!r}")
            args[name] = field.default
            continue
        if not field.required and data[name] == field.default and data[name] is None:
            args[name] = None
            continue
        args[name] = _parse_field(field, data[name], where=f"{where}.{name}")
    return Step(op, args)


def parse_block(data: object, *, where: str) -> tuple[Step, ...]:
    """Check a list of steps. Raises `InputError` as `parse_step` does."""
    if not isinstance(data, Sequence) or isinstance(data, (str, bytes)):
        raise InputError(f"{where}: expected a list of steps, not {type(data).__name__}")
    return tuple(parse_step(item, where=f"{where}[{i}]") for i, item in enumerate(data))


def parse_duration(value: object, *, where: str) -> float | tuple[float, ...]:
    """Check a duration in seconds, or a non-empty list of such durations to choose from."""
    if isinstance(value, (list, tuple)):
        if not value:
            raise InputError(f"{where}: a list of durations must not be empty")
        return tuple(_parse_seconds(item, where=where) for item in value)
    return _parse_seconds(value, where=where)


def _parse_seconds(value: object, *, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{where}: expected seconds as a number, got {value!r}")
    if not 0 <= value <= LIMIT_SECONDS:  # which no NaN is
        raise InputError(f"{where}: expected seconds from 0 to {LIMIT_SECONDS:g}, got {value!r}")
    return float(value)


def _parse_field(field: Field, value: object, *, where: str) -> Any:
    match field.shape:
        case "duration":
            return parse_duration(value, where=where)
        case "count":
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10_000:
                raise InputError(f"{where}: expected a whole number from 0 to 10000, got {value!r}")
            return value
        case "flag":
            if not isinstance(value, bool):
                raise InputError(f"{where}: expected true or false, got {value!r}")
            return value
        case "name":
            if not isinstance(value, str) or not value or len(value) > 100:
                raise InputError(f"{where}: expected a name of 1 to 100 characters, got {value!r}")
            return value
        case "text":
            if not isinstance(value, str) or len(value) > 10_000:
                raise InputError(f"{where}: expected a text of at most 10000 characters")
            return value
        case "choice":
            if value not in field.choices:
                raise InputError(
                    f"{where}: expected one of {', '.join(field.choices)}, got {value!r}"
                )
            return value
        case "error":
            if value not in ERRORS:
                raise InputError(f"{where}: expected one of {', '.join(ERRORS)}, got {value!r}")
            return value
        case "block":
            return parse_block(value, where=where)
        case "blocks":
            if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
                raise InputError(f"{where}: expected a list of lists of steps")
            return tuple(parse_block(b, where=f"{where}[{i}]") for i, b in enumerate(value))
        case "program":
            from harness.kernel.program import Program  # a program holds steps that hold programs

            if isinstance(value, Program):
                return value
            return Program.from_json(value, where=where)
        case _:
            return _parse_value(value, where=where)


def _parse_value(value: object, *, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_parse_value(v, where=where) for v in value]
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {k: _parse_value(v, where=where) for k, v in value.items()}
    raise InputError(f"{where}: expected plain JSON data, got {type(value).__name__}")


def walk(block: Sequence[Step]) -> Iterator[Step]:
    """Yield every step of a block, nested blocks included, subpipelines' programs not."""
    for one in block:
        yield one
        for part in blocks(one):
            yield from walk(part)


def blocks(one: Step) -> Iterator[Sequence[Step]]:
    """Yield the blocks that a step is made of, a subpipeline's program not."""
    for name, field in OPS[one.op].fields.items():
        if field.shape == "block":
            yield one.args[name]
        elif field.shape == "blocks":
            yield from one.args[name]
