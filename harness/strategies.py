"""Hypothesis strategies for programs and plans: `programs()`, `plans()`, `cases()`.

For pytest users who test an engine, an adapter or a check of their own with
`@given(cases())`. What is drawn is sound: graphs without cycles, steps that refer only to what
is there, durations from a small grid in which ties and limits meet. Arguments come from the
language's own table, so a new operation is drawn at once. Hypothesis is no dependency of
dagstorm's: it is imported when a strategy is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from harness.kernel.adapter import CAPABILITIES
from harness.kernel.errors import InputError
from harness.kernel.plan import LAYER_KINDS, Cancel, Consumer, Fault, Layer, Plan, RunSpec, Sink
from harness.kernel.program import Program, Retry, Stage, needed_capabilities
from harness.kernel.steps import ERRORS, OPS, Field, OpSpec, Step, parse_step

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

__all__ = ["cases", "plans", "programs"]

# Few values, so that they meet: the same moment, the limit itself, nothing at all.
SECONDS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)
LIMITS = (0.1, 0.5, 1.0, 2.0)
NAMES = "abcdefghijklmnopqrstuvwxyz"
DEPTH_MAX = 2
DEEP = frozenset({"block", "blocks", "program"})
# They need a mock that not every laboratory has, or never let a run end.
LEFT_OUT = frozenset({"store", "trespass", "never", "allocate"})


def _strategies() -> Any:
    try:
        from hypothesis import strategies
    except ImportError as exc:
        raise InputError(
            "harness.strategies needs Hypothesis, which is not installed; pip install hypothesis"
        ) from exc
    return strategies


def programs(
    *,
    capabilities: Iterable[str] = CAPABILITIES,
    stages_max: int = 5,
    steps_max: int = 4,
) -> SearchStrategy[Program]:
    """Draw sound programs.

    Args:
        capabilities: of the engine; nothing that needs another is drawn.
        stages_max, steps_max: of a program, and of each block in it.

    Raises:
        InputError: if Hypothesis is not installed, or there is no such capability.
    """
    offered = frozenset(capabilities)
    unknown = offered - frozenset(CAPABILITIES)
    if unknown:
        raise InputError(f"programs(capabilities=…): no capability {sorted(unknown)[0]!r}")
    writer = _Writer(offered, stages_max, steps_max)
    strategy: SearchStrategy[Program] = _strategies().composite(writer.program)()
    return strategy


def plans(
    program: Program | None = None, *, capabilities: Iterable[str] = CAPABILITIES
) -> SearchStrategy[Plan]:
    """Draw plans that fit a program, or any program if none is given. Raises as `programs`."""
    offered = frozenset(capabilities)

    def plan(draw: DrawFn) -> Plan:
        return _plan(draw, program, offered)

    strategy: SearchStrategy[Plan] = _strategies().composite(plan)()
    return strategy


def cases(
    *,
    capabilities: Iterable[str] = CAPABILITIES,
    stages_max: int = 5,
    steps_max: int = 4,
) -> SearchStrategy[tuple[Program, Plan]]:
    """Draw a program and a plan that fits it. Arguments and errors as `programs`."""
    offered = frozenset(capabilities)
    some = programs(capabilities=offered, stages_max=stages_max, steps_max=steps_max)

    def case(draw: DrawFn) -> tuple[Program, Plan]:
        program = draw(some)
        return program, _plan(draw, program, offered)

    strategy: SearchStrategy[tuple[Program, Plan]] = _strategies().composite(case)()
    return strategy


class _Writer:
    """Draws programs; names in one are never given twice."""

    def __init__(self, offered: frozenset[str], stages_max: int, steps_max: int) -> None:
        self.offered = offered
        self.stages_max = stages_max
        self.steps_max = steps_max
        self.st = _strategies()

    def program(self, draw: DrawFn, depth: int = 0) -> Program:
        st = self.st
        count = draw(st.integers(1, self.stages_max if depth == 0 else 2))
        names = [f"{'child_' * depth}{NAMES[i % 26]}{i // 26 or ''}" for i in range(count)]
        stages = []
        for i, name in enumerate(names):
            needs = draw(st.lists(st.sampled_from(names[:i]), unique=True)) if i else []
            limit = draw(st.sampled_from((None, None, *LIMITS)))
            idle = draw(st.sampled_from((None, None, None, *LIMITS)))
            retry = draw(st.sampled_from((None, None, None, Retry(2, 0.1), Retry(3, 0.0, 1.0))))
            stages.append(
                Stage(
                    name,
                    self.block(draw, tuple(sorted(needs)), depth),
                    tuple(sorted(needs)),
                    limit if "stage_timeout_each" in self.offered else None,
                    idle if "heartbeat" in self.offered else None,
                    retry if "retry" in self.offered else None,
                )
            )
        order = draw(st.permutations(stages)) if count > 1 else stages
        return Program(tuple(order), f"program{depth or ''}")

    def block(self, draw: DrawFn, needs: tuple[str, ...], depth: int) -> tuple[Step, ...]:
        """Draw steps; one that ends a stage is drawn last or not at all."""
        st = self.st
        out: list[Step] = []
        held: list[str] = []
        for _ in range(draw(st.integers(0, self.steps_max))):
            op = draw(st.sampled_from(self.ops(depth, bool(needs), bool(held))))
            if op == "release":
                name = draw(st.sampled_from(held))
                held.remove(name)
                out.append(parse_step({"op": op, "name": name}, where=op))
                continue
            one = self.step(draw, op, needs, depth)
            if op == "acquire" and one.args["name"] not in held:
                held.append(one.args["name"])
            out.append(one)
            if OPS[op].ends:
                break
        return tuple(out)

    def ops(self, depth: int, reads: bool, releases: bool) -> list[str]:
        def fits(op: str, spec: OpSpec) -> bool:
            if op in LEFT_OUT or (spec.needs is not None and spec.needs not in self.offered):
                return False
            if depth >= DEPTH_MAX and any(f.shape in DEEP for f in spec.fields.values()):
                return False
            return (reads or op not in ("read", "mutate")) and (releases or op != "release")

        return [op for op, spec in OPS.items() if fits(op, spec)]

    def step(self, draw: DrawFn, op: str, needs: tuple[str, ...], depth: int) -> Step:
        data: dict[str, Any] = {"op": op}
        fields = OPS[op].fields
        for name in sorted(fields, key=lambda n: not fields[n].required):
            if op in ("read", "mutate") and name == "stage":
                data[name] = draw(self.st.sampled_from(needs))
            elif fields[name].required:
                data[name] = self.value(draw, fields[name], needs, depth)
            elif draw(self.st.booleans()):
                more = {**data, name: self.value(draw, fields[name], needs, depth)}
                data = more if self.offers(parse_step(more, where=op)) else data
        return parse_step(data, where=op)

    def offers(self, one: Step) -> bool:
        """Say whether the engine has what a step needs: some arguments need more than it does."""
        return needed_capabilities(Program((Stage("only", (one,)),))) <= self.offered

    def value(self, draw: DrawFn, field: Field, needs: tuple[str, ...], depth: int) -> Any:
        st = self.st
        match field.shape:
            case "duration":
                listed = st.lists(st.sampled_from(SECONDS), min_size=1, max_size=3, unique=True)
                return draw(st.sampled_from(SECONDS) | listed)
            case "count":
                return draw(st.integers(0, 3))
            case "flag":
                return draw(st.booleans())
            case "name":
                return draw(st.sampled_from(("x", "y", "z")))
            case "text":
                return draw(st.sampled_from(("why", "because of $marker")))
            case "choice":
                return draw(st.sampled_from(field.choices))
            case "error":
                return draw(st.sampled_from(ERRORS))
            case "block":
                return list(self.block(draw, needs, depth + 1))
            case "blocks":
                count = draw(st.integers(1, 2))
                return [list(self.block(draw, needs, depth + 1)) for _ in range(count)]
            case "program":
                return self.program(draw, depth + 1)
            case _:
                return draw(st.sampled_from((0, "text", [1, 2], {"key": "value"}, None)))


def _plan(draw: DrawFn, program: Program | None, offered: frozenset[str]) -> Plan:
    st = _strategies()

    def sometimes(*needed: str) -> bool:
        return offered.issuperset(needed) and bool(draw(st.booleans()))

    ids = ["r0", "r1"] if sometimes("concurrent_runs") else ["r0"]
    seconds = st.sampled_from(SECONDS)
    needs = needed_capabilities(program) if program is not None else frozenset()
    inputs = "run_inputs" in needs or sometimes("run_inputs")
    runs = tuple(
        RunSpec(
            one,
            draw(st.sampled_from(("t0", "t1"))),
            draw(seconds),
            {"marker": f"mine-{one}"} if inputs else {},
        )
        for one in ids
    )
    times, gap_s = st.integers(1, 2), seconds
    cancels = st.builds(Cancel, run=st.sampled_from(ids), at_s=seconds, times=times, gap_s=gap_s)
    points = st.builds(Cancel, run=st.sampled_from(ids), at_point=st.integers(1, 60))
    calls = [one for _, one in program.walk() if one.op == "call"] if program is not None else []
    tools = sorted({str(one.args["tool"]) for one in calls})
    faults = st.builds(
        Fault, st.sampled_from(tools or ["x"]), st.integers(1, 2), st.sampled_from(ERRORS)
    )
    floods = {"flood", "emit"}
    emits = program is None or any(one.op in floods for _, one in program.walk())
    chunks = [s.name for s, one in program.walk() if one.op == "chunk"] if program else []
    layers = [k for k in ("observe", "raise", "deny") if LAYER_KINDS[k] in offered]
    sink = consumer = None
    if emits and sometimes("events"):
        sink = Sink(draw(seconds), draw(st.sampled_from((None, "RuntimeError"))))
    if chunks and sometimes("stream_consumer"):
        consumer = Consumer(draw(st.sampled_from(chunks)), draw(seconds))
    return Plan(
        runs=runs,
        stage_timeout_s=draw(st.sampled_from(LIMITS)) if sometimes("stage_timeout") else None,
        on_failure="continue" if sometimes("continue_on_failure") else "cancel",
        cancels=tuple(draw(st.lists(cancels | points, max_size=1))),
        faults=tuple(draw(st.lists(faults, max_size=1))) if tools or program is None else (),
        sink=sink,
        consumer=consumer,
        layers=tuple(
            Layer(kind, f"layer{i}")
            for i, kind in enumerate(
                draw(st.lists(st.sampled_from(layers), max_size=2)) if layers else ()
            )
        ),
    )
