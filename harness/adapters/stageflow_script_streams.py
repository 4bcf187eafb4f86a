"""Partial results in a stand-alone script: the bus in a run's ports, and who subscribes to it.

The source below is printed, not run here; a test runs what is printed. It follows
`stageflow_streams`, in a form that a maintainer can read without it; that a stage closes its
channel is left to the end of the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.adapters.stageflow_streams import UNREAD_MAX
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script import NOTES, literal
from harness.kernel.script_streams import consuming
from harness.kernel.steps import Step

if TYPE_CHECKING:
    from harness.adapters.stageflow_probe import Probe

__all__ = [
    "PORTS",
    "after",
    "before",
    "bus",
    "chunk",
    "helpers",
    "imports",
    "needed",
    "partial",
    "refused",
]

PORTS = "ports=ports"


def _chunk_steps(program: Program) -> list[Step]:
    found = []
    for _, one in program.walk():
        if one.op == "subpipeline":
            found += _chunk_steps(one.args["program"])
        elif one.op == "chunk":
            found.append(one)
    return found


def needed(program: Program, plan: Plan) -> bool:
    """Say whether a run is given a bus."""
    return plan.consumer is not None or bool(_chunk_steps(program))


def _bus_of_stage(engine: Probe) -> str:
    return "ctx.ports.realtime_bus" if engine.legacy else "ctx.inputs.ports.realtime_bus"


def chunk(engine: Probe) -> str:
    """Return the statement by which a stage hands on a chunk."""
    return f"await {_bus_of_stage(engine)}.publish({{stage}}, {{value}})"


def refused(engine: Probe) -> str:
    """Return the same as an expression that is true where the channel is closed."""
    return f"not {chunk(engine)}"


def _size(program: Program, plan: Plan) -> int:
    """Return the bound of channels: the consumer's, if none but its own stage hands on chunks."""
    if plan.consumer is None or len(_chunk_steps(program)) > len(_own(program, plan)):
        return UNREAD_MAX
    return plan.consumer.buffer_max


def _own(program: Program, plan: Plan) -> list[Step]:
    spec = plan.consumer
    return [s for st, s in program.walk() if s.op == "chunk" and spec and st.name == spec.stage]


def bus(program: Program, plan: Plan) -> list[str]:
    """Return the statements that make the bus of a run, and the ports that hold it."""
    made = f"bus = RealtimeStageBus(default_max_size={_size(program, plan)})"
    return [made, "ports = create_core_ports(realtime_bus=bus)"]


def before(plan: Plan) -> tuple[str, ...]:
    """Return the lines that start the consumer of a run."""
    if plan.consumer is None:
        return ()
    given = "bus, {run}" if len(plan.runs) > 1 else "bus"
    return (f"consumer = asyncio.create_task(consume({given}))",)


def after(plan: Plan, check: str) -> tuple[str, ...]:
    """Return the lines that end the consumer where it matters that it takes the rest, or leaves
    nothing behind: it takes the rest unless the caller cancels; then nothing is awaited, since he
    may cancel again."""
    looks = any(word in check for word in ('"consume"', "strays", "unretrieved"))
    if plan.consumer is None or not looks:
        return ()
    if plan.cancels:
        return ("consumer.cancel()",)
    return ("await bus.close_all()", "await asyncio.wait([consumer])")


def partial(engine: Probe, program: Program, plan: Plan) -> tuple[str, ...]:
    """Return the lines that note whether a user is told to have all of the chunks he can read:
    of one run, where nobody else consumes them."""
    if plan.consumer is not None or len(plan.runs) > 1 or not needed(program, plan):
        return ()
    whole = 'output.status == "completed"' if engine.legacy else 'output.status.value == "ok"'
    return (
        "await bus.close_all()",
        "for stage in await bus.stats():",
        "    output = results.get(stage)",
        f'    whole = {whole} if output else getattr(error, "stage", None) != stage',
        "    if [one async for one in bus.subscribe(stage)]:",
        '        note(stage, "partial", whole)',
    )


def helpers(program: Program, plan: Plan, check: str) -> dict[str, str]:
    """Return the function that consumes, if there is one."""
    spec = plan.consumer
    if spec is None:
        return {}
    notes = [kind for kind in NOTES if f'"{kind}"' in check]
    many = len(plan.runs) > 1
    lines = [
        f"async def consume(bus{', run' if many else ''}, stage={literal(spec.stage)}):",
        *(
            [f"    await bus.channel(stage, max_size={spec.buffer_max})"]
            if _size(program, plan) != spec.buffer_max
            else []
        ),
        "    async with contextlib.aclosing(bus.subscribe(stage)) as chunks:",
        *(
            f"        {line}"
            for line in consuming(spec, notes, 'f"{run}/{stage}"' if many else "stage")
        ),
        "    await bus.close_channel(stage)  # this is how a producer is told",
    ]
    return {"consume(": "\n".join(lines)}


def imports(program: Program, plan: Plan) -> list[str]:
    """Return the lines that import what the lines above name."""
    if not needed(program, plan):
        return []
    return [
        "from stageflow.helpers.streaming import RealtimeStageBus",
        "from stageflow.stages.ports import create_core_ports",
    ]
