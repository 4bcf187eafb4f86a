"""EVENT-4 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the sink gets the events of r0/work/telemetry in the order of their emission
Actual: it got number 4 before number 2
"""

import asyncio
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
        seen.append(("deliver.begin", (data.get("producer", ""), data.get("n", -1))))


sink = BackpressureAwareEventSink(UserSink())


class Work:
    async def execute(self, ctx):
        for n in range(5):
            await asyncio.sleep(0)
            ctx.try_emit_event(type="flood", data={"producer": "work/telemetry", "n": n})
        return StageOutput.ok(value=None)


async def main():
    graph = StageGraph([StageSpec(name="work", runner=Work)])
    await sink.start()
    await asyncio.gather(graph.run(PipelineContext.create(event_sink=sink)), return_exceptions=True)
    await sink.stop(drain=True, timeout=1.0)
    got = list(dict.fromkeys(n[1] for kind, n in seen if kind == "deliver.begin" and n[0]))
    if got != sorted(got):
        return f"the sink got the events in this order: {got}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION EVENT-4: {found}" if found else "HOLDS EVENT-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
