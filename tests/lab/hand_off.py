"""Three small engines for the order tier: of ready stages each runs all in tasks of their own.

`Fifo` leans on asyncio's order: an output is put away by a callback that was registered before
the one that looks for it. `Racy` has a race: of the tasks that are done together it takes one.
`Sound` has neither.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from harness.kernel.adapter import Bodies, EngineInfo
from harness.kernel.outcome import Outcome, StageReport
from harness.kernel.plan import Plan, RunSpec
from harness.kernel.port import StagePort
from harness.kernel.program import Program


class Sound:
    """Takes all that are done, and puts each output away at once."""

    name = "sound"

    def info(self) -> EngineInfo:
        module = sys.modules[type(self).__module__]
        return EngineInfo(self.name, "1.0", frozenset(), module.__name__)

    def build(self, program: Program, plan: Plan, bodies: Bodies) -> Any:
        return program, bodies

    def take(self, done: set[Any]) -> set[Any]:
        return done

    async def put(self, outputs: dict[str, Any], name: str, value: Any) -> None:
        outputs[name] = value

    async def run(self, native: Any, run: RunSpec, plan: Plan) -> Outcome:
        program, bodies = native
        outputs: dict[str, Any] = {}
        port = StagePort(run=run.id, read=lambda stage, _key: outputs.get(stage))
        running: dict[Any, str] = {}
        left = list(program.stages)
        ended: set[str] = set()
        while left or running:
            for stage in [s for s in left if ended.issuperset(s.needs)]:
                left.remove(stage)
                running[asyncio.create_task(bodies.body(stage.name)(port))] = stage.name
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            taken = self.take(done)
            for task in done:
                name = running.pop(task)
                ended.add(name)
                if task in taken:
                    await self.put(outputs, name, task.result().value)
        reports = {name: StageReport("completed", value) for name, value in outputs.items()}
        return Outcome(run.id, "ok", stages=reports)

    def render(self, program: Program, plan: Plan, clause: str, check: str) -> str | None:
        return None


class Fifo(Sound):
    """Looks for an output after one turn of the loop, which is enough by asyncio's order."""

    name = "fifo"

    async def put(self, outputs: dict[str, Any], name: str, value: Any) -> None:
        box: list[Any] = []
        asyncio.get_running_loop().call_soon(box.append, value)
        await asyncio.sleep(0)
        if box:
            outputs[name] = box[0]


class Racy(Sound):
    """Takes for granted that one task is done, not several."""

    name = "racy"

    def take(self, done: set[Any]) -> set[Any]:
        return {next(iter(done))}
