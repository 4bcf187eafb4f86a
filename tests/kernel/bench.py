"""A bench for stage bodies and loops: no engine at all, so that a record shows only the kernel.

`journal` runs the steps of one stage directly on the simulated loop; what they ask of an
engine goes to a port that answers at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from harness.kernel.interpreter import ProgramBodies, World
from harness.kernel.journal import Journal
from harness.kernel.loop import SimLoop
from harness.kernel.outcome import Outcome
from harness.kernel.plan import Plan
from harness.kernel.port import StagePort, Verdict
from harness.kernel.program import Program, Stage
from harness.kernel.steps import Step
from harness.kernel.tape import Tape
from mocks.tools import simulated_tool

__all__ = ["Row", "journal", "rows", "run", "sim"]

# (seconds, kind, detail) of a journal entry of the one stage there is.
Row = tuple[float, str, Any]


def sim(seed: int = 0, *, horizon_s: float = 1_000.0, steps_max: int = 10_000) -> SimLoop:
    return SimLoop(Tape(seed), horizon_s=horizon_s, steps_max=steps_max)


def run(loop: SimLoop, main: Callable[[SimLoop, list[Any]], Awaitable[None]]) -> list[Any]:
    """Run `main(loop, record)` until nothing is ready any more; return the record."""
    record: list[Any] = []
    task = loop.create_task(main(loop, record))
    task.add_done_callback(lambda _task: loop.settle())
    loop.run_forever()
    left = asyncio.all_tasks(loop)
    if left:
        stalled = loop.stalled
        for one in left:
            one.cancel()
        loop.resume()
        loop.horizon_s, loop.steps_max = float("inf"), loop.points + 1_000
        ended = loop.create_task(_ended(left))
        ended.add_done_callback(lambda _task: loop.stop())
        loop.run_forever()
        loop.stalled = stalled
    loop.close()
    if task.done() and not task.cancelled():
        task.result()
    return record


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks)


def journal(
    *steps: Step, cancels: Sequence[float] = (), plan: Plan | None = None, **port: Any
) -> list[Row]:
    """Run the steps as one stage, cancelled at these times; return what it noted.

    The last row is how its task ended: ("verdict", …) or the exception's name and text.
    """
    loop = sim()
    entries = Journal()
    bodies = ProgramBodies(Program((Stage("s", steps),)))
    bodies.enter(World(entries, loop.tape, plan or Plan(), loop.time, simulated_tool))
    ends: list[Any] = []

    async def call(_tool: str, fn: Callable[[], Awaitable[Any]], limit: float | None) -> Any:
        async with asyncio.timeout(limit):
            return await fn()

    async def child(program: Program) -> Outcome:
        inner = bodies.child(program)
        for stage in program.stages:
            await inner.body(stage.name)(StagePort(run=f"r0/{program.name}"))
        return Outcome(f"r0/{program.name}", "ok")

    services: dict[str, Any] = {"call": call, "subpipeline": child} | port

    async def main() -> None:
        try:
            verdict: Verdict = await bodies.body("s")(StagePort(run="r0", **services))
        except BaseException as exc:
            ends.append((loop.time(), type(exc).__name__, str(exc)))
            raise
        ends.append((loop.time(), "verdict", (verdict.kind, verdict.value or verdict.message)))

    task = loop.create_task(main())
    task.add_done_callback(lambda _task: loop.settle())
    for at_s in cancels:
        loop.call_at(at_s, task.cancel)
    loop.run_forever()
    loop.close()
    assert task.done(), loop.stalled
    if not task.cancelled():
        task.exception()
    return [*rows(entries), *ends]


def rows(entries: Journal) -> list[Row]:
    """Return (seconds, kind, detail) of each entry; those of other runs are marked by theirs."""
    return [
        (round(e.at_s, 6), e.kind if e.run == "r0" else f"{e.run}: {e.kind}", e.detail)
        for e in entries
    ]
