"""CANCEL-3 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the caller sees CancelledError
Actual: the run returned as if it had not been cancelled (ok)
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402
from stageflow.events import BackpressureAwareEventSink  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)


def stages_left():
    """Return the functions of this file in which tasks still are."""
    coros = [task.get_coro() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    for coro in coros:  # each is followed by the one that it awaits
        coros += [coro.cr_await] if hasattr(coro.cr_await, "cr_code") else []
    return [coro.__qualname__ for coro in coros if coro.cr_code.co_filename == __file__]


class UserSink:
    """The user's own sink, behind the queue."""

    count = in_hand = 0

    async def emit(self, *, type, data):
        number = (data.get("producer", ""), data.get("n", -1))
        self.count += 1
        mine = self.count
        self.in_hand += 1
        try:
            await asyncio.sleep(0.01)
        finally:
            self.in_hand -= 1

    def try_emit(self, *, type, data):
        raise AssertionError("the queue awaits emit()")


user_sink = UserSink()
sink = BackpressureAwareEventSink(user_sink, max_queue_size=1)
using_sink = set()  # runs under way


def account():
    """Offered, delivered, dropped, pending, most that may be pending, by the queue's metrics."""
    metrics, pending = sink.metrics, sink.queue_size + user_sink.in_hand
    emitted, dropped = metrics.emitted, metrics.dropped
    return (emitted + dropped, emitted - pending, dropped, pending, 1)


async def open_sink(run):
    using_sink.add(run)
    await sink.start()


async def close_sink(run):
    using_sink.discard(run)
    if not using_sink:
        with contextlib.suppress(Exception):  # the drain lets out what the user's sink raises
            await sink.stop(drain=True, timeout=1.0)


class Work:
    async def execute(self, ctx):
        try:
            for n in range(8):
                await asyncio.sleep(0.005)
                ctx.try_emit_event(type="flood", data={"producer": "work/telemetry", "n": n})
        finally:
            await asyncio.sleep(0.05)
        return StageOutput.ok(value=None)


def violation(error, left):
    if left:
        return f"still running when the run was over: {left}"
    accepted = any(kind == "cancel.sent" and sent[1] for _, _, kind, sent in seen)
    if accepted and not isinstance(error, asyncio.CancelledError):
        return f"cancel() was accepted, but what the caller then saw was: {error!r}"


async def main():
    graph = StageGraph([StageSpec(name="work", runner=Work)])
    ctx = PipelineContext(pipeline_run_id=uuid.uuid4(), event_sink=sink)
    await open_sink("r0")
    loop, caller = asyncio.get_running_loop(), asyncio.current_task()
    loop.call_later(0.1, lambda: seen.append((time.monotonic(), "", "cancel.sent", (0, caller.cancel()))))
    error = None
    try:
        await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    await close_sink("r0")
    found = violation(error, stages_left())
    print(f"VIOLATION CANCEL-3: {found}" if found else "HOLDS CANCEL-3", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
