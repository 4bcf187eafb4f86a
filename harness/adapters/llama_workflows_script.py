"""The engine's half of a stand-alone script: event classes, steps, start and what a user reaches.

The text does what the adapter does, in the words of the installed version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.kernel.plan import Plan, required_capabilities
from harness.kernel.program import Program
from harness.kernel.script import Dialect, Unrenderable, literal, render

if TYPE_CHECKING:
    from harness.adapters.llama_workflows_probe import Probe

__all__ = ["render_script"]

# What a script can tell; the rest of what the engine offers has no words in it yet.
_UNTOLD = frozenset({"retry", "stream_consumer", "run_inputs"})

_STEPS = """\
class Done(Event):
    \"\"\"A stage's output; one subclass a stage.\"\"\"

    stage: str
    value: Any
    run: str


class StageFailed(Exception):
    pass


class Job(NamedTuple):
    context: Context
    stage: str
    run: str
    inputs: dict


def add_step(workflow, name, work, needs, done, step_name, returns):
    expected = [done[need] for need in needs]

    async def one_step(ctx, ev):
        events = [ev]
        if len(expected) > 1:
            events = ctx.collect_events(ev, expected)
            if events is None:
                return None
        inputs = {need: event.value for need, event in zip(needs, events)}
        output = await work(Job(ctx, name, ev.run, inputs))
        if isinstance(output, StopEvent):
            return output
        shown = done[name](stage=name, value=copy.deepcopy(output[0]), run=ev.run)
        ctx.write_event_to_stream(shown)  # the caller's own, which no other step is given
        return done[name](stage=name, value=output[0], run=ev.run)

    declare(workflow, one_step, step_name, expected or [StartEvent], [done[name], *returns])


def add_finish(workflow, leaves):
    async def finish(ctx, ev):
        events = ctx.collect_events(ev, leaves)
        if events is None:
            return None
        return StopEvent(result={event.stage: event.value for event in events})

    declare(workflow, finish, "finish", leaves, [StopEvent, type(None)])


def declare(workflow, function, name, accepts, returns):
    \"\"\"What `@step(workflow=...)` above a function with these annotations would do.\"\"\"
    function.__name__ = function.__qualname__ = name
    function.__annotations__ = {
        "ctx": Context,
        "ev": functools.reduce(operator.or_, accepts),
        "return": functools.reduce(operator.or_, returns),
    }
    step(workflow=workflow)(function)"""

_FOLLOW = """\
async def follow(handler, got):
    \"\"\"Read the stream, then await the result; when cancelled, cancel the run and await it.\"\"\"
    try:
        async with contextlib.aclosing(handler.stream_events()) as stream:
            async for event in stream:
                if isinstance(event, Done):
                    got[event.stage] = event.value
        await handler
    except asyncio.CancelledError:
        closing = asyncio.ensure_future(end(handler))  # however often we are cancelled meanwhile
        while not closing.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([closing])
        raise


async def end(handler):
    await handler.cancel_run()
    with contextlib.suppress(Exception):
        await handler"""

_START = """\
async def call(workflow, run):
    got = {}
    try:
        await follow(workflow.run(run=run), got)
    except Exception as error:
        error.outputs = got
        raise
    return got
"""

_ENDS = """\
def ending(output):
    # A stage returns a tuple of one, so that None can be an output; all else it raises.
    return "cancel_run" if isinstance(output, StopEvent) else "ok"
"""

_READ_INPUT = """\
def read_input(inputs, stage, key):
    value = inputs[stage]
    return value if key == "value" or value is None else value[key]"""

_RUN_CHILD = """\
async def run_child(workflow, run):
    try:
        await follow(workflow.run(run=run), {})
    except Exception:
        return "failed"
    return "ok\""""

_OFFERS = """\
def offers(ctx):
    parts = {
        "data": ("store", "get"),
        "inputs": ("collect_events",),
        "event_sink": ("write_event_to_stream",),
        "timer": ("timer", "deadline"),
        "has_run_id": ("run_id",),
    }
    return {part: any(hasattr(ctx, name) for name in names) for part, names in parts.items()}"""


def render_script(engine: Probe, program: Program, plan: Plan, clause: str, check: str) -> str:
    """Return the script; raises `Unrenderable` if it has no words for what the program needs."""
    needed = required_capabilities(program, plan)
    lacks = (needed - engine.capabilities) | (needed & _UNTOLD)
    if lacks:
        raise Unrenderable(", ".join(sorted(lacks)))
    return render(program, plan, _dialect(engine), clause, check)


def _dialect(engine: Probe) -> Dialect:
    return Dialect(
        install=f"llama-index-workflows=={engine.version}",
        imports=(
            "import copy",
            "import operator",
            "from typing import Any, NamedTuple",
            "from workflows import Context, Workflow, step",
            "from workflows.events import Event, StartEvent, StopEvent",
        ),
        stage_head=("{recorded}", "async def {cls}(ctx):"),
        body_indent=4,
        ok="return ({value},)",
        fail="raise StageFailed({message})",
        cancel_run='return StopEvent(result={{"ended_by": {stage}, "reason": {message}}})',
        read="read_input(ctx.inputs, {stage}, {key})",
        emit="ctx.context.write_event_to_stream(Emitted(name={type}, data={data}))",
        chunk="ctx.context.write_event_to_stream(Chunk(stage=ctx.stage, value={value}))",
        context="offers(ctx.context)",
        child='await run_child({graph}, ctx.run + "/" + {name})',
        run_of="ctx.run",
        ends=_ENDS,
        build=lambda program, functions: _build(engine, program, functions),
        run="call(graph, {run})",
        start=_START,
        value="one",
        kept='getattr(error, "outputs", {})',
        helpers={
            "add_step": _STEPS,
            "follow": _FOLLOW,
            "read_input": _READ_INPUT,
            "run_child": _RUN_CHILD,
            "offers": _OFFERS,
            "Chunk": "class Chunk(Event):\n    stage: str\n    value: Any",
            "Emitted": "class Emitted(Event):\n    name: str\n    data: Any",
        },
    )


def _build(engine: Probe, program: Program, functions: Mapping[str, str]) -> list[str]:
    names = list(dict.fromkeys([*program.names, *(n for s in program.stages for n in s.needs)]))
    enders = {s.name for s, one in program.walk() if one.op == "cancel_run"}
    lines = [
        'workflow = type("Pipeline", (Workflow,), {})',
        f"names = {literal(names)}",
        'done = {name: type(f"{name}_done", (Done,), {"__module__": __name__}) for name in names}',
    ]
    for stage in program.stages:
        returns = ["StopEvent"] if stage.name in enders else []
        returns += ["type(None)"] if len(stage.needs) > 1 else []
        lines.append(
            f"add_step(workflow, {literal(stage.name)}, {functions[stage.name]}, "
            f"{literal(stage.needs)}, done, {literal(engine.step_name(stage.name))}, "
            f"[{', '.join(returns)}])"
        )
    needed = {need for s in program.stages for need in s.needs}
    leaves = [s.name for s in program.stages if s.name not in needed]
    if leaves:
        lines.append(f"add_finish(workflow, [done[name] for name in {literal(leaves)}])")
    lines.append("made = workflow(timeout=None)")
    if hasattr(engine.Workflow, "validate"):
        lines.append("made.validate()")
    return [*lines, "return made"]
