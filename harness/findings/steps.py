"""Reading a program's steps as plain data: what a stage does, in words and in counts.

Reports describe stages from here and from nowhere else, so that no hand-written table
can drift away from what is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = [
    "arguments",
    "count_lines",
    "is_cancelling",
    "is_failing",
    "limit_of",
    "outlives",
    "purpose_of",
    "steps_of",
    "walk",
]

Step = Mapping[str, Any]


def arguments(step: Step) -> Mapping[str, Any]:
    """Return a step's arguments, whether they lie beside `op` or under `args`."""
    nested = step.get("args")
    return nested if isinstance(nested, Mapping) else step


def steps_of(stage: Mapping[str, Any]) -> Sequence[Step]:
    steps: Sequence[Step] = stage.get("steps", ())
    return steps


def walk(steps: Sequence[Step]) -> Iterator[Step]:
    """Yield every step, those of nested blocks included, those of subpipelines not."""
    for step in steps:
        yield step
        args = arguments(step)
        for key in ("steps", "otherwise"):
            yield from walk(args.get(key) or ())
        for branch in args.get("branches") or ():
            yield from walk(branch)


def count_lines(steps: Sequence[Step]) -> int:
    """Return the number of lines that the steps take when written one a line."""
    lines = 0
    for step in walk(steps):
        lines += 1
        program = arguments(step).get("program")
        if isinstance(program, Mapping):
            lines += sum(1 + count_lines(steps_of(s)) for s in program.get("stages", ()))
    return lines


def is_failing(steps: Sequence[Step]) -> bool:
    return any(
        s["op"] in ("fail", "raise")
        or (s["op"] == "call" and arguments(s).get("error"))
        or arguments(s).get("fails")
        for s in walk(steps)
    )


def is_cancelling(steps: Sequence[Step]) -> bool:
    return any(s["op"] in ("cancel_run", "cancel_branch") for s in walk(steps))


def limit_of(stage: Mapping[str, Any], plan: Mapping[str, Any]) -> Any:
    """Return the timeout that applies to a stage, in seconds, or None."""
    own = stage.get("timeout_s")
    return plan.get("stage_timeout_s") if own is None else own


def outlives(stage: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    """Say whether the stage's own steps may take as long as its timeout, or longer."""
    limit = limit_of(stage, plan)
    if not isinstance(limit, (int, float)):
        return False
    steps = list(walk(steps_of(stage)))
    if any(s["op"] == "never" for s in steps):
        return True
    total = 0.0
    for step in steps_of(stage):
        if step["op"] in ("sleep", "thread", "call"):
            total += longest(arguments(step).get("seconds"))
        elif step["op"] == "generate":
            args = arguments(step)
            total += longest(args.get("every_s")) * args.get("items", 0)
    return total >= limit


def longest(duration: Any) -> float:
    if isinstance(duration, (list, tuple)):
        return max((longest(d) for d in duration), default=0.0)
    return float(duration) if isinstance(duration, (int, float)) else 0.0


_PHRASES = {
    "sleep": "sleeps {seconds} s",
    "allocate": "takes {megabytes} MB of memory",
    "compensate": "declares compensation {name}",
    "flaky": "fails in its first {times} executions",
    "flood": "emits {count} events as {producer}",
    "identify": "records whose work it does",
    "input": "reads the run's own input",
    "log": "writes a log record",
    "store": "writes into the engine's store",
    "trespass": "tries to get at another tenant's rows",
    "yield": "gives the loop a turn",
    "acquire": "holds {name}, released in a finally",
    "release": "releases {name} early",
    "using": "holds {name} by a context manager",
    "cleanup": "registers cleanup {name} with the engine",
    "generate": "iterates async generator {name} of {items} items",
    "chunk": "hands on a partial result",
    "emit": "emits event {type}",
    "read": "reads the output of {stage}",
    "mutate": "tries to change the output of {stage}",
    "call": "calls tool {tool}",
    "parallel": "runs branches side by side",
    "spawn": "starts task {name}",
    "thread": "blocks a worker thread",
    "heartbeat": "sends heartbeats",
    "timeout": "sets its own timeout {label}",
    "subpipeline": "runs a subpipeline",
    "context": "records what its context offers",
    "ok": "returns a value",
    "fail": "reports a failure",
    "raise": "raises {error}",
    "cancel_run": "asks to end the run",
    "cancel_branch": "asks to end its branch",
    "skip": "finishes as skipped",
    "swallow": "swallows cancellations",
    "never": "never returns by itself",
}


KEYS = (
    *("seconds", "name", "items", "type", "stage", "tool", "label", "error"),
    *("megabytes", "times", "count", "producer"),
)


def purpose_of(steps: Sequence[Step]) -> str:
    """Say in words what a stage does, each kind of step once."""
    phrases: dict[str, None] = {}
    for step in walk(steps):
        args = arguments(step)
        phrase = _PHRASES.get(step["op"], str(step["op"]))
        for key in KEYS:
            if "{" + key + "}" in phrase:
                phrase = phrase.replace("{" + key + "}", _shown(args.get(key, "ValueError")))
        phrases[phrase] = None
    return "; ".join(phrases) or "returns at once"


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " or ".join(_shown(v) for v in value)
    return str(value)
