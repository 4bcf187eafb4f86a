"""What is simpler than a program, plan and tape: the edits that shrinking tries.

They work on plain JSON data, because an edit may give something that is no program at all;
`Program.from_json` and `Plan.from_json` then say so before anything is run. Every edit makes
its case strictly simpler, so that shrinking ends. Nothing here knows why a case is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.steps import OPS, Step

__all__ = [
    "DURATIONS",
    "FIRST_RUN",
    "Path",
    "as_by_default",
    "at",
    "begun_at_once",
    "blocks_in",
    "edited",
    "in_less_time",
    "joined",
    "lower_numbers",
    "merged",
    "numbers_in",
    "plainer",
    "programs_in",
    "size_of",
    "sleeps_in",
    "turns",
    "unsound",
    "waiting_instead",
    "with_merged_sleeps",
    "without_items",
    "without_sleeps",
    "without_stages",
    "without_time",
]

Path = tuple[str | int, ...]

# Round seconds and counts; a number is only ever replaced by a smaller one of these, or by
# itself to one or two digits.
GRID = (0, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 30, 60)
FIRST_RUN = "r0"
# What takes time, and limits nothing.
DURATIONS = ("seconds", "every_s", "cleanup_s", "delivery_s", "start_s", "backoff_s", "jitter_s")
LIMITS_AND_MOMENTS = ("timeout_s", "idle_timeout_s", "stage_timeout_s", "at_s", "gap_s")
# Of the loop's turns, what a step takes is at most so many for it to be said plainly.
TURNS_MAX = 4
MAY_TAKE_TURNS = frozenset({"subpipeline", "spawn", "parallel", "swallow", "timeout", "call"})
INTENDED_FAILURES = ("raise", "fail", "never", "flaky")


def at(data: Any, path: Path) -> Any:
    """Return what lies at a path."""
    for key in path:
        data = data[key]
    return data


def edited(data: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    """Return the data with what lies at a path changed; the rest is shared, not copied."""
    if not path:
        return change(data)
    key, rest = path[0], path[1:]
    if isinstance(data, Mapping):
        return {**data, key: edited(data[key], rest, change)}
    out = list(data)
    assert isinstance(key, int)  # paths are made by walking the same data
    out[key] = edited(out[key], rest, change)
    return out


def without_items(items: Sequence[Any], start: int, count: int) -> list[Any]:
    """Return a list without `count` items from `start` on."""
    return [*items[:start], *items[start + count :]]


def as_by_default(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan of one run with that called as runs are by default, and begun at once: what
    the plan says of it is said of that name, and of times that come so much earlier."""
    (run,) = plan["runs"]
    name, start_s = run.get("id", FIRST_RUN), run.get("start_s", 0)
    out = {**plan, "runs": [{k: v for k, v in run.items() if k not in ("id", "start_s")}]}
    for part in ("cancels", "clock_steps"):
        if part in plan:
            out[part] = [_of_first(one, name, start_s) for one in plan[part]]
    if "layers" in plan:
        out["layers"] = [
            {**one, "runs": [FIRST_RUN if run == name else run for run in one["runs"]]}
            if one.get("runs")
            else one
            for one in plan["layers"]
        ]
    return out


def begun_at_once(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan of several runs with all times so much earlier that the first one begins at
    once."""
    since_s = min(run.get("start_s", 0) for run in plan["runs"])
    out = {**plan}
    for part, name in (("runs", "start_s"), ("cancels", "at_s"), ("clock_steps", "at_s")):
        if part in plan:
            out[part] = [
                {**one, name: round(one[name] - since_s, 6)} if one.get(name) is not None else one
                for one in plan[part]
            ]
    return out


def _of_first(one: Mapping[str, Any], name: str, start_s: float) -> dict[str, Any]:
    out = dict(one)
    if one.get("at_s") is not None:
        out["at_s"] = round(one["at_s"] - start_s, 6)
    run, slash, child = one.get("run", FIRST_RUN).partition("/")
    if run == name and (slash or "run" in one):
        out["run"] = f"{FIRST_RUN}{slash}{child}"
    return out


def programs_in(program: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the path of the program itself, then of each subpipeline's, outermost first."""
    yield ()
    for block in blocks_in(program):
        for i, one in enumerate(at(program, block)):
            if one["op"] == "subpipeline":
                yield (*block, i, "program")


def blocks_in(program: Mapping[str, Any], base: Path = ()) -> Iterator[Path]:
    """Yield the path of every block of steps, outer ones first, subpipelines' too."""
    for i, stage in enumerate(at(program, base)["stages"]):
        block: Path = (*base, "stages", i, "steps")
        if stage.get("steps"):
            yield from _blocks_from(program, block)


def _blocks_from(program: Mapping[str, Any], block: Path) -> Iterator[Path]:
    yield block
    for i, one in enumerate(at(program, block)):
        for name, spec in OPS[one["op"]].fields.items():
            if not one.get(name):
                continue
            here: Path = (*block, i, name)
            if spec.shape == "block":
                yield from _blocks_from(program, here)
            elif spec.shape == "blocks":
                for j in range(len(one[name])):
                    yield from _blocks_from(program, (*here, j))
            elif spec.shape == "program":
                yield from blocks_in(program, here)


def without_stages(
    program: Mapping[str, Any], start: int, count: int, *, bridged: bool
) -> dict[str, Any]:
    """Return a program without some stages, their edges, and the steps that read from them.

    Args:
        bridged: what needed a dropped stage needs what that one needed instead.
    """
    stages = program["stages"]
    gone = {s["name"]: s.get("needs", ()) for s in stages[start : start + count]}
    kept = []
    for stage in without_items(stages, start, count):
        if gone.keys() & set(stage.get("needs", ())):
            needs = _bridged(stage["needs"], gone) if bridged else stage["needs"]
            stage = {**stage, "needs": [n for n in needs if n not in gone]}
            if not stage["needs"]:
                del stage["needs"]
            stage["steps"] = _without_reads(stage.get("steps", ()), gone)
        kept.append(stage)
    return {**program, "stages": kept}


def _bridged(needs: Sequence[str], gone: Mapping[str, Sequence[str]]) -> list[str]:
    found: dict[str, None] = {}
    passed: set[str] = set()
    waiting = list(needs)
    while waiting:
        one = waiting.pop(0)
        if one not in gone:
            found[one] = None
        elif one not in passed:
            passed.add(one)
            waiting += gone[one]
    return list(found)


def _without_reads(block: Sequence[Any], gone: Mapping[str, Any]) -> list[Any]:
    kept = []
    for one in block:
        spec = OPS[one["op"]].fields
        if one["op"] in ("read", "mutate") and one["stage"] in gone:
            continue
        changed = dict(one)
        for name, field in spec.items():
            if field.shape == "block" and one.get(name):
                changed[name] = _without_reads(one[name], gone)
            elif field.shape == "blocks" and one.get(name):
                changed[name] = [_without_reads(b, gone) for b in one[name]]
        kept.append(changed)
    return kept


def joined(program: Mapping[str, Any], first: int, last: int) -> Iterator[dict[str, Any]]:
    """Yield a program with one stage in the place of two, which does what they did, one part
    after the other; nothing if either has settings of its own, or is read by name."""
    stages = program["stages"]
    one, other = stages[first], stages[last]
    if not {*one, *other} <= {"name", "needs", "steps"} or _is_read(program, (one, other)):
        return
    names = {one["name"], other["name"]}
    needs = list(dict.fromkeys((*one.get("needs", ()), *other.get("needs", ()))))
    for a, b in ((one, other), (other, one)):
        steps = list(a.get("steps", ()))
        if steps and steps[-1]["op"] == "ok":
            steps.pop()
        if any(OPS[step["op"]].ends for step in steps):
            continue
        whole = {"name": a["name"], "steps": [*steps, *b.get("steps", ())]}
        needed = [n for n in needs if n not in names]
        if needed:
            whole["needs"] = needed
        kept = [_needing(s, names, a["name"]) for s in stages if s["name"] not in names]
        kept.insert(first, whole)
        yield {**program, "stages": kept}


def _is_read(program: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> bool:
    said = repr(program)
    return any(f"'stage': {stage['name']!r}" in said for stage in stages)


def _needing(stage: Mapping[str, Any], names: set[str], name: str) -> Mapping[str, Any]:
    """Return a stage that needs the stage of this name in the place of those two."""
    if not names & set(stage.get("needs", ())):
        return stage
    return {
        **stage,
        "needs": list(dict.fromkeys(name if n in names else n for n in stage["needs"])),
    }


def without_time(data: Any) -> Any:
    """Return plain data in which nothing takes time; limits, and when a cancel comes, stay."""
    if isinstance(data, Mapping):
        if data.get("op") == "timeout":  # its seconds are a limit
            return {k: v if k == "seconds" else without_time(v) for k, v in data.items()}
        return {
            k: 0.0 if k in DURATIONS and isinstance(v, (int, float)) else without_time(v)
            for k, v in data.items()
        }
    return [without_time(one) for one in data] if isinstance(data, (list, tuple)) else data


def in_less_time(data: Any, share: float) -> Any:
    """Return plain data in which all takes a share of its time, limits but the grace included."""
    if isinstance(data, Mapping):
        return {k: _shared(k, v, share) for k, v in data.items()}
    return [in_less_time(one, share) for one in data] if isinstance(data, (list, tuple)) else data


def _shared(name: str, value: Any, share: float) -> Any:
    if name not in (*DURATIONS, *LIMITS_AND_MOMENTS):
        return in_less_time(value, share)
    if isinstance(value, (list, tuple)):
        return [_shared(name, one, share) for one in value]
    return round(value * share, 6) if isinstance(value, (int, float)) else value


def plainer(one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield steps that take as long, or fail, as this one may, and need nothing else for it."""
    if one["op"] == "call":
        yield {"op": "raise", "error": "RuntimeError"}
        yield {"op": "sleep", "seconds": one.get("seconds", 0.0)}
    elif one["op"] == "flaky":
        yield {"op": "raise", "error": one.get("error", "RuntimeError")}
    elif one["op"] == "chunk":  # one that nobody takes waits for somebody
        yield {"op": "raise", "error": "RuntimeError"}
        yield {"op": "sleep", "seconds": 1.0}
    elif one["op"] == "thread":
        yield {"op": "sleep", "seconds": one.get("seconds", 0.0)}
    elif one["op"] == "allocate":
        yield {"op": "raise", "error": "MemoryError"}
    elif one["op"] in ("input", "read"):
        yield {"op": "raise"}
    elif one["op"] == "subpipeline":
        yield {"op": "fail"}
    elif one["op"] in ("acquire", "cleanup") or (one["op"] == "using" and not one.get("steps")):
        if one.get("fails"):
            yield {"op": "raise", "error": "RuntimeError"}
        yield {"op": "sleep", "seconds": one.get("cleanup_s", 0.0)}


def waiting_instead(stage: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a stage that waits once as long as this one does between its tries, where it fails;
    None if it is tried once only, or does not fail in the end."""
    steps = list(stage.get("steps", ()))
    if not stage.get("retry") or not steps or steps[-1]["op"] not in ("raise", "fail"):
        return None
    waits = {"op": "sleep", "seconds": stage["retry"].get("backoff_s", 0.0)}
    rest = {k: v for k, v in stage.items() if k != "retry"}
    return {**rest, "steps": [*steps[:-1], waits]}


def turns(one: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Yield steps that only let others have their turn, as those that wait for something do where
    nothing takes time: few turns first."""
    if one["op"] in MAY_TAKE_TURNS:
        for count in range(1, TURNS_MAX + 1):
            yield [{"op": "sleep", "seconds": 0.0}] * count
            if one["op"] == "subpipeline":  # one that fails fails its stage after a few turns
                yield [*[{"op": "sleep", "seconds": 0.0}] * count, {"op": "raise"}]


def merged(one: Mapping[str, Any], following: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the sleep that takes as long as two sleeps, None if they are none, or of several
    lengths."""
    seconds = [_slept(one), _slept(following)]
    if None in seconds:
        return None
    return {"op": "sleep", "seconds": round(sum(x for x in seconds if x is not None), 6)}


def _slept(one: Mapping[str, Any]) -> float | None:
    seconds = one.get("seconds")
    if one["op"] != "sleep" or not isinstance(seconds, (int, float)):
        return None
    return float(seconds) if math.isfinite(seconds) else None


def sleeps_in(program: Mapping[str, Any]) -> Iterator[float]:
    """Yield how long each sleep takes, of those that always take as long."""
    for block in blocks_in(program):
        for one in at(program, block):
            if (seconds := _slept(one)) is not None:
                yield seconds


def without_sleeps(program: Mapping[str, Any], seconds: float) -> Any:
    """Return a program without its sleeps of this length, wherever they are."""
    for block in reversed(list(blocks_in(program))):  # what lies within one is changed before it
        program = edited(program, block, lambda one: [x for x in one if _slept(x) != seconds])
    return program


def with_merged_sleeps(program: Mapping[str, Any]) -> Any:
    """Return a program with one sleep in the place of each row of them."""
    for block in reversed(list(blocks_in(program))):
        program = edited(program, block, _with_merged)
    return program


def _with_merged(block: Sequence[Any]) -> list[Any]:
    kept: list[Any] = []
    for one in block:
        whole = merged(kept[-1], one) if kept else None
        kept = [*kept, one] if whole is None else [*kept[:-1], whole]
    return kept


def lower_numbers(value: float) -> Iterator[float]:
    """Yield simpler numbers than this one, the simplest first."""
    if isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        return
    rounded = [round(value, d - math.floor(math.log10(value)) - 1) for d in (1, 2)]
    for number in dict.fromkeys([*GRID, *rounded]):
        if isinstance(value, int):
            if number != int(number):
                continue
            number = int(number)
        if _rank(number) < _rank(value) and (number < value or number in rounded):
            yield number


def _rank(value: float) -> tuple[int, float]:
    return (len(f"{value:.12g}".replace(".", "").strip("0")), value)


def numbers_in(data: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every number in plain data, but those of values.

    A value is what an output, chunk or event is known by; two made equal are another case.
    """
    if isinstance(data, Mapping):
        for key, value in data.items():
            if key not in ("version", "value", "data", "inputs", "options"):
                yield from numbers_in(value, (*path, key))
    elif isinstance(data, (list, tuple)):
        for i, value in enumerate(data):
            yield from numbers_in(value, (*path, i))
    elif isinstance(data, (int, float)) and not isinstance(data, bool):
        yield path


def unsound(program: Program, plan: Plan) -> frozenset[str]:
    """Name what in a case refers to something that is not there.

    Such a case may break a clause by its own fault, so shrinking must not make one.
    """
    found = {f.split(" ", 1)[0] for f in program.faults()}
    for stage in program.stages:
        for one in _steps(stage.steps):
            if one.op in ("read", "mutate") and one.args["stage"] not in stage.needs:
                found.add("read")
            elif one.op == "subpipeline":
                found |= unsound(one.args["program"], Plan())
        found |= _unmatched(stage.steps)
    if plan.consumer is not None and plan.consumer.stage not in program.names:
        found.add("consumer")
    if plan.layers:
        names = {stage.name for one in _whole(program) for stage in one.stages}
        runs = {run.id for run in plan.runs}
        for layer in plan.layers:
            if not names.issuperset(layer.stages) or not runs.issuperset(layer.runs):
                found.add("layer")
    if plan.faults:
        calls = [one for inner in _whole(program) for _, one in inner.walk() if one.op == "call"]
        if not {fault.tool for fault in plan.faults} <= {one.args["tool"] for one in calls}:
            found.add("fault")
    return frozenset(found)


def _whole(program: Program) -> Iterator[Program]:
    """Yield the program and those of its subpipelines."""
    yield program
    for _, one in program.walk():
        if one.op == "subpipeline":
            yield from _whole(one.args["program"])


def _nested(one: Step) -> Iterator[tuple[Step, ...]]:
    for name, field in OPS[one.op].fields.items():
        if field.shape == "block":
            yield one.args[name]
        elif field.shape == "blocks":
            yield from one.args[name]


def _steps(block: Sequence[Step]) -> Iterator[Step]:
    for one in block:
        yield one
        for inner in _nested(one):
            yield from _steps(inner)


def _unmatched(block: Sequence[Step]) -> set[str]:
    """Find releases of what this block does not hold, or holds no longer."""
    held: set[str] = set()
    found: set[str] = set()
    for one in block:
        if one.op == "acquire":
            held.add(one.args["name"])
        elif one.op == "release":
            found |= set() if one.args["name"] in held else {"release"}
            held.discard(one.args["name"])
        for inner in _nested(one):
            found |= _unmatched(inner)
    return found


def size_of(program: Program, plan: Plan, tape: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Count what a case is made of; subpipelines' stages and steps count too.

    `faults` are all that goes wrong on purpose: tool faults, cancels, failing stages,
    cleanups, sinks and layers.
    """
    stages = len(program.stages)
    steps = faults = 0
    for _, one in program.walk():
        steps += 1
        faults += one.op in INTENDED_FAILURES or bool(one.args.get("fails"))
        faults += one.op == "call" and one.args["error"] is not None
        if one.op == "subpipeline":
            inner = size_of(one.args["program"], Plan(), {})
            stages, steps = stages + inner["stages"], steps + inner["steps"]
            faults += inner["faults"]
    cancels = sum(c.times for c in plan.cancels)
    faults += len(plan.faults) + cancels
    faults += sum(layer.kind in ("raise", "deny") for layer in plan.layers)
    if plan.sink is not None:
        faults += (plan.sink.error is not None) + (plan.sink.hangs_at is not None)
    return {
        "stages": stages,
        "steps": steps,
        "faults": faults,
        "cancels": cancels,
        "runs": len(plan.runs),
        "choices": sum(1 for values in tape.values() for v in values if v),
    }
