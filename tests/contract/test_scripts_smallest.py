"""The checks of scripts for the smallest programs: two stages of which one needs the other, one
stage with one cleanup. Each is said of a violation, and of the nearest run that is none."""

from __future__ import annotations

from collections.abc import Sequence

from harness.contract.clauses import CLAUSES
from harness.kernel.plan import Cancel, Layer, Plan, RunSpec, Sink
from harness.kernel.program import Program, Retry, Stage
from harness.kernel.steps import step
from tests.contract.script_bench import Note, said

PAIR = Program((Stage("a"), Stage("b", needs=("a",))))
TWO = Plan(runs=(RunSpec("r0"), RunSpec("r1")))
Row = tuple[str, str, object]


def rows(*told: Row) -> list[Note]:
    return [(0.1 * i, *row) for i, row in enumerate(told)]


def of_run(run: str, *told: Row) -> list[Row]:
    return [(f"{run}/{stage}", kind, detail) for stage, kind, detail in told]


BEGUN: Row = ("b", "stage.start", None)
DONE: Row = ("a", "stage.end", "ok")


def test_a_stage_starts_once_the_one_that_it_needs_has_completed() -> None:
    early = "stage b started before stage a had completed"
    assert said("GRAPH-2", PAIR, Plan(), rows(DONE, BEGUN)) is None
    assert said("GRAPH-2", PAIR, Plan(), rows(BEGUN, DONE)) == early
    assert said("GRAPH-2", PAIR, Plan(), rows(("a", "stage.end", "fail"), BEGUN)) == early
    assert said("GRAPH-2", PAIR, Plan(), rows(("a", "stage.end", "fail"))) is None


def test_in_each_of_several_runs_a_stage_waits_for_its_own_run_s() -> None:
    fine = [*of_run("r1", DONE), *of_run("r0", DONE, BEGUN), *of_run("r1", BEGUN)]
    assert said("GRAPH-2", PAIR, TWO, rows(*fine)) is None
    mixed = [*of_run("r0", DONE), *of_run("r1", BEGUN)]
    told = said("GRAPH-2", PAIR, TWO, rows(*mixed))
    assert told == "stage b of r1 started before a had completed"


def test_what_needs_a_denied_stage_does_not_run() -> None:
    plan, denied = Plan(layers=(Layer("deny", "guard"),)), ("a", "layer.deny", "guard")
    told = said("GRAPH-5", PAIR, plan, rows(denied, BEGUN), shape="dependents-ran")
    assert told == "stage b ran; it needs a, which a layer refused or failed"
    assert said("GRAPH-5", PAIR, plan, rows(BEGUN), shape="dependents-ran") is None
    assert said("GRAPH-5", PAIR, plan, rows(denied), shape="dependents-ran") is None


def test_a_stage_that_is_told_as_completed_has_run() -> None:
    guard = Layer("deny", "guard", stages=("a",))
    plan = Plan(layers=(guard, Layer("idempotency", "keys")))
    shape = "completed-without-running"

    def of(seen: Sequence[Row], outputs: dict[str, object]) -> str | None:
        return said("GRAPH-5", PAIR, plan, rows(*seen), shape=shape, outputs=outputs)

    assert of([BEGUN], {"b": None}) is None
    assert of([], {}) is None
    assert of([], {"b": None}) == "stage b is told as completed; it did not run, nor had it before"


def test_a_stage_that_its_timeout_ended_is_said_to_have_timed_out() -> None:
    program, plan = Program((Stage("pay"),)), Plan(stage_timeout_s=0.1)

    def of(how: str, error: Exception) -> str | None:
        seen = rows(("pay", "stage.start", None), ("pay", "stage.end", how))
        return said("TIME-1", program, plan, seen, shape="not-called-timeout", error=error)

    other = ValueError("stage pay failed")
    assert of("cancelled", other) == f"the timeout of stage pay is reported as: {other!r}"
    assert of("cancelled", ValueError("stage pay timed out")) is None
    assert of("cancelled", TimeoutError("pay")) is None
    assert of("raise:StageFault", other) is None


def test_a_sibling_of_a_stage_that_timed_out_does_not_run_on_to_its_own_end() -> None:
    program, plan = Program((Stage("a"), Stage("b"))), Plan(stage_timeout_s=0.1)

    def of(how: str, end_s: float) -> str | None:
        seen: list[Note] = [(0.0, "a", "stage.start", None), (0.0, "b", "stage.start", None)]
        seen += [(0.1, "a", "stage.end", "cancelled"), (end_s, "b", "stage.end", how)]
        return said("TIME-3", program, plan, seen, shape="sibling-not-cancelled")

    assert of("ok", 0.5) == "b ran on for 0.40 s after the timeout of its sibling"
    assert of("cancelled", 0.2) == "b ran on for 0.10 s after the timeout of its sibling"
    assert of("cancelled", 0.11) is None


def test_beside_a_stage_that_lasts_longer_than_its_timeout_no_other_goes_on() -> None:
    long, waits = step("sleep", seconds=9.0), Stage("b", (step("sleep", seconds=0.5),))
    program, plan = Program((Stage("a", (long,)), waits)), Plan(stage_timeout_s=1.0)

    def of(end_s: float, other_s: float) -> str | None:
        seen: list[Note] = [(0.0, "a", "stage.start", None), (0.0, "b", "stage.start", None)]
        seen += [(end_s, "a", "stage.end", None), (other_s, "b", "stage.end", None)]
        return said("TIME-3", program, plan, seen, shape="sibling-not-cancelled")

    assert of(1.0, 1.5) == "b ran on for 0.50 s after the timeout of its sibling"
    assert of(1.0, 1.01) is None
    assert of(1.0, 0.5) is None
    assert of(0.3, 0.5) is None  # its timeout did not end it


def test_a_sibling_that_cleans_up_may_take_its_time() -> None:
    held = Stage("b", (step("acquire", name="file", cleanup_s=0.3), step("sleep", seconds=1.0)))
    program, plan = Program((Stage("a"), held)), Plan(stage_timeout_s=0.1)

    def of(how: str, end_s: float) -> str | None:
        seen: list[Note] = [(0.0, "a", "stage.start", None), (0.0, "b", "stage.start", None)]
        seen += [(0.1, "a", "stage.end", "cancelled"), (end_s, "b", "stage.end", how)]
        return said("TIME-3", program, plan, seen, shape="sibling-not-cancelled")

    assert of("cancelled", 0.4) is None
    assert of("ok", 1.0) == "b ran on for 0.90 s after the timeout, to its end"


def test_what_failed_is_not_tried_again_once_another_stage_has_failed() -> None:
    retried = Stage("a", (step("raise"),), retry=Retry(attempts=3, backoff_s=0.1))
    program = Program((retried, Stage("b", (step("raise"),))))

    def of(*order: Row) -> str | None:
        return said("RETRY-1", program, Plan(), rows(*order), shape="retried-after-cancel")

    begun, failed = ("a", "stage.start", None), ("b", "stage.end", "raise:ValueError")
    assert of(begun, failed) is None
    assert of(failed, begun) is None
    assert of(begun, begun, failed) is None
    assert str(of(begun, failed, begun)).startswith("a was tried again after b had failed")


def test_a_run_that_runs_none_of_what_always_fails_was_spoilt_by_another() -> None:
    program = Program((Stage("a", (step("raise"),)),))
    failed: Row = ("a", "stage.end", "raise:ValueError")
    over: Row = ("", "run.end", None)

    def of(*second: Row) -> str | None:
        seen = rows(*of_run("r0", failed, over), *of_run("r1", *second))
        return said("TENANT-4", program, TWO, seen, shape="trouble-of-another-run")

    assert of(over) == "nothing went wrong in r1, and it did not run all its stages"
    assert of(failed, over) is None
    assert of() is None


def test_a_stage_that_clings_is_named() -> None:
    clings = step("swallow", times=1, steps=[step("sleep", seconds=1.0)])
    program, plan = Program((Stage("pay", (clings,)), Stage("b"))), Plan(stage_timeout_s=0.1)
    swallowed, over = ("pay", "swallowed", 1), ("pay", "stage.end", None)

    def of(seen: Sequence[Row], error: Exception) -> str | None:
        return said("CANCEL-4", program, plan, rows(*seen), shape="not-reported", error=error)

    assert of([swallowed, over], ValueError("x")) is None
    assert of([swallowed], ValueError("pay goes on")) is None
    assert str(of([swallowed], ValueError("x"))).startswith("stage pay is still running")


def test_a_grace_exceeded_by_less_than_a_clock_tells_has_no_script() -> None:
    def script(seconds: float) -> str | None:
        clings = step("swallow", times=1, steps=[step("sleep", seconds=seconds)])
        program = Program((Stage("a", (clings,)),))
        plan = Plan(stage_timeout_s=0.1, cleanup_grace_s=1.0)
        return CLAUSES["CANCEL-4"].check_of(program, plan, "grace-exceeded")

    assert script(1.2) is None
    assert script(2.0) is not None


def test_one_cleanup_of_one_stage_runs_between_the_ends_of_stage_and_run() -> None:
    program = Program((Stage("a", (step("cleanup", name="x"), step("sleep", seconds=0.1))),))
    taken, begun = ("a", "register", "x"), ("a", "release.begin", "x")
    ended, over = ("a", "stage.end", "ok"), ("", "run.end", "returned")

    def of(shape: str, *told: Row) -> str | None:
        return said("CLEAN-6", program, TWO, rows(*of_run("r0", *told)), shape=shape)

    assert of("ran-by-other-run", taken, ended, begun, over) is None
    assert "cleaned up while its stage ran" in str(of("ran-by-other-run", taken, begun, ended))
    assert of("cleared-by-other-run", taken, ended, begun, over) is None
    assert "its cleanup had not run" in str(of("cleared-by-other-run", taken, over, begun))


def test_the_stage_of_a_cancelled_run_does_not_tell_when_its_cleanup_was_due() -> None:
    program = Program((Stage("a", (step("cleanup", name="x"), step("sleep", seconds=0.1))),))
    of_two = Plan(runs=TWO.runs, cancels=(Cancel(run="r0", at_s=0.05),))
    early = (("a", "register", "x"), ("a", "release.begin", "x"), ("a", "stage.end", "ok"))

    def of(run: str) -> str | None:
        return said(
            "CLEAN-6", program, of_two, rows(*of_run(run, *early)), shape="ran-by-other-run"
        )

    assert of("r0") is None
    assert "run r1 was cleaned up while its stage ran" in str(of("r1"))


def test_cleanups_are_due_when_all_stages_of_their_own_run_have_ended() -> None:
    steps = (step("cleanup", name="x"),)
    program = Program((Stage("a", steps), Stage("b", (step("sleep", seconds=0.1),))))
    begun, over = ("a", "release.begin", "x"), ("", "run.end", "returned")
    last: Row = ("b", "stage.end", "ok")

    def of(*told: Row) -> str | None:
        return said("CLEAN-6", program, TWO, rows(*of_run("r0", *told)), shape="ran-by-other-run")

    assert of(DONE, last, begun, over) is None
    assert of(DONE, begun, over, last) is None  # that stage has outlived its run
    assert "cleanup of run r0 ran while its stages did" in str(of(DONE, begun, last, over))


def test_only_a_stage_that_is_retried_is_tried_again() -> None:
    program = Program((Stage("a", retry=Retry(attempts=3, backoff_s=0.1)), Stage("b")))
    over: Row = ("", "run.end", "CancelledError")

    def of(*told: Row) -> str | None:
        seen = rows(*of_run("r0", *told))
        return said("RETRY-1", program, TWO, seen, shape="retried-after-run")

    again: Row = ("a", "stage.start", None)
    assert of(again, over) is None
    assert of(again, over, BEGUN) is None
    assert "was tried again after run r0 was over" in str(of(again, over, again))


def test_one_producer_s_events_reach_the_sink_in_their_order() -> None:
    program = Program((Stage("a", (step("flood", producer="p", count=3, every_s=0.0),)),))

    def of(*numbers: int) -> str | None:
        told = [
            ("", "deliver.begin", ("", -1)),
            *(("", "deliver.begin", ("p", n)) for n in numbers),
        ]
        return said("EVENT-4", program, Plan(sink=Sink()), rows(*told))

    assert of(0, 1, 2) is None
    assert of(0, 1, 0, 1, 2) is None  # of a stage that was tried again
    assert "in this order: [1, 0, 2]" in str(of(1, 0, 2))


ASKS = Program((Stage("a", (step("cancel_run", reason="enough"),)), Stage("b")))
ASKED: Row = ("a", "stage.end", "cancel_run")


def test_nothing_starts_once_a_stage_has_asked_to_end_the_run() -> None:
    def of(*order: Row) -> str | None:
        return said("CANCEL-1", ASKS, Plan(), rows(*order), shape="stage-started-after")

    assert of(BEGUN, ASKED) is None
    assert of(ASKED, BEGUN) == "started after a stage had asked to end the run: ['b']"


def test_how_long_after_the_asking_a_clock_can_tell_is_half_of_the_shortest_wait() -> None:
    def script(backoff_s: float) -> str | None:
        retried = Stage("b", (step("raise"),), retry=Retry(attempts=2, backoff_s=backoff_s))
        program = Program((*ASKS.stages[:1], retried))
        return CLAUSES["CANCEL-1"].check_of(program, Plan(), "stage-started-after")

    assert "asked + 0.05]" in str(script(1.0))
    assert "asked + 0.01]" in str(script(0.02))
    assert script(0.0) is None


def test_what_goes_on_to_its_end_after_the_asking_was_not_cancelled() -> None:
    def of(how: str, end_s: float) -> str | None:
        seen: list[Note] = [(0.1, *ASKED), (end_s, "b", "stage.end", how)]
        return said("CANCEL-1", ASKS, Plan(), seen, shape="stage-not-cancelled")

    assert of("cancelled", 1.0) is None
    assert of("ok", 0.2) is None
    assert of("ok", 1.0) == "ran on to their end after a stage had asked to end the run: ['b']"


def test_the_reason_and_the_outputs_come_with_the_end_that_a_stage_asked_for() -> None:
    def of(shape: str, error: Exception, **outputs: object) -> str | None:
        seen: list[Note] = [(0.1, "b", "stage.end", "ok"), (0.2, *ASKED)]
        return said("CANCEL-1", ASKS, Plan(), seen, shape=shape, error=error, outputs=outputs)

    assert of("reason-lost", ValueError("cancelled: enough")) is None
    assert "the reason is not given" in str(of("reason-lost", ValueError("cancelled")))
    assert of("outputs-lost", ValueError("x"), b=1) is None
    assert "completed, and lost to the caller: ['b']" in str(of("outputs-lost", ValueError("x")))


class RunCancelled(Exception):
    """As an engine tells of a run that was ended."""


def test_a_failure_is_told_as_one_and_so_is_a_stage_s_asking() -> None:
    def of(shape: str, how: str, error: Exception | None) -> str | None:
        seen = rows(("a", "stage.end", how))
        return said("CANCEL-7", ASKS, Plan(), seen, shape=shape, error=error)

    ended, broke = RunCancelled("x"), ValueError("x")
    assert of("failed-as-cancelled", "fail", broke) is None
    assert "stages failed" in str(of("failed-as-cancelled", "fail", ended))
    assert of("cancelled-as-failed", "cancel_run", ended) is None
    assert "a stage asked" in str(of("cancelled-as-failed", "cancel_run", broke))
    fails = Program((Stage("a", (step("fail"),)),))

    def told(error: Exception | None) -> str | None:
        seen = rows(("a", "stage.end", "fail"))
        return said("CANCEL-7", fails, Plan(), seen, shape="failed-as-ok", error=error)

    assert told(broke) is None
    assert "the caller was told: {}" in str(told(None))


def test_no_more_events_are_in_delivery_than_the_queue_holds_and_one() -> None:
    program = Program((Stage("a", (step("flood", producer="p", count=3, every_s=0.0),)),))

    def of(*kinds: str) -> str | None:
        seen = rows(*(("", f"deliver.{kind}", ("p", i)) for i, kind in enumerate(kinds)))
        plan = Plan(sink=Sink(queue_max=1))
        return said("EVENT-3", program, plan, seen, shape="deliveries-unbounded")

    assert of("begin", "begin") is None
    assert of("begin", "begin", "begin") == "3 events are in delivery; the queue holds 1"


def test_a_stage_that_nothing_else_ends_may_run_for_its_timeout() -> None:
    program = Program((Stage("a", (step("sleep", seconds=9.0),)),))

    def of(end_s: float) -> str | None:
        seen: list[Note] = [(0.0, "a", "stage.start", None), (end_s, "a", "stage.end", "cancelled")]
        return said("TIME-2", program, Plan(stage_timeout_s=1.0), seen, shape="ended-early")

    assert of(1.0) is None
    assert of(0.5) == "a was cut at 0.50 s; its timeout is 1 s"


def test_a_run_whose_retries_ended_well_does_not_fail() -> None:
    program = Program((Stage("a", (step("flaky"),), retry=Retry(attempts=2, backoff_s=0.1)),))

    def of(*hows: str) -> str | None:
        seen = rows(*(("a", "stage.end", how) for how in hows))
        error = ValueError("x")
        return said("RETRY-1", program, Plan(), seen, shape="success-lost", error=error)

    assert of("raise:OSError", "raise:OSError") is None
    assert "every stage ended well at last" in str(of("raise:OSError", "ok"))


def test_a_retry_after_a_cancel_shows_where_its_wait_is_short() -> None:
    retried = Stage("a", (step("raise"),), retry=Retry(attempts=3, backoff_s=0.005))
    plan = Plan(cancels=(Cancel(at_s=0.005),))

    def of(again_s: float) -> str | None:
        seen: list[Note] = [(0.0, "a", "stage.start", None), (0.005, "", "cancel.sent", (0, True))]
        seen += [(again_s, "a", "stage.start", None)]
        return said("RETRY-1", Program((retried,)), plan, seen, shape="retried-after-cancel")

    assert of(0.0051) is None
    assert "tried again 0.01 s after the end" in str(of(0.01))


def test_a_layer_that_fails_names_its_stage() -> None:
    plan = Plan(layers=(Layer("raise", "audit", stages=("pay",)),))
    program = Program((Stage("pay"), Stage("ship")))

    def of(text: str) -> str | None:
        seen = rows(("pay", "layer.raise", "audit"))
        error = ValueError(text)
        return said("GRAPH-5", program, plan, seen, shape="stage-unnamed", error=error)

    assert of("stage pay failed") is None
    assert "a layer around pay failed" in str(of("something failed"))


def test_of_several_runs_what_is_there_at_the_end_of_the_last_was_left() -> None:
    program = Program((Stage("a"),))

    def of(*left: str) -> str | None:
        return said("CLEAN-5", program, TWO, [], shape="task-left", left=left)

    assert of() is None
    assert of("start", "_worker") is None  # a run is not over yet
    assert of("_worker") == "still there when the last run was over: ['_worker']"


def test_what_code_is_told_is_no_proof_of_what_is_on_a_record() -> None:
    program = Program((Stage("a", (step("identify"), step("log", message="x"))),))
    plan = Plan(runs=(RunSpec("r0", correlation="c0"),))
    asked = {shape: CLAUSES["CORR-1"].check_of(program, plan, shape) for shape in SHOWN_BY_IDS}
    assert {shape for shape, check in asked.items() if check} == {"lost-in-stage"}


SHOWN_BY_IDS = ("lost-in-stage", "lost-in-log", "changed-in-log", "lost-in-event")


def test_why_there_is_no_script_is_said() -> None:
    def why(clause: str, plan: Plan, shape: str, program: Program = PAIR) -> str:
        assert CLAUSES[clause].check_of(program, plan, shape) is None
        return CLAUSES[clause].why_no_check(program, plan, shape)

    assert why("TIME-9", Plan(), "x") == "dagstorm has none for TIME-9"
    several = "that for CANCEL-1 (reason-lost) is written for one run, and this takes 2"
    assert why("CANCEL-1", TWO, "reason-lost") == several
    cancelled = Plan(cancels=(Cancel(at_s=0.1),))
    assert why("PART-1", cancelled, "") == "who cancels a run is told nothing but that"
    other = "dagstorm has none for TIME-2 (both-verdicts) of a program and plan like this"
    assert why("TIME-2", Plan(), "both-verdicts") == other
