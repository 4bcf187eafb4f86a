"""Layers around stages of the reference engine: order, failures, denials, and the engine's own.

Longer than most: every layer is tried by pipelines made by the same few functions.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from harness.engine import (
    CallNext,
    CancelRun,
    CircuitBreaker,
    CircuitOpen,
    Context,
    Deny,
    Idempotency,
    Instead,
    LayerFailed,
    Pipeline,
    PipelineError,
    RateLimit,
    RateLimited,
    Retry,
    RunCancelled,
    RunFailed,
    Skip,
    StageDenied,
)
from harness.engine.layer import LAYERS_MAX, LayerFn
from harness.engine.result import RunResult
from tests.engine.virtual import Record, in_virtual_time, sleeper


async def result_of(pipeline: Pipeline, **given: Any) -> RunResult:
    """Run a pipeline and return its result, however it ends."""
    try:
        return await pipeline.run(**given)
    except (RunFailed, RunCancelled) as exc:
        return exc.result


def watching(record: Record, name: str) -> LayerFn:
    async def layer(context: Context, call_next: CallNext) -> Any:
        record(f"{name} in")
        try:
            return await call_next()
        except BaseException as exc:
            record(f"{name} sees {type(exc).__name__}")
            raise
        finally:
            record(f"{name} out")

    return layer


async def crashing(context: Context, call_next: CallNext) -> Any:
    raise OSError("no policy")


async def denying(context: Context, call_next: CallNext) -> Any:
    return Deny("not yours")


async def answering(context: Context, call_next: CallNext) -> Any:
    try:
        return await call_next()
    except Exception:
        return "fallback"


def one_stage(*layers: LayerFn, fn: Any = None, **more: Any) -> Pipeline:
    pipeline = Pipeline("p", layers=layers, **more)
    pipeline.stage("a", fn or sleeper(1, "A"))
    return pipeline


def after(pipeline: Pipeline, record: Record) -> None:
    """Add a stage that needs `a`."""
    pipeline.stage("b", sleeper(1, "B", record=record), needs=["a"])


def status(result: RunResult, stage: str = "a") -> tuple[str, Any, str]:
    one = result.stages[stage]
    return (one.status, one.output, type(one.error).__name__)


# Order.


def test_layers_nest_in_the_order_of_their_declaration() -> None:
    record = Record()
    pipeline = Pipeline("p", layers=[watching(record, "out")])
    pipeline.layer(watching(record, "mid"), stages=["a"])
    pipeline.layer(watching(record, "in"))
    pipeline.stage("a", sleeper(1, record=record))
    after(pipeline, record)
    assert in_virtual_time(result_of(pipeline)).status == "completed"
    assert record.lines == [
        *("out in", "mid in", "in in", "a starts"),
        *("1 a ends", "1 in out", "1 mid out", "1 out out"),
        *("1 out in", "1 in in", "1 b starts", "2 b ends", "2 in out", "2 out out"),
    ]


def test_a_layer_may_change_an_output_and_answer_for_a_stage_that_fails() -> None:
    async def louder(context: Context, call_next: CallNext) -> Any:
        return (await call_next()).upper()

    async def fails(context: Context) -> Any:
        raise ValueError("broken")

    assert in_virtual_time(result_of(one_stage(louder, fn=sleeper(1, "low")))).outputs == {
        "a": "LOW"
    }
    result = in_virtual_time(result_of(one_stage(answering, fn=fails)))
    assert (result.status, result.outputs) == ("completed", {"a": "fallback"})


def test_a_stage_run_by_itself_has_its_layers_too() -> None:
    pipeline = one_stage(denying)
    with pytest.raises(RunFailed) as caught:
        in_virtual_time(pipeline.run_stage("a"))
    assert status(caught.value.result) == ("failed", None, "StageDenied")


# Layers that fail or deny.


@pytest.mark.parametrize(("layer", "error"), [(crashing, LayerFailed), (denying, StageDenied)])
def test_a_stage_whose_layer_fails_or_denies_has_failed_without_running(
    layer: LayerFn, error: type[Exception]
) -> None:
    record = Record()
    pipeline = one_stage(layer, fn=sleeper(1, "A", record=record))
    after(pipeline, record)
    result = in_virtual_time(result_of(pipeline))
    assert record.lines == []
    assert (result.status, [f.stage for f in result.failures]) == ("failed", ["a"])
    assert type(result.failures[0].error) is error
    assert result.stages["b"].status == "skipped"


def test_errors_name_stage_and_layer_and_carry_the_cause() -> None:
    failed = in_virtual_time(result_of(one_stage(crashing))).failures[0]
    assert str(failed.error) == "layer 'crashing' around stage 'a' failed: OSError: no policy"
    assert isinstance(failed.error.__cause__, OSError)
    denied = in_virtual_time(result_of(one_stage(denying))).failures[0]
    assert str(denied.error) == "stage 'a' was denied by layer 'denying': not yours"


@pytest.mark.parametrize("inner", [crashing, denying])
def test_no_layer_further_out_makes_a_refusal_a_success(inner: LayerFn) -> None:
    result = in_virtual_time(result_of(one_stage(answering, inner)))
    assert (result.status, status(result)[:2]) == ("failed", ("failed", None))


def test_a_layer_that_fails_over_a_refusal_does_not_hide_it() -> None:
    async def clumsy(context: Context, call_next: CallNext) -> Any:
        try:
            return await call_next()
        except StageDenied as exc:
            raise KeyError("clumsy") from exc

    result = in_virtual_time(result_of(one_stage(clumsy, denying)))
    assert [type(f.error) for f in result.failures] == [StageDenied]


def test_a_layer_that_fails_after_its_stage_fails_it() -> None:
    record = Record()

    async def auditing(context: Context, call_next: CallNext) -> Any:
        await call_next()
        raise OSError("disk full")

    pipeline = one_stage(auditing, watching(record, "in"))
    after(pipeline, record)
    result = in_virtual_time(result_of(pipeline))
    assert record.lines == ["in in", "1 in out"]
    assert status(result) == ("failed", None, "LayerFailed")
    assert result.stages["b"].status == "skipped"


def test_a_layer_that_forgets_the_stage_has_failed() -> None:
    async def forgetful(context: Context, call_next: CallNext) -> Any:
        return None

    result = in_virtual_time(result_of(one_stage(forgetful)))
    assert str(result.failures[0].error) == (
        "layer 'forgetful' around stage 'a' failed: EngineError: it neither ran the stage nor "
        "denied it nor answered for it"
    )


def test_a_layer_may_answer_in_the_stages_place() -> None:
    async def cached(context: Context, call_next: CallNext) -> Any:
        return Instead("known")

    result = in_virtual_time(result_of(one_stage(cached)))
    assert (result.outputs, result.duration_s) == ({"a": "known"}, 0)


def test_a_stage_runs_once_and_not_after_its_layer() -> None:
    record = Record()
    kept: list[CallNext] = []

    async def twice(context: Context, call_next: CallNext) -> Any:
        await call_next()
        return await call_next()

    async def keeping(context: Context, call_next: CallNext) -> Any:
        kept.append(call_next)
        return Deny()

    stage = sleeper(1, record=record)
    result = in_virtual_time(result_of(one_stage(twice, fn=stage)))
    assert "call_next() once" in str(result.failures[0].error)
    assert record.lines == ["a starts", "1 a ends"]

    async def late() -> str:
        await result_of(one_stage(keeping, fn=stage))
        try:
            await kept[0]()
        except Exception as exc:
            return type(exc).__name__
        return "ran"

    assert in_virtual_time(late()) == "EngineError"
    assert record.lines == ["a starts", "1 a ends"]


def test_a_cancelled_error_that_a_layer_raises_by_itself_is_a_failure() -> None:
    async def stray(context: Context, call_next: CallNext) -> Any:
        raise asyncio.CancelledError

    result = in_virtual_time(result_of(one_stage(answering, stray)))
    assert (result.status, status(result)[2]) == ("failed", "LayerFailed")


def test_layers_end_before_a_cancelled_run_does() -> None:
    record = Record()

    async def slow(context: Context, call_next: CallNext) -> Any:
        try:
            return await call_next()
        finally:
            await asyncio.sleep(2)
            record("slow out")

    async def main() -> str:
        run = asyncio.ensure_future(one_stage(slow, fn=sleeper(9)).run())
        await asyncio.sleep(1)
        run.cancel()
        await asyncio.wait([run])
        record("over")
        return "cancelled" if run.cancelled() else "else"

    assert in_virtual_time(main()) == "cancelled"
    assert record.lines == ["3 slow out", "3 over"]


def test_time_in_layers_is_time_of_the_stage() -> None:
    async def slow(context: Context, call_next: CallNext) -> Any:
        await asyncio.sleep(2)
        return await call_next()

    result = in_virtual_time(result_of(one_stage(slow, stage_timeout_s=2.5)))
    assert (status(result)[0], result.duration_s) == ("timed_out", 2.5)


# Declaring them.


def test_a_pipeline_describes_its_layers() -> None:
    pipeline = one_stage(CircuitBreaker(), denying)
    pipeline.layer(crashing, name="policy", stages=["a"])
    assert pipeline.describe()["layers"] == [
        {"name": "circuit_breaker", "stages": None},
        {"name": "denying", "stages": None},
        {"name": "policy", "stages": ["a"]},
    ]


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda p: p.layer("guard"), "expected an async function, got 'guard'"),
        (lambda p: p.layer(denying, stages="a"), "expected a list of names, got 'a'"),
        (
            lambda p: (p.layer(denying, stages=["z"]), p.check()),
            "layer 'denying' is put around stage 'z', which is not declared",
        ),
        (lambda p: [p.layer(denying) for _ in range(LAYERS_MAX + 1)], f"at most {LAYERS_MAX}"),
        (lambda p: p.layer(CircuitBreaker(threshold=0)), "threshold: expected a whole number"),
        (lambda p: p.layer(CircuitBreaker(reset_s=-1)), "reset_s: expected a number of seconds"),
        (lambda p: p.layer(RateLimit(limit=True, window_s=1)), "limit: expected a whole number"),
        (lambda p: p.layer(RateLimit(limit=1, window_s=float("nan"))), "window_s: expected"),
        (lambda p: p.layer(Idempotency("key")), "key: expected a function of the context"),
        (lambda p: p.layer(Idempotency(str, keys_max=0)), "keys_max: expected a whole number"),
    ],
)
def test_what_cannot_be_used_is_refused(declare: Callable[[Any], Any], said: str) -> None:
    with pytest.raises(PipelineError, match=re.escape(said)):
        declare(one_stage())


# Circuit breakers.


class Flaky:
    """A stage that fails, hangs or works as its run's inputs say, and counts its executions."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def __call__(self, context: Context) -> str:
        how = context.inputs["how"]
        self.ran.append(how)
        await asyncio.sleep(1)
        if how == "fail":
            raise ValueError("broken")
        if how == "hang":
            await asyncio.sleep(100)
        if how == "stubborn":
            for _ in range(3):  # longer than any grace here, yet not for ever
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(100)
        return how


def tries(pipeline: Pipeline, *hows: str, tenant: str = "t") -> Callable[[], Any]:
    """Return a coroutine function that runs the pipeline once for each way, one after another."""

    async def main() -> list[str]:
        seen = []
        for how in hows:
            if how.startswith("+"):
                await asyncio.sleep(float(how))
                continue
            result = await result_of(pipeline, inputs={"how": how}, tenant=tenant)
            seen.append(status(result)[2] if status(result)[2] != "NoneType" else "ok")
        return seen

    return main


def test_a_circuit_opens_after_so_many_failures_in_a_row() -> None:
    stage = Flaky()
    pipeline = one_stage(CircuitBreaker(threshold=2, reset_s=10), fn=stage)
    seen = in_virtual_time(tries(pipeline, "fail", "ok", "fail", "fail", "ok", "ok")())
    assert seen == ["ValueError", "ok", "ValueError", "ValueError", "CircuitOpen", "CircuitOpen"]
    assert stage.ran == ["fail", "ok", "fail", "fail"]


def test_a_refusal_says_when_to_try_again() -> None:
    async def main() -> float:
        pipeline = one_stage(CircuitBreaker(threshold=1, reset_s=10), fn=Flaky())
        await tries(pipeline, "fail", "+4")()
        error = (await result_of(pipeline, inputs={"how": "ok"}, tenant="t")).failures[0].error
        assert isinstance(error, CircuitOpen)
        return error.retry_after_s

    assert in_virtual_time(main()) == 6


def test_a_circuit_lets_one_try_and_closes_if_that_works() -> None:
    stage = Flaky()
    breaker = CircuitBreaker(threshold=1, reset_s=10)
    pipeline = one_stage(breaker, fn=stage)

    async def main() -> list[list[str]]:
        first = await tries(pipeline, "fail", "+10")()
        together = await asyncio.gather(*(tries(pipeline, "ok")() for _ in range(3)))
        return [first, *together, await tries(pipeline, "fail", "ok", "+10", "fail", "ok")()]

    assert in_virtual_time(main()) == [
        ["ValueError"],
        *(["ok"], ["CircuitOpen"], ["CircuitOpen"]),
        ["ValueError", "CircuitOpen", "ValueError", "CircuitOpen"],
    ]
    assert stage.ran == ["fail", "ok", "fail", "fail"]


@pytest.mark.parametrize("probe", ["cancelled", "given up"])
def test_a_probe_that_comes_to_nothing_is_followed_by_another(probe: str) -> None:
    stage = Flaky()
    pipeline = one_stage(
        CircuitBreaker(threshold=1, reset_s=10), fn=stage, cleanup_grace_s=2, stage_timeout_s=50
    )

    async def main() -> list[str]:
        await tries(pipeline, "fail", "+10")()
        how = "hang" if probe == "cancelled" else "stubborn"
        run = asyncio.ensure_future(tries(pipeline, how)())
        await asyncio.sleep(5)
        run.cancel()
        await asyncio.wait([run])
        return await tries(pipeline, "ok")()  # type: ignore[no-any-return]

    assert in_virtual_time(main(), left=int(probe == "given up")) == ["ok"]


def test_a_timeout_is_a_failure_and_a_cancel_or_a_denial_is_none() -> None:
    denied = {"now": False}

    async def guard(context: Context, call_next: CallNext) -> Any:
        return Deny() if denied["now"] else await call_next()

    def made() -> Pipeline:
        return one_stage(
            CircuitBreaker(threshold=2), guard, fn=Flaky(), stage_timeout_s=5, cleanup_grace_s=1
        )

    for how, error in (("hang", "StageTimeout"), ("stubborn", "StageTimeout")):
        seen = in_virtual_time(tries(made(), how, how, "ok")(), left=2 * (how == "stubborn"))
        assert seen == [error, error, "CircuitOpen"], how

    async def cancels() -> Any:
        pipeline = made()
        for _ in range(3):
            run = asyncio.ensure_future(tries(pipeline, "hang")())
            await asyncio.sleep(2)
            run.cancel()
            await asyncio.wait([run])
        return await tries(pipeline, "ok")()

    async def denials() -> Any:
        pipeline = made()
        denied["now"] = True
        seen = await tries(pipeline, "ok", "ok", "ok")()
        denied["now"] = False
        return seen + await tries(pipeline, "ok")()

    assert in_virtual_time(cancels()) == ["ok"]
    assert in_virtual_time(denials()) == ["StageDenied"] * 3 + ["ok"]


def test_what_began_before_a_circuit_opened_does_not_count_when_it_ends() -> None:
    stage = Flaky()
    pipeline = one_stage(CircuitBreaker(threshold=2, reset_s=10), fn=stage)

    async def main() -> Any:
        together = [asyncio.ensure_future(tries(pipeline, how)()) for how in ("fail",) * 4]
        await asyncio.wait(together)
        return await tries(pipeline, "ok", "+9", "ok", "fail", "ok")()

    # Two of four opened it; the others would have begun the wait anew, or opened it again.
    assert in_virtual_time(main()) == ["CircuitOpen", "CircuitOpen", "CircuitOpen", "CircuitOpen"]


def test_circuits_are_of_a_tenant_and_a_stage() -> None:
    pipeline = one_stage(CircuitBreaker(threshold=1), fn=Flaky(), on_failure="continue")
    pipeline.stage("other", sleeper(1, "other"))

    async def main() -> Any:
        seen = await tries(pipeline, "fail", "ok", tenant="x")()
        others = await tries(pipeline, "ok", tenant="y")()
        result = await result_of(pipeline, inputs={"how": "ok"}, tenant="x")
        return seen, others, result.outputs

    assert in_virtual_time(main()) == (["ValueError", "CircuitOpen"], ["ok"], {"other": "other"})


# Rate limits.


def test_a_stage_runs_as_often_as_its_limit_allows_in_any_stretch_of_time() -> None:
    pipeline = one_stage(RateLimit(limit=2, window_s=10), fn=Flaky())
    seen = in_virtual_time(tries(pipeline, "ok", "+4", "ok", "ok", "+4", "ok", "ok", "+4", "ok")())
    # At 0, 5, 6 (no), 10 (the first is ten seconds old), 11 (no), 15 (the second is).
    assert seen == ["ok", "ok", "RateLimited", "ok", "RateLimited", "ok"]


def test_limits_are_of_a_tenant_and_say_when_to_try_again() -> None:
    pipeline = one_stage(RateLimit(limit=1, window_s=10), fn=Flaky())

    async def main() -> Any:
        assert await tries(pipeline, "ok", "fail", tenant="x")() == ["ok", "RateLimited"]
        assert await tries(pipeline, "ok", tenant="y")() == ["ok"]
        result = await result_of(pipeline, inputs={"how": "ok"}, tenant="x")
        error = result.failures[0].error
        assert isinstance(error, RateLimited)
        return error.retry_after_s

    assert in_virtual_time(main()) == 8


# Idempotency.


def keyed(stage: Any, *outer: LayerFn, **more: Any) -> Pipeline:
    once = Idempotency(lambda context: context.inputs.get("key", "k"), **more)
    return one_stage(*outer, once, fn=stage)


def test_a_stage_that_completed_under_a_key_is_not_run_again() -> None:
    stage = Flaky()
    pipeline = keyed(stage)

    async def main() -> list[Any]:
        inputs = [{"how": "first"}, {"how": "second"}, {"how": "third", "key": "other"}]
        inputs.append({"how": "fourth", "key": None})  # type: ignore[dict-item]
        return [(await result_of(pipeline, inputs=one)).outputs["a"] for one in inputs]

    assert in_virtual_time(main()) == ["first", "first", "third", "fourth"]
    assert stage.ran == ["first", "third", "fourth"]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (ValueError("broken"), "runs"),
        (Skip("nothing to do"), "runs"),
        (CancelRun("enough"), "runs"),
        ("fine", "kept"),
    ],
)
def test_only_what_completed_is_kept(first: Any, then: str) -> None:
    count = 0

    async def stage(context: Context) -> Any:
        nonlocal count
        count += 1
        if count > 1:
            return "second"
        if isinstance(first, Exception):
            raise first
        return first

    pipeline = keyed(stage)

    async def main() -> Any:
        await result_of(pipeline)
        return (await result_of(pipeline)).outputs["a"]

    assert in_virtual_time(main()) == ("second" if then == "runs" else "fine")


def test_what_a_layer_further_out_failed_over_is_not_kept() -> None:
    stage = Flaky()
    failing = [True]

    async def audit(context: Context, call_next: CallNext) -> Any:
        value = await call_next()
        if failing.pop():
            raise OSError("disk full")
        return value

    failing[:] = [False, True]
    pipeline = keyed(stage, audit)
    assert in_virtual_time(tries(pipeline, "one", "two")()) == ["LayerFailed", "ok"]
    assert stage.ran == ["one", "two"]


def test_of_executions_that_come_at_once_one_runs() -> None:
    stage = Flaky()
    pipeline = keyed(stage)

    async def main() -> Any:
        return await asyncio.gather(*(tries(pipeline, f"r{i}")() for i in range(5)))

    assert in_virtual_time(main()) == [["ok"]] * 5
    assert stage.ran == ["r0"]


def test_one_that_waits_runs_if_the_one_before_it_comes_to_nothing() -> None:
    stage = Flaky()
    pipeline = keyed(stage)

    async def main() -> Any:
        runs = [asyncio.ensure_future(tries(pipeline, how)()) for how in ("hang", "fail", "r2")]
        runs.append(asyncio.ensure_future(tries(pipeline, "r3")()))
        await asyncio.sleep(2)
        runs[0].cancel()
        await asyncio.wait(runs)
        return [run.cancelled() or run.result() for run in runs]

    assert in_virtual_time(main()) == [True, ["ValueError"], ["ok"], ["ok"]]
    assert stage.ran == ["hang", "fail", "r2"]


def test_one_that_is_cancelled_while_it_waits_holds_up_nobody() -> None:
    stage = Flaky()
    pipeline = keyed(stage)

    async def main() -> Any:
        runs = [asyncio.ensure_future(tries(pipeline, how)()) for how in ("fail", "x", "r2")]
        await asyncio.sleep(1)
        runs[1].cancel()
        await asyncio.wait(runs)
        return [run.cancelled() or run.result() for run in runs]

    assert in_virtual_time(main()) == [["ValueError"], True, ["ok"]]


def test_a_stage_that_was_given_up_frees_its_key() -> None:
    stage = Flaky()
    once = Idempotency(lambda _context: "k")
    pipeline = one_stage(once, fn=stage, stage_timeout_s=3, cleanup_grace_s=1)
    seen = in_virtual_time(tries(pipeline, "stubborn", "ok")(), left=1)
    assert seen == ["StageTimeout", "ok"]


def test_a_key_is_of_one_tenant_stage_and_pipeline() -> None:
    once = Idempotency(lambda _context: "k")
    pipeline, other = Pipeline("p", layers=[once]), Pipeline("q", layers=[once])
    pipeline.stage("a", sleeper(1, "p a"))
    pipeline.stage("b", sleeper(1, "p b"))
    other.stage("a", sleeper(1, "q a"))

    async def main() -> list[Any]:
        both = [dict((await one.run(tenant="x")).outputs) for one in (pipeline, other, pipeline)]
        began = asyncio.get_running_loop().time()
        await pipeline.run(tenant="y")
        return [*both, asyncio.get_running_loop().time() - began]

    assert in_virtual_time(main()) == [
        {"a": "p a", "b": "p b"},
        {"a": "q a"},
        {"a": "p a", "b": "p b"},
        1,
    ]


def test_who_changes_what_was_kept_changes_it_for_nobody_else() -> None:
    pipeline = keyed(sleeper(1, {"rows": [1]}))

    async def main() -> list[Any]:
        seen = []
        for _ in range(3):
            output = (await result_of(pipeline)).outputs["a"]
            seen.append(list(output["rows"]))
            output["rows"].append(2)
        return seen

    assert in_virtual_time(main()) == [[1], [1], [1]]


def test_what_cannot_be_kept_fails_its_stage() -> None:
    outputs: list[Any] = [(n for n in ()), "plain"]  # a generator cannot be copied

    async def stage(context: Context) -> Any:
        return outputs.pop(0)

    pipeline = keyed(stage)

    async def main() -> Any:
        return [status(await result_of(pipeline)) for _ in range(3)]

    plain = ("completed", "plain", "NoneType")
    assert in_virtual_time(main()) == [("failed", None, "LayerFailed"), plain, plain]


def test_as_many_outputs_are_kept_as_asked_for() -> None:
    stage = Flaky()
    pipeline = keyed(stage, keys_max=2)

    async def main() -> list[str]:
        keys = ("k1", "k2", "k3", "k3", "k2", "k1")
        return [(await result_of(pipeline, inputs={"how": key, "key": key})).status for key in keys]

    assert in_virtual_time(main()) == ["completed"] * 6
    assert stage.ran == ["k1", "k2", "k3", "k1"]


def test_layers_are_passed_by_each_attempt_of_a_retried_stage() -> None:
    stage = Flaky()
    record = Record()
    pipeline = Pipeline("p", layers=[watching(record, "in"), CircuitBreaker(threshold=2)])
    pipeline.stage("a", stage, retry=Retry(attempts=3, backoff_s=1, factor=1))
    assert in_virtual_time(tries(pipeline, "fail")()) == ["CircuitOpen"]
    assert stage.ran == ["fail", "fail"]
    assert record.lines == [
        *("in in", "1 in sees ValueError", "1 in out"),
        *("2 in in", "3 in sees ValueError", "3 in out"),
        *("4 in in", "4 in sees CircuitOpen", "4 in out"),
    ]


def test_what_completes_at_a_later_attempt_is_kept_under_its_key() -> None:
    ran: list[str] = []

    async def stage(context: Context) -> str:
        ran.append("a")
        if len(ran) == 1:
            raise ValueError("once")
        return "done"

    pipeline = Pipeline("p", layers=[Idempotency(lambda _context: "k")])
    pipeline.stage("a", stage, retry=Retry(attempts=2, backoff_s=1))

    async def main() -> Any:
        return [(await result_of(pipeline)).outputs["a"] for _ in range(2)]

    assert in_virtual_time(main()) == ["done", "done"]
    assert ran == ["a", "a"]


def test_one_idempotency_layer_put_around_a_stage_twice_does_not_wait_for_itself() -> None:
    once = Idempotency(lambda _context: "k")
    result = in_virtual_time(result_of(one_stage(once, once)))
    assert "would wait for itself" in result.failures[0].message


def test_a_stage_does_not_wait_for_itself_in_a_subpipeline() -> None:
    pipeline = Pipeline("p", layers=[Idempotency(lambda _context: "k")])

    async def nested(context: Context) -> Any:
        return (await context.subpipeline(pipeline)).outputs

    pipeline.stage("a", nested)
    result = in_virtual_time(result_of(pipeline))
    assert "would wait for itself" in result.failures[0].message
