"""EVENT-5 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: every event that was accepted has been delivered or counted as dropped when the last ...
Actual: 10 had not been
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineTimer, StageContext, StageKind, StageOutput  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402
from stageflow.events import BackpressureAwareEventSink  # noqa: E402
from stageflow.stages import StageInputs  # noqa: E402

seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()


@contextlib.contextmanager
def noted_offer(stage, producer, n):
    try:
        yield
    except BaseException as exc:
        seen.append((time.monotonic() - began, stage, "offer.end", (producer, n, f"raise:{type(exc).__name__}")))
        raise
    seen.append((time.monotonic() - began, stage, "offer.end", (producer, n, "taken")))


class UserSink:
    """The user's own sink, behind the queue."""

    count = in_hand = 0

    async def emit(self, *, type, data):
        number = (data.get("producer", ""), data.get("n", -1))
        seen.append((time.monotonic() - began, "", "deliver.begin", number))
        self.count += 1
        mine = self.count
        self.in_hand += 1
        try:
            await asyncio.sleep(0.05)
        finally:
            self.in_hand -= 1
        seen.append((time.monotonic() - began, "", "deliver.end", number))

    def try_emit(self, *, type, data):
        raise AssertionError("the queue awaits emit()")


user_sink = UserSink()
sink = BackpressureAwareEventSink(user_sink)
using_sink = set()  # runs under way


def account():
    """Offered, delivered, dropped, pending, most that may be pending, by the queue's metrics."""
    metrics, pending = sink.metrics, sink.queue_size + user_sink.in_hand
    emitted, dropped = metrics.emitted, metrics.dropped
    return (emitted + dropped, emitted - pending, dropped, pending, 1000)


async def open_sink(run):
    using_sink.add(run)
    await sink.start()


async def close_sink(run):
    using_sink.discard(run)
    if not using_sink:
        with contextlib.suppress(Exception):  # the drain lets out what the user's sink raises
            await sink.stop(drain=True, timeout=1.0)
    seen.append((time.monotonic() - began, "", "account", account()))


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


class Work:
    async def execute(self, ctx):
        for n in range(30):
            await asyncio.sleep(0)
            with noted_offer("work", "work/telemetry", n):
                ctx.try_emit_event(type="flood", data={"producer": "work/telemetry", "n": n})
            seen.append((time.monotonic() - began, "work", "account", account()))
        return StageOutput.ok(value=None)


def violation():
    # The account with which the run was over is noted last, and by no stage.
    last = [i for i, (_, *one, _) in enumerate(seen) if one == ["", "account"]]
    if not last:
        return None
    before = seen[: last[-1]]
    offered, delivered, dropped, pending, _ = seen[last[-1]][3]
    of = {}  # what happened -> producers and numbers of the events to which it did
    for _, _, kind, detail in before:
        if kind[:5] in ("offer", "deliv") and detail[0]:  # what the engine emits has none
            what = detail[2] if kind == "offer.end" else kind
            of.setdefault(what, []).append(detail[:2])
    taken, got = of.get("taken", []), of.get("deliver.end", [])
    begun, failed = of.get("deliver.begin", []), of.get("deliver.fail", [])
    open_ = [n for n in taken if n not in got and n not in failed]
    said = f"by the account {dropped} dropped, {pending} pending"
    if len(open_) > dropped:
        return f"{len(open_)} of {len(taken)} accepted events had not been delivered; {said}"
    since = max([at for at, stage, _, _ in before if stage], default=0.0)
    waited = seen[last[-1]][0] - since
    if open_ and waited > 1.0 + 0.25:
        return f"the run was over {waited:.2f} s after its stages, not 1 s"


async def main():
    graph = Pipeline().with_stage("work", Work, StageKind.TRANSFORM).build()
    ids = RunIdentity(
        pipeline_run_id=uuid.uuid4(),
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"),
    )
    ctx = enter(ContextSnapshot(run_id=ids), event_sink=sink)
    await open_sink("r0")
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(ctx)
    await close_sink("r0")
    found = violation()
    print(f"VIOLATION EVENT-5: {found}" if found else "HOLDS EVENT-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
