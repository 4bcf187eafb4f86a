"""The queue before an event sink: policies, the account, the end of a run, sinks in trouble."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable
from typing import Any

import pytest

from harness.engine import (
    Context,
    EngineError,
    Event,
    EventAccount,
    EventQueue,
    Pipeline,
    PipelineError,
    RunFailed,
)
from harness.engine.result import RunResult
from harness.engine.spill import SpillFile
from tests.engine.virtual import in_virtual_time

POLICIES = ("block", "drop_newest", "drop_oldest", "spill")


class Sink:
    """A sink that takes `seconds` for each event, and what it got, with the drops beside it."""

    def __init__(self, seconds: float = 0.0, **settings: Any) -> None:
        self.seconds = seconds
        self.got: list[Any] = []
        self.dropped: list[tuple[Any, str]] = []
        self.queue = EventQueue(self.deliver, on_drop=self._drop, **settings)

    def _drop(self, event: Event, reason: str) -> None:
        self.dropped.append((event.data, reason))

    async def deliver(self, event: Event) -> None:
        await asyncio.sleep(self.seconds)
        self.got.append(event.data)


class Hangs(Sink):
    """A sink that never comes back from one event."""

    at: Any = 2

    async def deliver(self, event: Event) -> None:
        if event.data == self.at:
            await asyncio.get_running_loop().create_future()
        await super().deliver(event)


class Raises(Sink):
    error: type[BaseException] = ValueError

    async def deliver(self, event: Event) -> None:
        if event.data % 2:
            raise self.error("no")
        await super().deliver(event)


def emitter(count: int, every_s: float = 0.0, *, wait: bool = False) -> Any:
    """Return a stage that emits numbers, and returns what it was told, checking the account."""

    async def stage(context: Context) -> list[bool]:
        told = []
        for number in range(count):
            if every_s:
                await asyncio.sleep(every_s)
            if wait:
                told.append(await context.send("n", number))
            else:
                told.append(context.emit("n", number))
            balanced(context.events)
        return told

    return stage


def balanced(account: EventAccount | None) -> None:
    assert account is not None
    assert account.offered == account.delivered + account.lost + account.pending


def ran(sink: EventQueue, *stages: Any, **settings: Any) -> RunResult:
    """Run a pipeline of stages into a sink in virtual time; its end must balance as well."""
    pipeline = Pipeline("p", **settings)
    for i, stage in enumerate(stages):
        pipeline.stage(f"s{i}", stage)
    result: RunResult = in_virtual_time(pipeline.run(sink=sink))
    balanced(result.events)
    assert result.events is not None
    assert result.events.pending == 0
    return result


def test_events_reach_the_sink_one_at_a_time_and_in_order() -> None:
    sink = Sink(0.1)
    result = ran(sink.queue, emitter(5))
    assert sink.got == [0, 1, 2, 3, 4]
    assert result.events == EventAccount(5, 5, {}, 0, 1_000)
    assert (result.events_lost, round(result.duration_s, 6)) == (0, 0.5)


def test_a_full_queue_refuses_the_newest_and_says_so() -> None:
    sink = Sink(0.1, queue_max=2, policy="drop_newest")
    result = ran(sink.queue, emitter(4))
    assert result.outputs["s0"] == [True, True, False, False]
    assert sink.got == [0, 1]
    assert sink.dropped == [(2, "full"), (3, "full")]
    assert dict(result.events.dropped) == {"full": 2}  # type: ignore[union-attr]


def test_a_full_queue_pushes_out_the_oldest() -> None:
    sink = Sink(0.1, queue_max=2, policy="drop_oldest")
    result = ran(sink.queue, emitter(4))
    assert result.outputs["s0"] == [True] * 4
    assert sink.got == [2, 3]
    assert sink.dropped == [(0, "pushed_out"), (1, "pushed_out")]


def test_a_full_queue_writes_to_disk_as_far_as_there_is_room_and_keeps_the_order() -> None:
    sink = Sink(0.01, queue_max=2, policy="spill", spill_max=3)
    result = ran(sink.queue, emitter(7))
    assert sink.got == [0, 1, 2, 3, 4]
    assert sink.dropped == [(5, "spill_full"), (6, "spill_full")]
    assert result.outputs["s0"] == [True] * 5 + [False] * 2


def test_what_comes_while_there_are_events_on_disk_goes_to_disk_as_well() -> None:
    sink = Sink(0.1, queue_max=1, policy="spill", drain_s=9.0)
    ran(sink.queue, emitter(30, 0.03))
    assert sink.got == list(range(30))


def test_a_producer_waits_for_room_if_the_policy_is_to_block() -> None:
    sink = Sink(0.1, queue_max=2, policy="block")
    result = ran(sink.queue, emitter(6, wait=True))
    assert result.outputs["s0"] == [True] * 6
    assert sink.got == list(range(6))
    stage = result.stages["s0"]
    # The first two fill the queue, the third is let in as the sink takes the first at once.
    assert (stage.duration_s, result.duration_s) == (pytest.approx(0.3), pytest.approx(0.6))


def test_emit_never_waits() -> None:
    sink = Sink(0.1, queue_max=2, policy="block")
    result = ran(sink.queue, emitter(3))
    assert (result.outputs["s0"], sink.dropped) == ([True, True, False], [(2, "full")])
    assert result.stages["s0"].duration_s == 0


def test_nobody_waits_for_longer_than_the_limit_for_a_sink_that_takes_nothing() -> None:
    sink = Hangs(0.1, queue_max=2, policy="block", block_s=1.0, drain_s=0.5)
    result = ran(sink.queue, emitter(9, wait=True))
    # Two are delivered, the third hangs, two wait: four are refused, the first after a second.
    assert result.outputs["s0"] == [True] * 5 + [False] * 4
    assert sink.got == [0, 1]
    assert sink.dropped == [(n, "full") for n in (5, 6, 7, 8)] + [
        *((n, "shutdown") for n in (3, 4)),
        (2, "shutdown"),
    ]
    assert (result.stages["s0"].duration_s, result.duration_s) == (1.2, 1.7)


def test_producers_that_wait_are_let_in_one_for_each_event_that_goes_out() -> None:
    sink = Sink(0.1, queue_max=1, policy="block", drain_s=9.0)
    seen: list[int] = []

    async def stage(context: Context) -> None:
        await context.send("n", context.stage)
        account = context.events
        assert account is not None
        seen.append(account.pending)

    ran(sink.queue, *[stage] * 6)
    assert sink.got == [f"s{i}" for i in range(6)]
    assert max(seen) == 2  # one waits, one is in the sink's hands


def test_a_producer_that_is_cancelled_while_it_waits_is_in_the_account() -> None:
    sink = Hangs(queue_max=1, policy="block", block_s=60.0, drain_s=0.0)
    sink.at = 0
    pipeline = Pipeline("p")
    pipeline.stage("waits", emitter(3, wait=True), timeout_s=2)
    run = pipeline.prepare(sink=sink.queue)

    async def main() -> None:
        with pytest.raises(RunFailed):
            await run.execute()

    in_virtual_time(main())
    assert run.result is not None
    balanced(run.result.events)
    assert sink.dropped == [(2, "cancelled"), (1, "shutdown"), (0, "shutdown")]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
def test_a_sink_that_raises_loses_that_event_and_no_other(
    policy: str, error: type[BaseException]
) -> None:
    sink = Raises(0.001, policy=policy)
    sink.error = error
    result = ran(sink.queue, emitter(6))
    assert sink.got == [0, 2, 4]
    assert sink.dropped == [(1, "sink_failed"), (3, "sink_failed"), (5, "sink_failed")]
    assert (result.status, result.events_lost) == ("completed", 3)


def test_a_hung_sink_delays_the_runs_end_by_the_drain_and_no_longer() -> None:
    sink = Hangs(drain_s=0.5)
    result = ran(sink.queue, emitter(5))
    assert sink.got == [0, 1]
    assert sorted(sink.dropped) == [(2, "shutdown"), (3, "shutdown"), (4, "shutdown")]
    assert (result.status, result.duration_s, result.still_running) == ("completed", 0.5, ())


@pytest.mark.parametrize("seed", range(20))
def test_what_is_delivered_in_the_tick_in_which_the_drain_ends_is_delivered(seed: int) -> None:
    sink = Sink(0.5, drain_s=0.5)
    pipeline = Pipeline("p")
    pipeline.stage("s", emitter(2))
    result = in_virtual_time(pipeline.run(sink=sink.queue), seed=seed)
    balanced(result.events)
    assert result.events.delivered == len(sink.got) in (1, 0)
    assert len(sink.dropped) == 2 - len(sink.got)


def test_events_that_are_delivered_at_once_need_no_time_at_the_end() -> None:
    sink = Sink(0.0, drain_s=0.0)
    sink.queue.deliver = lambda event: sink.got.append(event.data)
    result = ran(sink.queue, emitter(50))
    assert (len(sink.got), result.events_lost) == (50, 0)


def test_a_sink_that_ignores_its_cancellation_is_reported_and_gets_no_more() -> None:
    async def stubborn(event: Event) -> None:
        while True:
            try:
                await asyncio.sleep(9)
            except asyncio.CancelledError:
                continue

    queue = EventQueue(stubborn, drain_s=1.0)
    pipeline = Pipeline("p", cleanup_grace_s=2)
    pipeline.stage("s", emitter(3))

    async def main() -> list[RunResult]:
        return [await pipeline.run(sink=queue) for _ in range(2)]

    first, second = in_virtual_time(main(), left=1)
    assert (first.duration_s, first.still_running) == (3.0, ("event sink",))
    assert dict(first.events.dropped) == {"shutdown": 2, "stuck": 1}
    assert dict(second.events.dropped) == {"stuck": 3}
    assert (second.status, second.duration_s) == ("completed", 0)
    balanced(queue.account())


def test_runs_that_share_a_queue_have_accounts_of_their_own() -> None:
    sink = Hangs(0.1, queue_max=50, drain_s=1.0)
    sink.at = "first 3"

    def named(name: str, count: int, start_s: float) -> Any:
        async def stage(context: Context) -> None:
            await asyncio.sleep(start_s)
            for i in range(count):
                context.emit("n", f"{name} {i}")

        return stage

    async def one(name: str, count: int, start_s: float) -> RunResult:
        pipeline = Pipeline("p")
        pipeline.stage("s", named(name, count, start_s))
        return await pipeline.run(run_id=name, sink=sink.queue)

    async def main() -> list[RunResult]:
        return await asyncio.gather(one("first", 5, 0), one("second", 4, 0.9))

    first, second = in_virtual_time(main())
    # The first run gives up on what hangs a second after its stage; then the second's can pass.
    assert (first.duration_s, first.events) == (
        1.0,
        EventAccount(5, 3, {"shutdown": 2}, 0, 50),
    )
    assert second.events == EventAccount(4, 4, {}, 0, 50)
    assert sink.queue.account() == EventAccount(9, 7, {"shutdown": 2}, 0, 50)


def test_a_queue_can_be_used_again_when_no_run_has_used_it_for_a_while() -> None:
    sink = Sink(0.1)
    pipeline = Pipeline("p")
    pipeline.stage("s", emitter(3))

    async def main() -> None:
        await pipeline.run(sink=sink.queue)
        assert [t.get_name() for t in asyncio.all_tasks() if t.get_name() == "event sink"] == []
        await asyncio.sleep(5)
        await pipeline.run(sink=sink.queue)

    in_virtual_time(main())
    assert sink.got == [0, 1, 2] * 2


def test_events_of_a_subpipeline_are_in_the_account_of_the_run() -> None:
    sink = Sink(0.1)
    child = Pipeline("child")
    child.stage("inner", emitter(2))

    async def outer(context: Context) -> None:
        context.emit("n", "before")
        inner = await context.subpipeline(child)
        assert inner.duration_s == 0  # it is the run that waits for its events
        context.emit("n", "after")

    result = ran(sink.queue, outer)
    assert sink.got == ["before", 0, 1, "after"]
    assert result.events is not None
    assert result.events.offered == 4


def test_events_of_cleanups_are_delivered_and_later_ones_are_refused() -> None:
    sink = Sink(0.1)
    kept: list[Context] = []

    async def stage(context: Context) -> None:
        async def close() -> None:
            context.emit("n", "closed")

        context.cleanup("file", close)
        kept.append(context)

    result = ran(sink.queue, stage)
    assert sink.got == ["closed"]

    async def late() -> bool:
        return kept[0].emit("n", "late")

    assert in_virtual_time(late()) is False
    assert sink.dropped == [("late", "closed")]
    assert result.events == EventAccount(1, 1, {}, 0, 1_000)
    balanced(sink.queue.account())


def test_an_event_is_delivered_as_it_was_when_it_was_emitted() -> None:
    sink = Sink(0.1)

    async def stage(context: Context) -> None:
        data = {"n": 1}
        context.emit("n", data)
        data["n"] = 2

    ran(sink.queue, stage)
    assert sink.got == [{"n": 1}]


def test_an_event_that_cannot_be_copied_is_dropped() -> None:
    sink = Sink()

    async def stage(context: Context) -> bool:
        return context.emit("n", (i for i in ()))

    result = ran(sink.queue, stage)
    assert (result.outputs["s0"], [reason for _, reason in sink.dropped]) == (False, ["no_copy"])


def test_an_event_that_cannot_be_written_to_disk_is_dropped() -> None:
    sink = Sink(0.1, queue_max=1, policy="spill")

    async def stage(context: Context) -> list[bool]:
        return [context.emit("n", one) for one in (1, lambda: None, 2)]

    result = ran(sink.queue, stage)
    assert (result.outputs["s0"], sink.got) == ([True, False, True], [1, 2])
    assert dict(result.events.dropped) == {"spill_failed": 1}  # type: ignore[union-attr]


def test_a_callback_that_raises_is_counted_and_harms_nobody() -> None:
    def on_drop(event: Event, reason: str) -> None:
        raise RuntimeError("no")

    queue = EventQueue(lambda _event: None, queue_max=1, on_drop=on_drop)
    result = ran(queue, emitter(3))
    assert (result.status, queue.callbacks_failed) == ("completed", 2)


def test_deliveries_do_not_run_in_the_context_of_whoever_emitted_first() -> None:
    who = contextvars.ContextVar("who", default="nobody")
    seen: list[str] = []
    queue = EventQueue(lambda _event: seen.append(who.get()))

    async def stage(context: Context) -> None:
        who.set("tenant")
        context.emit("n")

    ran(queue, stage)
    assert seen == ["nobody"]


def test_a_queue_takes_no_events_from_other_threads() -> None:
    sink = Sink()

    async def stage(context: Context) -> str:
        with pytest.raises(EngineError, match=r"call_soon_threadsafe") as caught:
            await asyncio.to_thread(context.emit, "n", 1)
        return str(caught.value)

    pipeline = Pipeline("p")
    pipeline.stage("s", stage)
    result = asyncio.run(pipeline.run(sink=sink.queue))
    assert "event loop's thread" in result.outputs["s"]


def test_a_function_as_sink_has_an_account_as_well() -> None:
    def sink(event: Event) -> None:
        if event.data == 1:
            raise ValueError("no")

    pipeline = Pipeline("p")
    pipeline.stage("s", emitter(3))
    result = in_virtual_time(pipeline.run(sink=sink))
    assert result.outputs["s"] == [True, False, True]
    assert result.events == EventAccount(3, 2, {"sink_failed": 1}, 0, 0)


def test_without_a_sink_there_is_no_account() -> None:
    async def stage(context: Context) -> object:
        assert await context.send("n")
        return context.emit("n"), context.events

    pipeline = Pipeline("p")
    pipeline.stage("s", stage)
    result = in_virtual_time(pipeline.run())
    assert (result.outputs["s"], result.events, result.events_lost) == ((True, None), None, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "drop"}, "policy: expected one of block, drop_newest, drop_oldest, spill"),
        ({"queue_max": 0}, "queue_max: expected a whole number from 1"),
        ({"spill_max": -1}, "spill_max: expected a whole number from 1"),
        ({"drain_s": float("nan")}, "drain_s: expected a number of seconds"),
        ({"block_s": -1}, "block_s: expected a number of seconds"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        EventQueue(lambda _event: None, **settings)


def test_an_async_function_without_a_queue_is_refused() -> None:
    async def deliver(event: Event) -> None:
        """Never called."""

    pipeline = Pipeline("p")
    pipeline.stage("s", emitter(1))
    with pytest.raises(PipelineError, match=r"needs a queue before it: EventQueue\(sink\)"):
        pipeline.prepare(sink=deliver)


def test_the_end_of_the_loop_ends_the_delivery() -> None:
    """As asyncio.run() does it: all tasks are cancelled, by nobody in particular."""
    sink = Hangs(0.0)
    sink.at = 0
    intake = sink.queue.intake_type(sink.queue)

    async def main() -> None:
        for number in range(3):
            intake.offer(Event("r", "s", "n", number))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert sorted(sink.dropped) == [(0, "shutdown"), (1, "shutdown"), (2, "shutdown")]
    balanced(sink.queue.account())


@pytest.mark.parametrize("point", range(0, 60, 3))
@pytest.mark.parametrize("policy", POLICIES)
def test_a_cancel_of_the_caller_loses_no_event_out_of_the_account(policy: str, point: int) -> None:
    sink = Sink(0.01, queue_max=2, policy=policy, drain_s=0.02)
    pipeline = Pipeline("p")
    pipeline.stage("a", emitter(6, 0.004, wait=True))
    pipeline.stage("b", emitter(6, wait=True))
    run = pipeline.prepare(sink=sink.queue)

    async def main() -> None:
        task = asyncio.create_task(run.execute())
        for _ in range(point):
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])

    in_virtual_time(main())
    if run.result is None:
        return  # it was cancelled before it began
    account = run.result.events
    balanced(account)
    assert account is not None
    assert (account.pending, account.delivered, account.lost) == (
        0,
        len(sink.got),
        len(sink.dropped),
    )


@pytest.mark.parametrize("drain_s", [0.0, 1.0])
@pytest.mark.parametrize("turns", range(6))
def test_a_run_ends_in_whatever_turn_the_sink_takes_its_last_event(
    turns: int, drain_s: float
) -> None:
    sink = Sink(drain_s=drain_s)

    async def deliver(event: Event) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        sink.got.append(event.data)

    sink.queue.deliver = deliver
    result = ran(sink.queue, emitter(1))
    assert (sink.got, sink.dropped, result.duration_s) == ([0], [], 0)


# Events on disk.


def open_files() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def event(n: int) -> Event:
    return Event("r", "s", "n", n)


def test_spilled_events_come_back_in_order_and_no_file_is_left() -> None:
    files = open_files()
    spill: SpillFile[str] = SpillFile()
    got: list[tuple[str, Any]] = []

    def take() -> None:
        owner, one = spill.take()
        assert one is not None
        got.append((owner, one.data))

    for n in range(5):
        spill.put(f"o{n % 2}", event(n))
    for _ in range(3):
        take()
    for n in range(5, 8):
        spill.put(f"o{n % 2}", event(n))
    assert len(spill) == 5
    assert open_files() > files or files == 0
    while len(spill):
        take()
    assert got == [(f"o{n % 2}", n) for n in range(8)]
    assert open_files() == files


def test_an_event_that_cannot_be_read_from_disk_is_told_apart() -> None:
    spill: SpillFile[str] = SpillFile()
    spill.put("mine", event(1))
    assert spill._writing is not None
    spill._writing.seek(8)
    spill._writing.write(b"\x00\x00\x00\x00")
    assert spill.take() == ("mine", None)


def test_a_write_that_fails_leaves_the_file_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    spill: SpillFile[str] = SpillFile()
    spill.put("a", event(1))
    file: Any = spill._writing

    class Full:
        """A file on a disk that is full after a few bytes."""

        def __getattr__(self, name: str) -> Callable[..., Any]:
            found: Callable[..., Any] = getattr(file, name)
            return found

        def write(self, data: bytes) -> None:
            file.write(data[:5])
            raise OSError(28, "No space left on device")

    full: Any = Full()
    spill._writing = full
    with pytest.raises(OSError, match="No space left"):
        spill.put("b", event(2))
    spill._writing = file
    spill.put("c", event(3))
    assert [spill.take() for _ in range(2)] == [("a", event(1)), ("c", event(3))]
