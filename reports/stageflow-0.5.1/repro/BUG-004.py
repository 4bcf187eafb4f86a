"""CANCEL-3 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the caller sees CancelledError
Actual: the run returned as if it had not been cancelled (ok)
"""

import asyncio
import contextlib
import os
import random
import runpy
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402
from stageflow.events import BackpressureAwareEventSink  # noqa: E402

seen = []  # (what happened, detail)


async def pause(seconds):
    for _ in range(random.choice((0, 0, 1, 2, 3, 5))):  # a few turns of the event loop
        await asyncio.sleep(0)
    await asyncio.sleep(seconds and seconds + random.choice((0, 0, 0.0002, 0.0009)))


class UserSink:
    async def emit(self, *, type, data):
        await pause(0.01)


sink = BackpressureAwareEventSink(UserSink(), max_queue_size=1)


class Work:
    async def execute(self, ctx):
        try:
            for n in range(8):
                await pause(0.005)
                ctx.try_emit_event(type="flood", data={"producer": "work/telemetry", "n": n})
        finally:
            await pause(0.05)
        return StageOutput.ok(value=None)


async def main():
    graph = StageGraph([StageSpec(name="work", runner=Work)])
    ctx = PipelineContext(
        pipeline_run_id=uuid.uuid4(),
        request_id=uuid.uuid4(),
        session_id=None,
        user_id=None,
        interaction_id=None,
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"),
        event_sink=sink,
    )
    await sink.start()
    loop, caller = asyncio.get_running_loop(), asyncio.current_task()
    loop.call_later(0.1 + random.choice((0, 0, 0.0004, 0.0009)), lambda: seen.append(("cancel.sent", (0, caller.cancel()))))
    error = None
    try:
        await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    with contextlib.suppress(Exception):  # the drain lets out what the user's sink raises
        await sink.stop(drain=True, timeout=1.0)
    sent = [done for kind, done in seen if kind == "cancel.sent"]
    if any(done for _, done in sent) and not isinstance(error, asyncio.CancelledError):
        return f"cancel() was accepted, but what the caller then saw was: {error!r}"


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    began, tries, shown, first = time.monotonic(), 0, 0, ""
    while tries < 400 and time.monotonic() < began + 14:
        tries += 1
        random.seed(tries)
        loop = asyncio.new_event_loop()  # and variables of its own: nothing is left of other tries
        found = loop.run_until_complete(runpy.run_path(__file__)["main"]())
        loop.close()
        shown, first = shown + bool(found), first or found
    rate = f"in {shown or 'none'} of {tries} tries"
    print(f"VIOLATION CANCEL-3: {first}: {rate}" if shown else f"HOLDS CANCEL-3: {rate}")
    sys.stdout.flush()
    os._exit(1 if shown else 0)
