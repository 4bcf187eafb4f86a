"""EVENT-4 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the sink gets the events of r0/work/telemetry in the order of their emission
Actual: it got number 2 before number 1
"""

import asyncio
import contextlib
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402
from stageflow.events import BackpressureAwareEventSink  # noqa: E402

seen = []  # (what happened, detail)


class UserSink:
    async def emit(self, *, type, data):
        number = (data.get("producer", ""), data.get("n", -1))
        seen.append(("deliver.begin", number))
        await asyncio.sleep(0.01)


sink = BackpressureAwareEventSink(UserSink())


class Work:
    async def execute(self, ctx):
        for n in range(5):
            await asyncio.sleep(0.005)
            ctx.try_emit_event(type="flood", data={"producer": "work/telemetry", "n": n})
        return StageOutput.ok(value=None)


async def main():
    graph = StageGraph([StageSpec(name="work", runner=Work)])
    await sink.start()
    asyncio.get_running_loop().call_later(0.02, asyncio.current_task().cancel)
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(PipelineContext.create(event_sink=sink))
    with contextlib.suppress(Exception):  # the drain lets out what the user's sink raises
        await sink.stop(drain=True, timeout=1.0)
    last = {}  # producer -> number of its event that the sink was given last
    for kind, detail in seen:
        if kind == "deliver.begin" and detail[0] and detail not in last.values():
            producer, number = detail
            if producer in last and number < last[producer][1]:
                return f"of {producer} the sink got {last[producer][1]} before {number}"
            last[producer] = detail


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION EVENT-4: {found}" if found else "HOLDS EVENT-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
