"""Scripts leave out nothing silently: what of a plan or a stage a dialect has no word for."""

from __future__ import annotations

import dataclasses

import pytest

from harness.kernel.plan import Cancel, Consumer, Layer, Plan, RunSpec, Sink
from harness.kernel.program import Program, Retry, Stage
from harness.kernel.script import Unrenderable, render
from harness.kernel.steps import Step, step
from tests.adapters.toy import TOY

CHECK = "def violation(seen, error, outputs, left, took):\n    return repr(seen)\n"
CHECK += '# "stage.start" "emit" "offer.begin" "account" "flaky" "input" "ok" "raise"\n'
WORDY = dataclasses.replace(
    TOY,
    input="ctx.given[{key}]",
    identity='{{"run": ctx.run}}',
    log="ctx.sent.append({message})",
    account="ctx.account()",
    plan_words=frozenset({"layers", "sink", "inputs", "correlation", "retry"}),
)


def program(*steps: Step, retry: Retry | None = None) -> Program:
    return Program((Stage("a", steps, retry=retry),))


@pytest.mark.parametrize(
    ("word", "plan"),
    [
        ("layers", Plan(layers=(Layer("observe", "l"),))),
        ("sink", Plan(sink=Sink())),
        ("consumer", Plan(consumer=Consumer("a"))),
        ("inputs", Plan(runs=(RunSpec(inputs={"marker": "M"}),))),
        ("correlation", Plan(runs=(RunSpec(correlation="c"),))),
        ("traceparent", Plan(runs=(RunSpec(traceparent="00-1-2-01"),))),
        ("redrives", Plan(runs=(RunSpec("r0"), RunSpec("r1", redrives="r0")))),
    ],
)
def test_a_plan_that_a_dialect_has_no_words_for_gets_no_script(word: str, plan: Plan) -> None:
    with pytest.raises(Unrenderable, match=word):
        render(program(), plan, TOY, "X-1", CHECK)
    if word in WORDY.plan_words:
        assert "class StageA" in render(program(), plan, WORDY, "X-1", CHECK)


def test_a_retry_needs_a_word_also_in_a_subpipeline() -> None:
    with pytest.raises(Unrenderable, match="retry"):
        render(program(retry=Retry()), Plan(), TOY, "X-1", CHECK)
    kid = Program((Stage("k", retry=Retry()),), "kid")
    with pytest.raises(Unrenderable, match="retry"):
        render(program(step("subpipeline", program=kid)), Plan(), TOY, "X-1", CHECK)


@pytest.mark.parametrize(
    "one",
    [
        step("input"),
        step("identify"),
        step("log", message="m"),
        step("thread", seconds=0, identify=True),
        step("cleanup", name="c", identify=True),
    ],
    ids=lambda one: one.op,
)
def test_a_service_without_a_word_gets_no_script(one: Step) -> None:
    with pytest.raises(Unrenderable):
        render(program(one), Plan(), TOY, "X-1", CHECK)
    assert render(program(one), Plan(), WORDY, "X-1", CHECK)


def lines_of(*steps: Step, retry: Retry | None = None) -> list[str]:
    text = render(program(*steps, retry=retry), Plan(), WORDY, "X-1", CHECK)
    body = text.split("class StageA:")[1].split("def build")[0]
    return [line.strip() for line in body.splitlines() if line.strip()]


def test_a_flood_notes_each_offer_and_the_account() -> None:
    lines = lines_of(step("flood", producer="p", count=3, every_s=0.5))
    assert lines[lines.index("for n in range(3):") :][:5] == [
        "for n in range(3):",
        "await asyncio.sleep(0.5)",
        'with noted_offer("a", "a/p", n):',
        'ctx.sent.append(("flood", {"producer": "a/p", "n": n}))',
        'seen.append((time.monotonic() - began, "a", "account", ctx.account()))',
    ]


def test_the_marker_takes_the_place_of_its_name_in_later_values() -> None:
    lines = lines_of(step("input"), step("emit", type="x", data={"m": "$marker"}), step("ok"))
    assert 'marker = ctx.given["marker"]' in lines
    assert 'ctx.sent.append(("x", {"m": marker}))' in lines
    # Without the input it is a text as any other.
    lines = lines_of(step("emit", type="x", data={"m": "$marker"}), step("ok"))
    assert 'ctx.sent.append(("x", {"m": "$marker"}))' in lines


def test_a_flaky_stage_counts_its_executions_if_there_may_be_several() -> None:
    flaky = (step("flaky", times=2, error="OSError", message="m"), step("ok"))
    once = render(program(*flaky), Plan(), WORDY, "X-1", CHECK.replace('"flaky"', ""))
    assert 'raise OSError("m")' in once
    assert "execution" not in once
    lines = lines_of(*flaky, retry=Retry())
    assert lines[lines.index('execution = execution_number("a")') :][:5] == [
        'execution = execution_number("a")',
        'seen.append((time.monotonic() - began, "a", "stage.start", None))',
        'seen.append((time.monotonic() - began, "a", "flaky", (execution, execution <= 2)))',
        "if execution <= 2:",
        'raise OSError("m")',
    ]


def test_a_cancel_is_counted_from_where_the_plan_s_time_begins() -> None:
    late = Plan(runs=(RunSpec(start_s=0.25),), cancels=(Cancel(at_s=0.75),))
    text = render(program(step("sleep", seconds=9.0)), late, TOY, "X-1", CHECK)
    waits, cancels = text.index("await asyncio.sleep(0.25)"), text.index(".call_later(0.5, ")
    assert waits < cancels < text.index("run_stages(graph")


def test_several_cancels_of_one_run_are_sent_by_who_started_it() -> None:
    asked = CHECK.replace("repr(seen)", "repr(left)")
    twice = Plan(cancels=(Cancel(at_s=0.5, times=2, gap_s=0.25),))
    text = render(program(step("sleep", seconds=9.0)), twice, TOY, "X-1", asked)
    assert "cancel_after" not in text
    lines = [line.strip() for line in text.splitlines()]
    first = lines.index("await asyncio.wait([run], timeout=0.5)")
    assert lines[first + 1 : first + 4] == [
        "run.cancel()",
        "await asyncio.wait([run], timeout=0.25)",
        "run.cancel()",
    ]


def test_cleanups_that_only_sleep_take_no_function_and_others_share_one() -> None:
    def told(*notes: str, names: str = "xy") -> str:
        steps = [step("cleanup", name=name, cleanup_s=0.5) for name in names]
        return render(program(*steps), Plan(), TOY, "X-1", CHECK + f"# {notes}".replace("'", '"'))

    assert told().count("ctx.cleanups.append(lambda: asyncio.sleep(0.5))") == 2
    noted = told("release.begin")
    assert noted.count("async def clean_up(name, seconds):") == 1
    assert 'ctx.cleanups.append(lambda: clean_up("y", 0.5))' in noted
    assert "async def release_x():" in told("release.begin", names="x")


def test_only_the_stage_that_a_check_asks_for_notes_anything() -> None:
    check = """\
def violation(seen, error, outputs, left, took):
    kinds = [kind for _, stage, kind, _ in seen if stage == "b"]  # of those that were seen
    return repr(kinds) if "stage.start" in kinds else None
"""
    two = Program((Stage("a", (step("sleep", seconds=1),)), Stage("b")))
    text = render(two, Plan(), TOY, "X-1", check)
    assert text.count('"stage.start"))') == 1
    assert 'seen.append(("b", "stage.start"))' in text
