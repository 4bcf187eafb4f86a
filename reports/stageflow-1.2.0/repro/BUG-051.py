"""EVENT-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: every event that was accepted has been delivered or counted as dropped when the last ...
Actual: 1 had not been
"""

import asyncio
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import BackpressureAwareEventSink, Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (what happened, detail)


class UserSink:
    async def emit(self, *, type, data):
        number = (data.get("producer", ""), data.get("n", -1))
        await asyncio.sleep(0.05)
        seen.append(("deliver.end", number))


sink = BackpressureAwareEventSink(UserSink())


class Work:
    async def execute(self, ctx):
        await asyncio.sleep(0)
        ctx.try_emit_event(type="flood", data={"producer": "work/telemetry", "n": 0})
        seen.append(("taken", ("work/telemetry", 0)))
        return StageOutput.ok(value=None)


async def main():
    graph = Pipeline().with_stage("work", Work, StageKind.TRANSFORM).build()
    await sink.start()
    await asyncio.gather(graph.run(PipelineContext.create(event_sink=sink)), return_exceptions=True)
    await sink.stop(drain=True, timeout=1.0)
    dropped = sink.metrics.dropped
    taken = [n for kind, n in seen if kind == "taken"]
    got = [n for kind, n in seen if kind in ("deliver.end", "deliver.fail")]
    late = [n for n in taken if n not in got]
    if len(late) > dropped:
        return f"of {len(taken)} accepted events {len(late)} unsettled; {dropped} dropped"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION EVENT-5: {found}" if found else "HOLDS EVENT-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
