"""W3C trace context: headers by the recommendation's rules, and spans as one tree."""

from __future__ import annotations

import asyncio
import importlib.util
import random
from typing import Any

import pytest

from harness.engine import Context, Pipeline, RunFailed, Span, TraceContext, current_identity
from harness.engine.trace import SpanMaker
from tests.engine.virtual import in_virtual_time

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
HEADER = f"00-{TRACE}-{CALLER}-01"


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        (HEADER, 1),
        (f"00-{TRACE}-{CALLER}-00", 0),
        (f"00-{TRACE}-{CALLER}-03", 3),
        (f"00-{TRACE}-{CALLER}-ff", 3),
        (f"  {HEADER}\t", 1),
        (f"cc-{TRACE}-{CALLER}-01", 1),
        (f"cc-{TRACE}-{CALLER}-01-what-the-future-will-be-like", 1),
    ],
)
def test_a_header_by_the_rules_is_read(header: str, flags: int) -> None:
    assert TraceContext.parse(header) == TraceContext(TRACE, CALLER, flags)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{CALLER}-01",
        f"00-{TRACE}-{CALLER}-01-more",
        f"00-{TRACE}-{CALLER}-01-",
        f"cc-{TRACE}-{CALLER}-01.more",
        f"00-{TRACE.upper()}-{CALLER}-01",
        f"00-{'0' * 32}-{CALLER}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{CALLER}-01",
        f"00-{TRACE}-{CALLER}-1",
        f"00-{TRACE}-{CALLER}",
        f"0-{TRACE}-{CALLER}-01",
        f"00_{TRACE}_{CALLER}_01",
    ],
)
def test_a_header_against_the_rules_is_none(header: str) -> None:
    assert TraceContext.parse(header) is None


def test_a_header_comes_out_as_it_went_in() -> None:
    parsed = TraceContext.parse(HEADER, "vendor=1")
    assert parsed is not None
    assert (parsed.traceparent, parsed.state) == (HEADER, "vendor=1")


class _Zeros(random.Random):
    """Draws nothing but zeros at first."""

    zeros = 2

    def getrandbits(self, k: int, /) -> int:
        if self.zeros:
            self.zeros -= 1
            return 0
        return 0xBEEF


def test_ids_are_padded_and_never_all_zero() -> None:
    span = SpanMaker(None, _Zeros()).begin("p", "run", None, 0.0, {})
    assert (span.place.span_id, span.place.trace_id) == (f"{0xBEEF:016x}", f"{0xBEEF:032x}")


async def _answer(context: Context) -> str:
    await asyncio.sleep(1)
    return context.traceparent


def family() -> Pipeline:
    child = Pipeline("child")
    child.stage("search", _answer)

    async def delegate(context: Context) -> Any:
        return (await context.subpipeline(child)).outputs["search"]

    pipeline = Pipeline("top", rng=random.Random(7))
    pipeline.stage("delegate", delegate)
    pipeline.stage("answer", _answer, needs=["delegate"])
    return pipeline


def tree(spans: list[Span]) -> list[str]:
    names = {span.span_id: span.name for span in spans} | {CALLER: "caller", "": "nobody"}
    return [f"{s.kind} {s.name} under {names[s.parent_id]} {s.status}" for s in spans]


def test_spans_of_stages_are_children_of_their_run_and_runs_of_stages() -> None:
    spans: list[Span] = []
    run = family().run({}, traceparent=HEADER, exporter=spans.append, tenant="north")
    result = in_virtual_time(run)
    assert tree(spans) == [
        "stage search under child ok",
        "run child under delegate ok",
        "stage delegate under top ok",
        "stage answer under top ok",
        "run top under caller ok",
    ]
    assert {span.trace_id for span in spans} == {TRACE} == {result.trace_id}
    assert [(s.start_s, s.end_s) for s in spans] == [(0, 1), (0, 1), (0, 1), (1, 2), (0, 2)]
    assert spans[0].attributes == {
        "run_id": "top-1/child",
        "pipeline": "child",
        "tenant": "north",
        "correlation_id": "",
        "stage": "search",
        "attempt": 1,
    }
    searched = spans[0]
    assert result.outputs["delegate"] == f"00-{TRACE}-{searched.span_id}-01"


def test_a_bad_header_begins_a_trace_anew_and_fails_nothing() -> None:
    spans: list[Span] = []
    in_virtual_time(family().run({}, traceparent="ff-bad", exporter=spans.append))
    assert tree(spans)[-1] == "run top under nobody ok"
    assert {span.trace_id for span in spans} != {TRACE}
    assert len({span.trace_id for span in spans}) == 1


def test_ids_come_from_the_generator_that_is_given_in() -> None:
    first: list[Span] = []
    second: list[Span] = []
    in_virtual_time(family().run({}, exporter=first.append))
    in_virtual_time(family().run({}, exporter=second.append))
    assert first == second


def test_what_is_not_sampled_is_handed_on_and_not_exported() -> None:
    spans: list[Span] = []
    header = f"00-{TRACE}-{CALLER}-00"
    result = in_virtual_time(family().run({}, traceparent=header, exporter=spans.append))
    assert spans == []
    assert result.outputs["answer"].startswith(f"00-{TRACE}-")
    assert result.outputs["answer"].endswith("-00")


def test_an_exporter_that_raises_fails_no_stage() -> None:
    def refuse(_span: Span) -> None:
        raise ValueError("full")

    assert in_virtual_time(family().run({}, exporter=refuse)).status == "completed"


def test_stages_that_fail_or_are_stopped_or_time_out_say_so_on_their_spans() -> None:
    async def fail(_context: Context) -> None:
        await asyncio.sleep(2)
        raise ValueError("no")

    async def hang(_context: Context) -> None:
        await asyncio.sleep(60)

    pipeline = Pipeline("p", on_failure="cancel")
    pipeline.stage("fails", fail)
    pipeline.stage("is_stopped", hang)
    spans: list[Span] = []
    with pytest.raises(RunFailed) as caught:
        in_virtual_time(pipeline.run(exporter=spans.append))
    assert [(s.name, s.status) for s in spans] == [
        ("fails", "error"),
        ("is_stopped", "cancelled"),
        ("p", "error"),
    ]
    assert caught.value.trace_id == spans[0].trace_id

    timed = Pipeline("q")
    timed.stage("hangs", hang, timeout_s=1)
    spans.clear()
    with pytest.raises(RunFailed):
        in_virtual_time(timed.run(exporter=spans.append))
    assert [(s.name, s.status) for s in spans] == [("hangs", "error"), ("q", "error")]


def test_a_run_that_nobody_traces_has_no_trace() -> None:
    seen: list[Any] = []

    async def look(context: Context) -> None:
        seen.append((context.traceparent, context.tracestate, context.span))

    pipeline = Pipeline("p")
    pipeline.stage("look", look)
    assert in_virtual_time(pipeline.run()).trace_id == ""
    assert seen == [("", "", None)]


# With the real OpenTelemetry, where it is installed.

otel = pytest.mark.skipif(
    importlib.util.find_spec("opentelemetry.sdk") is None
    if importlib.util.find_spec("opentelemetry") is not None
    else True,
    reason="opentelemetry-sdk is not installed: pip install opentelemetry-sdk",
)


def exported(main: Any) -> tuple[Any, list[Any]]:
    """Run `main(tracer)` and return its result and the spans of the SDK's in-memory exporter."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    result = in_virtual_time(main(provider.get_tracer("test")))
    return result, list(memory.get_finished_spans())


def parents(spans: list[Any]) -> list[str]:
    names = {span.context.span_id: span.name for span in spans}
    return sorted(
        f"{s.name} under {names.get(s.parent.span_id, 'caller') if s.parent else 'nobody'}"
        for s in spans
    )


@otel
def test_opentelemetry_sees_one_tree_with_the_stages_own_spans_in_it() -> None:
    from opentelemetry import trace

    async def main(tracer: trace.Tracer) -> Any:
        def in_thread() -> None:
            with tracer.start_as_current_span("own in thread"):
                pass

        async def in_task() -> None:
            with tracer.start_as_current_span("own in task"):
                await asyncio.sleep(1)

        async def clean() -> None:
            with tracer.start_as_current_span("own in cleanup"):
                pass

        async def work(context: Context) -> None:
            context.cleanup("c", clean)
            with tracer.start_as_current_span("own"):
                await asyncio.create_task(in_task())
            await context.to_thread(in_thread)

        child = Pipeline("child")
        child.stage("work", work)

        async def delegate(context: Context) -> None:
            await context.subpipeline(child)

        pipeline = Pipeline("top")
        pipeline.stage("delegate", delegate)
        return await pipeline.run(traceparent=HEADER, tracestate="vendor=1", tracer=tracer)

    result, spans = exported(main)
    assert parents(spans) == [
        "child under delegate",
        "delegate under top",
        "own in cleanup under work",
        "own in task under own",
        "own in thread under work",
        "own under work",
        "top under caller",
        "work under child",
    ]
    assert {format(s.context.trace_id, "032x") for s in spans} == {TRACE} == {result.trace_id}
    assert {s.context.trace_state.get("vendor") for s in spans} == {"1"}


@otel
def test_opentelemetry_keeps_fifty_concurrent_runs_apart() -> None:
    from opentelemetry import trace

    async def main(tracer: trace.Tracer) -> list[tuple[str, str, str]]:
        told: list[tuple[str, str, str]] = []

        async def search(context: Context) -> None:
            await asyncio.sleep(int(context.correlation_id) % 3)
            own = trace.get_current_span().get_span_context()
            identity = current_identity()
            assert identity is not None  # we are in a stage
            told.append((context.correlation_id, identity.trace_id, identity.span_id))
            assert trace.format_span_id(own.span_id) == identity.span_id

        child = Pipeline("child")
        child.stage("search", search)

        async def delegate(context: Context) -> None:
            await context.subpipeline(child)

        pipeline = Pipeline("top")
        pipeline.stage("first", search)
        pipeline.stage("second", search, needs=["first"])
        pipeline.stage("third", delegate, needs=["first"])
        pipeline.stage("fourth", search, needs=["second", "third"])
        pipeline.stage("fifth", search, needs=["fourth"])
        await asyncio.gather(
            *(
                pipeline.run(
                    correlation_id=str(i),
                    traceparent=f"00-{i + 1:032x}-{CALLER}-01",
                    tracer=tracer,
                )
                for i in range(50)
            )
        )
        return told

    told, spans = exported(main)
    assert len(told) == 50 * 5
    assert {(c, int(t, 16)) for c, t, _ in told} == {(str(i), i + 1) for i in range(50)}
    assert len(spans) == 50 * 8  # a run, its five stages, a child run and its stage
    by_id = {span.context.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    for span in spans:
        assert span.context.trace_id == span.parent.trace_id
        above = by_id.get(span.parent.span_id)
        kinds = {"child": "third", "search": "child"}
        if span.name != "top":
            assert above is not None
            assert above.name == kinds.get(span.name, "top")
        assert span.attributes["correlation_id"] == str(span.context.trace_id - 1)


@otel
def test_without_a_header_a_run_comes_under_the_span_that_is_current() -> None:
    from opentelemetry import trace

    async def main(tracer: trace.Tracer) -> None:
        pipeline = Pipeline("top")
        pipeline.stage("work", _answer)
        with tracer.start_as_current_span("request"):
            await pipeline.run(tracer=tracer)
            assert trace.get_current_span().name == "request"  # type: ignore[attr-defined]

    _, spans = exported(main)
    assert parents(spans) == ["request under nobody", "top under request", "work under top"]
