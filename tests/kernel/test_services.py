"""One ordered record for each operation that asks the engine for a service, asserted whole;
and what stands around stages: sinks, layers, consumers.

Longer than most: the record of each operation is written out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from harness.kernel.around import LayerBody, SinkMock, consume
from harness.kernel.errors import HarnessFault
from harness.kernel.interpreter import Execution, ProgramBodies, World
from harness.kernel.journal import Journal
from harness.kernel.loop import SimLoop
from harness.kernel.outcome import SinkReport
from harness.kernel.plan import Consumer, Layer, Plan, RunSpec, Sink
from harness.kernel.port import StagePort
from harness.kernel.program import Program, Stage
from harness.kernel.services import COMPILERS, filled
from harness.kernel.steps import Step, step
from harness.kernel.tape import Tape
from mocks.tools import simulated_tool
from tests.kernel.bench import Row, journal, run, sim

START: Row = (0.0, "stage.start", None)


def ended(at_s: float, how: str = "ok", value: Any = None) -> list[Row]:
    """Return the last rows of a stage that returns a verdict."""
    returned = [(at_s, "returned", value)] if how == "ok" else []
    said = "" if value is None else value
    return [*returned, (at_s, "stage.end", how), (at_s, "verdict", (how, said))]


def raised(at_s: float, error: str, message: str) -> list[Row]:
    return [(at_s, "stage.end", f"raise:{error}"), (at_s, error, message)]


def cancelled(at_s: float) -> list[Row]:
    return [(at_s, "stage.end", "cancelled"), (at_s, "CancelledError", "")]


def ignore(*_args: Any) -> None:
    """A service of the engine that does nothing."""


def given_mark(key: str) -> str:
    return f"{key} of r0"


class Sending:
    """An engine's emit that takes a while, or refuses, and keeps what it was given."""

    def __init__(self, *, takes_s: float = 0, answer: Any = None, error: Any = None) -> None:
        self.takes_s, self.answer, self.error = takes_s, answer, error
        self.sent: list[tuple[str, Any]] = []

    async def wait(self) -> Any:
        await asyncio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        return self.answer

    def __call__(self, type: str, data: Any) -> Any:
        self.sent.append((type, data))
        return self.wait() if self.takes_s or self.error is not None else self.answer


MARKED = step("input", key="marker")

# (name, steps, cancels, port or plan, record)
Case = tuple[str, tuple[Step, ...], tuple[float, ...], dict[str, Any], list[Row]]

CASES: list[Case] = [
    (
        "emit_that_is_awaited",
        (step("emit", type="note", data={"n": 1}),),
        (),
        {"emit": Sending(takes_s=1)},
        [START, (0.0, "emit", "note"), *ended(1.0)],
    ),
    (
        "flood_at_once",
        (step("flood", producer="p", count=2),),
        (),
        {"emit": Sending()},
        [
            START,
            *(
                (0.0, kind, ("r0/s/p", n, *more))
                for n in range(2)
                for kind, *more in (("offer.begin",), ("offer.end", "taken"))
            ),
            *ended(0.0),
        ],
    ),
    (
        "flood_in_time_with_an_account",
        (step("flood", producer="p", count=2, every_s=0.5),),
        (),
        {"emit": Sending(answer=True), "account": lambda: SinkReport(5, 2, 1, 2, 8)},
        [
            START,
            *(
                (0.5 + n / 2, *row)
                for n in range(2)
                for row in (
                    ("offer.begin", ("r0/s/p", n)),
                    ("offer.end", ("r0/s/p", n, "taken")),
                    ("account", (5, 2, 1, 2, 8)),
                )
            ),
            *ended(1.0),
        ],
    ),
    (
        "flood_that_is_refused_by_an_engine_without_an_account",
        (step("flood", producer="p", count=1),),
        (),
        {"emit": Sending(answer=False), "account": lambda: None},
        [
            START,
            (0.0, "offer.begin", ("r0/s/p", 0)),
            (0.0, "offer.end", ("r0/s/p", 0, "refused")),
            *ended(0.0),
        ],
    ),
    (
        "flood_whose_emit_raises",
        (step("flood", producer="p", count=5),),
        (),
        {"emit": Sending(error=OSError("full"))},
        [
            START,
            (0.0, "offer.begin", ("r0/s/p", 0)),
            (0.0, "offer.end", ("r0/s/p", 0, "raise:OSError")),
            *raised(0.0, "OSError", "full"),
        ],
    ),
    (
        "flood_cancelled_in_an_offer",
        (step("flood", producer="p", count=5),),
        (0.5,),
        {"emit": Sending(takes_s=1)},
        [
            START,
            (0.0, "offer.begin", ("r0/s/p", 0)),
            (0.5, "offer.end", ("r0/s/p", 0, "raise:CancelledError")),
            (0.5, "interrupt", None),
            *cancelled(0.5),
        ],
    ),
    (
        "flood_cancelled_between_offers",
        (step("flood", producer="p", count=5, every_s=1),),
        (1.5,),
        {"emit": Sending()},
        [
            START,
            (1.0, "offer.begin", ("r0/s/p", 0)),
            (1.0, "offer.end", ("r0/s/p", 0, "taken")),
            (1.5, "interrupt", None),
            *cancelled(1.5),
        ],
    ),
    (
        "input",
        (step("input", key="order"), step("ok", value="$marker")),
        (),
        {"input": given_mark},
        [START, (0.0, "input", ("order", "order of r0")), *ended(0.0, "ok", "$marker")],
    ),
    (
        "what_marker_gives_takes_the_place_of_its_name_in_later_steps",
        (
            step("log", message="before $marker"),
            MARKED,
            step("log", message="after $marker"),
            step("chunk", value=["$marker"]),
            step("store", key="k/$marker", value={"v": "$marker"}),
            step("ok", value=["a $marker", 1, None, {"k": "$marker"}]),
        ),
        (),
        {"input": given_mark, "log": ignore, "chunk": ignore, "store": ignore},
        [
            START,
            (0.0, "log", "before $marker"),
            (0.0, "input", ("marker", "marker of r0")),
            (0.0, "log", "after marker of r0"),
            (0.0, "chunk", ["marker of r0"]),
            (0.0, "store", ("k/marker of r0", {"v": "marker of r0"})),
            *ended(0.0, "ok", ["a marker of r0", 1, None, {"k": "marker of r0"}]),
        ],
    ),
    (
        "marker_in_a_failure",
        (MARKED, step("fail", message="no row for $marker")),
        (),
        {"input": given_mark},
        [
            START,
            (0.0, "input", ("marker", "marker of r0")),
            *ended(0.0, "fail", "no row for marker of r0"),
        ],
    ),
    (
        "marker_in_an_exception_of_a_task_of_the_stages_own",
        (MARKED, step("parallel", branches=[[{"op": "raise", "message": "$marker"}]])),
        (),
        {"input": given_mark},
        [
            START,
            (0.0, "input", ("marker", "marker of r0")),
            *raised(0.0, "ValueError", "marker of r0"),
        ],
    ),
    (
        "identify",
        (step("identify"), step("identify", place="task")),
        (),
        {"identity": lambda: {"run": "r0", "tenant": "t0"}},
        [
            START,
            (0.0, "identity", ("stage", {"run": "r0", "tenant": "t0"})),
            (0.0, "identity", ("task", {"run": "r0", "tenant": "t0"})),
            *ended(0.0),
        ],
    ),
    (
        "thread_that_identifies_itself",
        (step("thread", seconds=2, identify=True),),
        (),
        {"identity": lambda: {"run": "r0"}},
        [
            START,
            (0.0, "thread.begin", 2.0),
            (2.0, "identity", ("thread", {"run": "r0"})),
            (2.0, "thread.end", 2.0),
            *ended(2.0),
        ],
    ),
    (
        "log",
        (step("log", message="3 rows"),),
        (),
        {"log": ignore},
        [START, (0.0, "log", "3 rows"), *ended(0.0)],
    ),
    (
        "store_that_is_awaited",
        (step("store", key="k", value=[1]),),
        (),
        {"store": lambda _key, _value: asyncio.sleep(1)},
        [START, (0.0, "store", ("k", [1])), *ended(1.0)],
    ),
    (
        "trespass_that_is_refused",
        (step("trespass", how="select", tenant="t1"),),
        (),
        {"trespass": lambda _how, _tenant: (True, [], 0)},
        [START, (0.0, "trespass", ("select", "t1", True, [], 0)), *ended(0.0)],
    ),
    (
        "trespass_that_sees_and_changes",
        (step("trespass", how="update", tenant="t1"),),
        (),
        {"trespass": lambda _how, _tenant: (False, ("secret",), 2)},
        [START, (0.0, "trespass", ("update", "t1", False, ["secret"], 2)), *ended(0.0)],
    ),
    (
        "trespass_on_the_first_other_tenant_of_the_plan",
        (step("trespass", how="select", tenant="$other"),),
        (),
        {
            "trespass": lambda _how, _tenant: (True, [], 0),
            "plan": Plan(runs=(RunSpec("r0", "a"), RunSpec("r1", "a"), RunSpec("r2", "b"))),
        },
        [START, (0.0, "trespass", ("select", "b", True, [], 0)), *ended(0.0)],
    ),
    (
        "no_trespass_on_the_runs_own_tenant",
        (
            step("trespass", how="select", tenant="t0"),
            step("trespass", how="select", tenant="$other"),
        ),
        (),
        {},
        [START, *ended(0.0)],
    ),
    (
        "compensate",
        (step("compensate", name="refund"),),
        (),
        {"compensation": ignore},
        [START, (0.0, "compensate", "refund"), *ended(0.0)],
    ),
    (
        "flaky",
        (step("flaky", times=1, error="OSError", message="down"), step("ok", value=1)),
        (),
        {},
        [START, (0.0, "flaky", (1, True)), *raised(0.0, "OSError", "down")],
    ),
    (
        "flaky_that_never_fails",
        (step("flaky", times=0), step("ok", value=1)),
        (),
        {},
        [START, (0.0, "flaky", (1, False)), *ended(0.0, "ok", 1)],
    ),
    (
        "flaky_by_cancelling_itself",
        (step("flaky", error="CancelledError", message=""),),
        (),
        {},
        [START, (0.0, "flaky", (1, True)), (0.0, "self_cancel", None), *cancelled(0.0)],
    ),
    (
        "several_flaky_steps_of_one_execution_count_it_once",
        (
            step("parallel", branches=[[{"op": "flaky", "times": 0}]]),
            step("flaky", times=0),
        ),
        (),
        {},
        [START, (0.0, "flaky", (1, False)), (0.0, "flaky", (1, False)), *ended(0.0)],
    ),
]


@pytest.mark.parametrize(
    ("steps", "cancels", "given", "record"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_what_a_service_is_asked_for_is_what_the_step_says(
    steps: tuple[Step, ...], cancels: tuple[float, ...], given: dict[str, Any], record: list[Row]
) -> None:
    assert journal(*steps, cancels=cancels, **given) == record


def test_every_service_has_its_record() -> None:
    assert {one.op for _, steps, *_ in CASES for one in steps} >= set(COMPILERS)


def test_an_event_carries_its_producer_and_number_and_any_marker() -> None:
    sending = Sending()
    journal(
        MARKED,
        step("emit", type="note", data={"who": "$marker"}),
        step("flood", producer="p", count=2),
        input=given_mark,
        emit=sending,
    )
    assert sending.sent == [
        ("note", {"who": "marker of r0"}),
        ("flood", {"producer": "r0/s/p", "n": 0}),
        ("flood", {"producer": "r0/s/p", "n": 1}),
    ]


def test_a_marker_is_put_in_the_place_of_its_name_wherever_that_stands() -> None:
    value = {"a": ["x $marker y", 1, None, True], "$marker": 2.5}
    assert filled(value, "M") == {"a": ["x M y", 1, None, True], "$marker": 2.5}
    assert filled(value, None) == value


# Compensations: what a stage declares is what the engine runs.


def declared(one: Step) -> tuple[str, Callable[[], Awaitable[None]], list[Row], SimLoop]:
    """Run a `compensate` step; return what it declared, and where that notes its doings."""
    loop = sim()
    entries = Journal()
    bodies = ProgramBodies(Program((Stage("s", (one,)),)))
    bodies.enter(World(entries, loop.tape, Plan(), loop.time, simulated_tool))
    kept: list[tuple[str, Callable[[], Awaitable[None]]]] = []

    async def main() -> None:
        await bodies.body("s")(
            StagePort(run="r0", compensation=lambda name, fn: kept.append((name, fn)))
        )

    loop.run_until_complete(main())
    ((name, fn),) = kept
    return name, fn, entries.entries, loop  # type: ignore[return-value]


def undone(rows: Any) -> list[Row]:
    return [(e.at_s, e.kind, e.detail) for e in rows if e.kind.startswith("undo")]


def test_a_compensation_notes_its_begin_and_its_end() -> None:
    name, fn, entries, loop = declared(step("compensate", name="refund", seconds=2))
    loop.run_until_complete(fn())
    assert name == "refund"
    assert undone(entries) == [(0.0, "undo.begin", "refund"), (2.0, "undo.end", "refund")]
    loop.close()


def test_a_compensation_that_is_told_to_fail_notes_it_and_raises() -> None:
    _, fn, entries, loop = declared(step("compensate", name="refund", seconds=2, fails=True))
    with pytest.raises(Exception, match=r"^compensation refund failed$"):
        loop.run_until_complete(fn())
    assert undone(entries) == [(0.0, "undo.begin", "refund"), (2.0, "undo.fail", "refund")]
    loop.close()


def test_a_compensation_that_is_cancelled_notes_that_it_was_cut() -> None:
    _, fn, entries, loop = declared(step("compensate", name="refund", seconds=2))

    async def main() -> None:
        task = asyncio.ensure_future(fn())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    loop.run_until_complete(main())
    assert undone(entries) == [(0.0, "undo.begin", "refund"), (1.0, "undo.cut", "refund")]
    loop.close()


# Executions are counted over retries and redrives.


def numbers(plan: Plan, *executions: tuple[str, str]) -> list[int]:
    world = World(Journal(), Tape(0), plan, lambda: 0.0, simulated_tool)
    return [world.execution_number(run, stage) for run, stage in executions]


def test_executions_of_a_stage_are_counted_over_retries_and_redrives_together() -> None:
    plan = Plan(
        runs=(RunSpec("a"), RunSpec("b", redrives="a"), RunSpec("c", redrives="b"), RunSpec("d"))
    )
    assert numbers(plan, ("a", "s"), ("a", "s"), ("b", "s"), ("c", "s"), ("c", "s")) == [
        *(1, 2, 3, 4, 5)
    ]
    assert numbers(plan, ("a", "s"), ("d", "s"), ("a", "t"), ("a/child", "s")) == [1, 1, 1, 1]


# The store for tenants.


def test_a_laboratory_has_one_store_made_when_it_is_first_asked_for_and_closed() -> None:
    class Store:
        closed = 0

        def close(self) -> None:
            self.closed += 1

    class Tool:
        def __init__(self) -> None:
            self.made: list[Store] = []

        async def __call__(self, ex: Execution, args: Any, number: int) -> Any:
            raise AssertionError("no step calls it")

        def store(self) -> Store:
            self.made.append(Store())
            return self.made[-1]

    tool = Tool()
    world = World(Journal(), Tape(0), Plan(), lambda: 0.0, tool)
    world.close()
    assert tool.made == []
    bodies = ProgramBodies(Program((Stage("s"),)))
    bodies.enter(world)
    assert bodies.store() is bodies.store() is world.tenant_store()
    world.close()
    assert [store.closed for store in tool.made] == [1]


def test_a_laboratory_whose_mocks_bring_no_store_says_so() -> None:
    async def tool(ex: Execution, args: Any, number: int) -> Any:
        raise AssertionError("no step calls it")

    world = World(Journal(), Tape(0), Plan(), lambda: 0.0, tool)  # type: ignore[arg-type]
    with pytest.raises(HarnessFault, match=r"^this laboratory's mocks bring no store for tenants$"):
        world.tenant_store()


# Around stages. `surrounded` runs a coroutine function of a world, and returns what was noted.


def surrounded(plan: Plan, main: Callable[[World], Awaitable[Any]]) -> list[Any]:
    loop = sim()
    entries = Journal()
    world = World(entries, loop.tape, plan, loop.time, simulated_tool)

    async def work(_loop: SimLoop, _record: list[Any]) -> None:
        await main(world)

    run(loop, work)
    return [(e.at_s, e.run, e.stage, e.kind, e.detail) for e in entries.entries]


def delivered(spec: Sink | None, events: int, *, now: bool = False) -> list[Any]:
    """Deliver that many events of a flood; return the rows (seconds, kind, number) noted."""

    async def main(world: World) -> None:
        sink = SinkMock(lambda: world, "shared")
        for n in range(events):
            data = {"producer": "p", "n": n}
            try:
                if now:
                    sink.deliver_now("flood", data)
                else:
                    async with asyncio.timeout(10):
                        await sink.deliver("flood", data)
            except (OSError, TimeoutError):
                continue

    rows = surrounded(Plan(sink=spec), main)
    assert {(row[1], row[2], row[4][0]) for row in rows} <= {("shared", "", "p")}
    return [(at_s, kind, detail[1]) for at_s, _, _, kind, detail in rows]


@pytest.mark.parametrize("now", [False, True])
def test_a_sink_takes_everything_at_once_unless_it_is_told_otherwise(now: bool) -> None:
    both = [(0.0, f"deliver.{kind}", n) for n in range(2) for kind in ("begin", "end")]
    assert delivered(None, 2, now=now) == delivered(Sink(), 2, now=now) == both


def test_a_sink_is_as_slow_as_it_is_told_and_one_that_is_not_asynchronous_never_is() -> None:
    slow = Sink(delivery_s=2)
    assert delivered(slow, 2) == [
        (0.0, "deliver.begin", 0),
        (2.0, "deliver.end", 0),
        (2.0, "deliver.begin", 1),
        (4.0, "deliver.end", 1),
    ]
    assert {at_s for at_s, *_ in delivered(slow, 3, now=True)} == {0.0}


@pytest.mark.parametrize("now", [False, True])
def test_a_sink_raises_at_every_how_many_th_event(now: bool) -> None:
    kinds = [kind for _, kind, _ in delivered(Sink(error="OSError", error_every=2), 4, now=now)]
    assert kinds[1::2] == ["deliver.end", "deliver.fail", "deliver.end", "deliver.fail"]


def test_a_sink_that_hangs_never_ends_that_event_nor_any_later_one() -> None:
    assert delivered(Sink(hangs_at=2), 3) == [
        (0.0, "deliver.begin", 0),
        (0.0, "deliver.end", 0),
        (0.0, "deliver.begin", 1),
        (10.0, "deliver.cut", 1),
        (10.0, "deliver.begin", 2),
        (20.0, "deliver.cut", 2),
    ]


def test_an_event_that_no_flood_sent_has_no_producer_and_no_number() -> None:
    async def main(world: World) -> None:
        for data in (None, "text", {"n": 1}):
            await SinkMock(lambda: world).deliver("note", data)

    assert {row[4] for row in surrounded(Plan(), main)} == {("", -1)}


def around(layer: Layer, *runs: str, how: str = "ok") -> list[Any]:
    """Put a layer around stage `s` of each run; return rows (run, kind, detail) and answers."""
    rows: list[Any] = []

    async def main(world: World) -> None:
        body = LayerBody(lambda: world, layer)
        for one in runs:
            try:
                if body.before(one, "s"):
                    body.after(one, "s", how)
                else:
                    rows.append("denied")
            except (RuntimeError, OSError) as exc:
                rows.append(str(exc))

    noted = surrounded(Plan(layers=(layer,)), main)
    assert {(row[0], row[2]) for row in noted} <= {(0.0, "s")}
    return [*((run, kind, detail) for _, run, _, kind, detail in noted), *rows]


def test_a_layer_that_looks_on_notes_that_the_stage_was_entered_and_left() -> None:
    assert around(Layer("observe", "log"), "r0", how="raise:OSError") == [
        ("r0", "layer.enter", "log"),
        ("r0", "layer.exit", ("log", "raise:OSError")),
    ]


@pytest.mark.parametrize(
    ("phase", "noted"),
    [
        ("before", [("r0", "layer.enter", "x"), ("r0", "layer.raise", "x")]),
        (
            "after",
            [
                ("r0", "layer.enter", "x"),
                ("r0", "layer.exit", ("x", "ok")),
                ("r0", "layer.raise", "x"),
            ],
        ),
    ],
)
def test_a_layer_that_fails_notes_it_first(phase: str, noted: list[Any]) -> None:
    layer = Layer("raise", "x", phase=phase, error="OSError")
    assert around(layer, "r0") == [*noted, "layer x failed"]


def test_a_layer_that_denies_notes_it_and_answers_false() -> None:
    assert around(Layer("deny", "auth"), "r0") == [
        ("r0", "layer.enter", "auth"),
        ("r0", "layer.deny", "auth"),
        "denied",
    ]


@pytest.mark.parametrize("kind", ["deny", "raise"])
@pytest.mark.parametrize("phase", ["before", "after"])
def test_a_layer_leaves_runs_alone_that_it_is_not_for(kind: str, phase: str) -> None:
    layer = Layer(kind, "x", runs=("r1",), phase=phase)
    mine = around(layer, "r1")
    assert around(layer, "r0", "r1") == [
        ("r0", "layer.enter", "x"),
        ("r0", "layer.exit", ("x", "ok")),
        *mine,
    ]
    assert mine[-1] in ("denied", "layer x failed")


def test_a_layer_is_put_around_the_stages_it_names_or_all() -> None:
    world: Any = None
    some, every = (
        LayerBody(lambda: world, Layer("observe", "x", stages=stages)) for stages in (("a",), ())
    )
    assert [some.wants("a"), some.wants("b"), every.wants("a"), every.wants("b")] == [
        *(True, False, True, True)
    ]


async def stream(count: int, every_s: float) -> AsyncIterator[int]:
    for i in range(count):
        await asyncio.sleep(every_s)
        yield i


def consumed(spec: Consumer, count: int = 3) -> list[Any]:
    async def main(world: World) -> None:
        source = stream(count, 1)
        await consume(world, "r0", source)
        await source.aclose()  # type: ignore[attr-defined]

    rows = surrounded(Plan(consumer=spec), main)
    assert {row[1:3] for row in rows} == {("r0", spec.stage)}
    return [(at_s, kind, detail) for at_s, _, _, kind, detail in rows]


def test_a_consumer_takes_all_there_is_as_slowly_as_it_is_told() -> None:
    assert consumed(Consumer("s", every_s=5)) == [
        (1.0, "consume", 0),
        (7.0, "consume", 1),
        (13.0, "consume", 2),
        (18.0, "consume.stop", 3),
    ]


@pytest.mark.parametrize("stop_after", [0, 2])
def test_a_consumer_stops_after_as_many_as_it_is_told(stop_after: int) -> None:
    taken = [(1.0 + n, "consume", n) for n in range(stop_after)]
    stop = (float(stop_after), "consume.stop", stop_after)
    assert consumed(Consumer("s", stop_after=stop_after)) == [*taken, stop]


def test_the_bodies_of_a_program_hand_out_what_stands_around_it() -> None:
    layer = Layer("observe", "x")
    plan = Plan(sink=Sink(), layers=(layer,), consumer=Consumer("s"))

    async def main(world: World) -> None:
        bodies = ProgramBodies(Program((Stage("s"),)))
        bodies.enter(world)
        await bodies.sink().deliver("note", None)
        bodies.layer(layer).before("r0", "s")
        await bodies.consume("r0", stream(1, 0))

    assert [row[1:] for row in surrounded(plan, main)] == [
        ("", "", "deliver.begin", ("", -1)),
        ("", "", "deliver.end", ("", -1)),
        ("r0", "s", "layer.enter", "x"),
        ("r0", "s", "consume", 0),
        ("r0", "s", "consume.stop", 1),
    ]
