"""The checks of stand-alone scripts can say both: that a defect shows, and that it does not.

What they must not accuse is a correct engine: each is held against runs of the reference
engine, in which the clauses hold. What they must find is written by hand, the smallest notes that
break the rule, each beside notes that just keep it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from typing import Any

import pytest

from harness.contract.clauses import CLAUSES
from harness.kernel.plan import Cancel, Layer, Plan, RunSpec, Sink, required_capabilities
from harness.kernel.program import Program, Retry, Stage
from harness.kernel.steps import step
from scenarios import scenarios
from tests.contract.bench import laboratory
from tests.contract.script_bench import EngineError, Note, check, notes_of, said, sources

STAGES_MAX = 30
RUNS_MAX = 20

A = Stage("a", (step("ok", value="va"),))
B = Stage("b", (step("ok", value="vb"),), needs=("a",))
AB = Program((A, B))
TWO = (RunSpec("r0", "t0"), RunSpec("r1", "t1"))


def small(name: str) -> bool:
    one = scenarios()[name]
    lacks = required_capabilities(one.program, one.plan) - laboratory("reference").info.capabilities
    return not lacks and len(one.program.stages) <= STAGES_MAX and len(one.plan.runs) <= RUNS_MAX


@functools.cache
def judged_by_scripts(name: str) -> dict[str, str | None]:
    one = scenarios()[name]
    record = laboratory("reference").run(one.program, one.plan, seed=1)
    if record.ended != "over" or record.build_error is not None:
        return {}
    found = {}
    for clause in CLAUSES.values():
        # GRAPH-1 is about a graph that was built and should not have been.
        if clause.id == "GRAPH-1":
            continue
        for shape, source in sources(clause.id, one.program, one.plan).items():
            found[f"{clause.id} {shape}"] = check(source, *notes_of(one.plan, record))
    return found


@pytest.mark.parametrize("name", [n for n in scenarios() if small(n)])
def test_no_script_accuses_the_reference_engine(name: str) -> None:
    accused = {c: text for c, text in judged_by_scripts(name).items() if text is not None}
    assert accused == {}


def test_each_script_has_said_of_some_run_that_it_holds() -> None:
    held = {c.split(" ")[0] for n in scenarios() if small(n) for c in judged_by_scripts(n)}
    scripted = {"EVENT-1", "EVENT-2", "EVENT-4", "EVENT-5", "EVENT-6", "TENANT-1", "TENANT-2"}
    scripted |= {"TENANT-4", "CORR-1", "CORR-3", "GRAPH-5", "RETRY-1", "CLEAN-1", "CLEAN-6"}
    assert scripted <= held


# EVENT

SLOW = Plan(sink=Sink(delivery_s=0.1, policy="drop_newest"))
FLOOD = Program((Stage("a", (step("flood", producer="p", count=2),)),))


def traffic(*rows: Any, account: tuple[Any, ...] | None = (2, 2, 0, 0, 9)) -> list[Note]:
    """Two events are offered and taken; then come these rows, the account, and the run's end."""
    seen: list[Note] = [(0.0, "", "run.begin", None), (0.0, "a", "stage.start", None)]
    for n in (0, 1):
        seen += [
            (0.1, "a", "offer.begin", ("a/p", n)),
            (0.1, "a", "offer.end", ("a/p", n, "taken")),
            (0.1, "a", "taken", ("a/p", n)),
        ]
    seen += [(0.2, "a", "stage.end", "ok")]
    seen += [(0.2, "", f"deliver.{kind}", ("a/p", n)) for kind, n in rows]
    if account is not None:
        seen += [(0.3, "", "account", account)]
    return [*seen, (0.3, "", "run.end", "returned")]


BOTH = (("begin", 0), ("end", 0), ("begin", 1), ("end", 1))
FIRST = (("begin", 0), ("end", 0))
RAISED = (*FIRST, ("begin", 1), ("fail", 1))
SWAPPED = (("begin", 1), ("end", 1), ("begin", 0), ("end", 0))


@pytest.mark.parametrize(
    ("clause", "rows", "account", "text"),
    [
        ("EVENT-1", BOTH, (2, 2, 0, 0, 9), None),
        ("EVENT-1", FIRST, (2, 1, 0, 1, 9), None),
        ("EVENT-1", FIRST, (2, 1, 1, 0, 9), None),
        ("EVENT-1", FIRST, (2, 2, 0, 0, 9), "the account says 2 delivered; the sink has taken 1"),
        ("EVENT-1", BOTH, (2, 1, 0, 1, 9), "the account says 1 delivered; the sink has taken 2"),
        (
            "EVENT-1",
            BOTH,
            (1, 2, 0, -1, 9),
            "delivered, dropped, pending by the account: (1, 2, 0,",
        ),
        ("EVENT-1", BOTH + FIRST, (3, 3, 0, 0, 9), "delivered more than once: [('a/p', 0)"),
        ("EVENT-2", RAISED, (2, 1, 1, 0, 9), None),
        ("EVENT-2", FIRST, (2, 1, 0, 1, 9), None),
        ("EVENT-2", RAISED, (2, 2, 0, 0, 9), "the sink raised over 1 events; the account has 0"),
        ("EVENT-2", FIRST, (2, 2, 0, 0, 9), "1 events never came to the sink; the account has 0"),
        ("EVENT-4", BOTH, (2, 2, 0, 0, 9), None),
        ("EVENT-4", SWAPPED, (2, 2, 0, 0, 9), "the sink got the events in this order: [1, 0]"),
        ("EVENT-5", BOTH, (2, 2, 0, 0, 9), None),
        ("EVENT-5", FIRST, (2, 1, 1, 0, 9), None),
        ("EVENT-5", RAISED, (2, 2, 0, 0, 9), None),
        ("EVENT-5", FIRST, (2, 1, 0, 1, 9), "of 2 accepted events 1 unsettled; 0 dropped"),
        ("EVENT-6", BOTH, (2, 2, 0, 0, 9), None),
    ],
)
def test_the_account_is_held_against_what_the_sink_got(
    clause: str, rows: tuple[Any, ...], account: tuple[Any, ...] | None, text: str | None
) -> None:
    found = said(clause, FLOOD, SLOW, traffic(*rows, account=account))
    assert found is None if text is None else text in (found or "")


def test_a_sink_that_is_slow_or_raises_is_nothing_to_stages_and_run() -> None:
    raising = Plan(sink=Sink(error="OSError", policy="drop_newest"))
    fine = traffic(*RAISED)
    assert said("EVENT-6", FLOOD, raising, fine) is None
    error = EngineError("the sink failed")
    assert "all stages are ok" in str(said("EVENT-6", FLOOD, raising, fine, error=error))
    out = [
        (*one[:3], ("a/p", 0, "raise:OSError")) if one[2] == "offer.end" else one for one in fine
    ]
    assert "came out of the emission" in str(said("EVENT-6", FLOOD, raising, out))
    late = [(one[0] + 1.0, *one[1:]) if one[2] == "offer.end" else one for one in traffic()]
    assert "waited 1.00 s" in str(said("EVENT-6", FLOOD, SLOW, late))
    hung = [one for one in traffic() if one[2] not in ("run.end", "account", "offer.end")]
    assert "never ended" in str(said("EVENT-6", FLOOD, SLOW, hung))


# TENANT and CORR


def runs(*rows: Any, ends: dict[str, str] | None = None) -> list[Note]:
    """Two runs beside each other: their begins, then rows (label, kind, detail), their ends."""
    seen: list[Note] = [(0.0, "r0/", "run.begin", None), (0.0, "r1/", "run.begin", None)]
    seen += [(0.1 * i, *row) for i, row in enumerate(rows, 1)]
    how = {"r0": "returned", "r1": "returned", **(ends or {})}
    return [*seen, *((5.0, f"{run}/", "run.end", one) for run, one in how.items())]


def ran(*labels: str, how: str = "ok") -> list[tuple[str, str, Any]]:
    return [row for x in labels for row in ((x, "stage.start", None), (x, "stage.end", how))]


MARKED = Plan(
    runs=(
        RunSpec("r0", "t0", inputs={"marker": "marker-north"}),
        RunSpec("r1", "t1", inputs={"marker": "marker-south"}),
    )
)


def test_a_value_of_one_tenant_in_what_another_has_is_told() -> None:
    own = runs(("r0/a", "input", ("marker", "marker-north")))
    assert said("TENANT-1", AB, MARKED, own, outputs={"r0/a": "marker-north"}) is None
    leak = said("TENANT-1", AB, MARKED, own, outputs={"r1/a": "by marker-north"})
    assert leak == "marker-north, an input of r0, is in the output of r1/a"
    same = Plan(runs=tuple(RunSpec(r.id, "t0", inputs=r.inputs) for r in MARKED.runs))
    assert sources("TENANT-1", AB, same) == {}
    mixed = said("TENANT-4", AB, same, own, outputs={"r1/a": "by marker-north"})
    assert mixed == "marker-north, an input of r0, is in the output of r1/a"


KEPT = Plan(runs=TWO, layers=(Layer("idempotency", "once", stages=("a",)),))


def test_an_output_kept_for_one_tenant_is_not_for_another() -> None:
    first = runs(*ran("r0/a", "r0/b", "r1/b"))
    kept = said("TENANT-2", AB, KEPT, first, outputs={"r0/a": "va", "r1/a": "va"})
    assert kept == "r1/a is told as completed, 'va'; t1 never ran it"
    refused = {"r0/a": "va", "r1/a": "failed: key in use"}
    assert said("TENANT-2", AB, KEPT, first, outputs=refused) is None
    own = runs(*ran("r0/a", "r0/b", "r1/a", "r1/b"))
    assert said("TENANT-2", AB, KEPT, own, outputs={"r0/a": "va", "r1/a": "va"}) is None


def test_one_tenants_failures_do_not_cut_off_another() -> None:
    plan = Plan(runs=TWO, layers=(Layer("circuit_breaker", "cb", options={"threshold": 1}),))
    seen = runs(*ran("r0/a", how="fail"), ends={"r0": "E", "r1": "E"})
    assert "r1/a was not let run; its tenant had 0 tries" in str(said("TENANT-2", AB, plan, seen))
    both = runs(*ran("r0/a", how="fail"), *ran("r1/a", how="fail"), ends={"r0": "E", "r1": "E"})
    assert said("TENANT-2", AB, plan, both) is None


def test_a_run_without_trouble_is_not_spoilt_by_one_beside_it() -> None:
    plan = Plan(runs=TWO)
    trouble = [*ran("r0/a", how="raise:ValueError"), ("r1/a", "stage.start", None)]
    cut = runs(*trouble, ("r1/a", "stage.end", "cancelled"), ends={"r0": "E", "r1": "E"})
    assert "nothing went wrong in r1" in str(said("TENANT-4", AB, plan, cut))
    fine = runs(*trouble, ("r1/a", "stage.end", "ok"), *ran("r1/b"), ends={"r0": "E"})
    assert said("TENANT-4", AB, plan, fine) is None
    left_out = runs(*ran("r0/a", "r0/b", "r1/a"))
    spoilt = "nothing went wrong in r1, but: returned, stages: ['r0', 'r0', 'r1']"
    assert said("TENANT-4", AB, plan, left_out) == spoilt
    cancelled = Plan(runs=TWO, cancels=(Cancel(run="r1", at_s=0.1),))
    assert said("TENANT-4", AB, cancelled, cut) is None


NAMED = Plan(
    runs=(RunSpec("r0", "t0", correlation="corr-0"), RunSpec("r1", "t1", correlation="corr-1"))
)


def identity(label: str, **ids: str) -> tuple[str, str, Any]:
    return (label, "identity", ("cleanup", ids))


def test_ids_are_told_and_are_the_runs_own() -> None:
    own = runs(identity("r0/a", run="r0", correlation="corr-0"))
    lost = runs(identity("r0/a", run="r0", correlation=""))
    other = runs(identity("r0/a", run="r0", correlation="corr-1"))
    run = runs(identity("r0/a", run="r1/child", correlation="corr-0"))
    assert [said(c, AB, NAMED, own) for c in ("CORR-1", "CORR-3")] == [None, None]
    assert "r0/a, cleanup: the correlation id is not told" in str(said("CORR-1", AB, NAMED, lost))
    assert said("CORR-3", AB, NAMED, lost) is None
    assert said("CORR-1", AB, NAMED, other) is None
    text = "the cleanup of r0/a is told of another: {'run': 'r0', 'correlation': 'corr-1'}"
    assert said("CORR-3", AB, NAMED, other) == text
    text = "the cleanup of r0/a is told of another: {'run': 'r1/child', 'correlation': 'corr-0'}"
    assert said("CORR-3", AB, NAMED, run) == text


def test_an_error_of_the_engine_carries_the_correlation_id_of_its_run() -> None:
    seen = one_run(*ran("a", how="fail"))
    plan = Plan(runs=(RunSpec(correlation="corr-1"),))
    failing = Program((Stage("a", (step("fail"),)),))
    bare, with_id = EngineError("stage a failed"), EngineError("stage a failed")
    with_id.__dict__["request"] = "corr-1"
    assert "corr-1 is not on the error" in str(said("CORR-1", failing, plan, seen, error=bare))
    assert said("CORR-1", failing, plan, seen, error=with_id) is None
    assert said("CORR-1", failing, plan, seen, error=ValueError("the stage's own")) is None
    assert said("CORR-1", failing, plan, seen, error=asyncio.CancelledError()) is None


# GRAPH-5

DENIES = Plan(layers=(Layer("deny", "guard", stages=("a",)),))


def one_run(*rows: Any) -> list[Note]:
    begin: list[Note] = [(0.0, "", "run.begin", None)]
    return [
        *begin,
        *((0.1 * i, *row) for i, row in enumerate(rows, 1)),
        (9.0, "", "run.end", "returned"),
    ]


def test_what_a_layer_denies_is_no_success() -> None:
    denied = ("a", "layer.deny", "guard")
    refused = {"a": "failed: denied", "b": "skipped: a"}
    assert said("GRAPH-5", AB, DENIES, one_run(denied), outputs=refused) is None
    told = said("GRAPH-5", AB, DENIES, one_run(denied), outputs={"a": None})
    assert told == "told as completed, although a layer denied them: ['a']"
    below = said("GRAPH-5", AB, DENIES, one_run(denied, *ran("b")), outputs=refused)
    assert below == "stage b ran; it needs a, which a layer refused or failed"
    despite = said("GRAPH-5", AB, DENIES, one_run(denied, *ran("a")), outputs=refused)
    assert despite == "stage a ran after a layer around it had denied it"
    fails, failed = Plan(layers=(Layer("raise", "bad"),)), ("a", "layer.raise", "bad")
    untold = said("GRAPH-5", AB, fails, one_run(failed))
    assert untold == "layer bad failed, and nothing is said of it: {}"
    skipped = said("GRAPH-5", AB, fails, one_run(failed), outputs={"a": "skipped: a"})
    assert skipped == "layer bad failed, and nothing is said of it: {'a': 'skipped: a'}"
    assert said("GRAPH-5", AB, fails, one_run(failed), outputs=refused) is None


def test_a_stage_is_answered_for_only_with_what_it_has_put_out() -> None:
    seen = runs(*ran("r0/a", "r0/b", "r1/b"))
    own = {"r0/a": "va", "r0/b": "vb", "r1/b": "vb"}
    assert said("GRAPH-5", AB, KEPT, seen, outputs={**own, "r1/a": "va"}) is None
    wrong = said("GRAPH-5", AB, KEPT, seen, outputs={**own, "r1/a": None})
    assert wrong == "r1/a did not run; its output is None, it was ['va']"
    never = runs(*ran("r0/b", "r1/b"))
    other = said("GRAPH-5", AB, KEPT, never, outputs={"r0/b": "vb", "r1/a": "vb"})
    assert "did not run, nor had they before: ['r1/a']" in str(other)
    kept = said("GRAPH-5", AB, KEPT, never, shape="kept-for-another-stage", outputs={"r1/a": "vb"})
    assert kept == "r1/a did not run; its output is 'vb', it was []"


def test_a_circuit_that_must_be_open_lets_nothing_through() -> None:
    specs = tuple(RunSpec(f"r{i}") for i in range(6))
    plan = Plan(runs=specs, layers=(Layer("circuit_breaker", "cb", stages=("a",)),))
    failing = Program((Stage("a", (step("fail"),)),))

    def one_after_another(last: bool) -> list[Note]:
        seen: list[Note] = []
        for i in range(6):
            seen += [(i, f"r{i}/", "run.begin", None)]
            if i < 5 or last:
                seen += [(i, f"r{i}/a", "stage.start", None), (i, f"r{i}/a", "stage.end", "fail")]
            seen += [(i + 0.5, f"r{i}/", "run.end", "E")]
        return seen

    assert said("GRAPH-5", failing, plan, one_after_another(last=False)) is None
    text = "r5/a ran within 30 s of 5 failures in a row"
    assert said("GRAPH-5", failing, plan, one_after_another(last=True)) == text


HELD = Program((Stage("a", (step("acquire", name="lock"),)), B))
REGISTERED = Program((Stage("a", (step("cleanup", name="x"),)), B))
CHANGED = Program((A, Stage("b", (step("mutate", stage="a"),), needs=("a",))))
STUBBORN = Program((Stage("a", (step("swallow", steps=[step("never")]),)), B))
OVER: Note = (0.2, "", "run.end", None)
DELEGATING = Program((Stage("a", (step("subpipeline", program=AB),)), B))

# Rules that are not new, with several runs, or with what an engine may do


def test_each_of_several_runs_is_judged_at_its_own_end() -> None:
    plan = Plan(runs=TWO, cancels=(Cancel(run="r0", at_s=0.1),))
    taken: list[Note] = [
        (0.0, "r0/a", "stage.start", None),
        (0.0, "r0/a", "acquire", "lock"),
        (0.1, "", "cancel.sent", (0, True)),
    ]
    gone: list[Note] = [
        (0.2, "r0/a", "release.begin", "lock"),
        (0.2, "r0/a", "release.end", "lock"),
        (0.2, "r0/a", "release.over", "lock"),
        (0.2, "r0/a", "stage.end", "cancelled"),
    ]
    over: list[Note] = [(0.2, "r0/", "run.end", "CancelledError")]
    last: list[Note] = [(0.9, "r1/", "run.end", "returned")]
    for clause in ("CANCEL-3", "CLEAN-1", "CLEAN-2"):
        assert said(clause, HELD, plan, [*taken, *gone, *over, *last]) is None
    late = [*taken, *over, *gone, *last]
    assert said("CANCEL-3", AB, plan, late) == "still running when their run was over: ['r0/a']"
    held = "not released when the run was over: [('r0/a', 'lock')]"
    assert said("CLEAN-1", HELD, plan, late) == held
    cut = [*taken, gone[0], *over, *gone[1:], *last]
    assert "begun, and not finished" in str(said("CLEAN-2", AB, plan, cut))
    returned = [*taken, *gone, (0.2, "r0/", "run.end", "returned"), *last]
    assert "what its caller saw: returned" in str(said("CANCEL-3", AB, plan, returned))


FAILING = Program((Stage("a", (step("cleanup", name="x"), step("fail"))), B))


# One that can fail is judged by more: at the end of a failing run, cleanups may come early.
@pytest.mark.parametrize("program", [REGISTERED, FAILING])
def test_cleanups_run_at_the_end_of_their_own_run(program: Program) -> None:
    registered = [("r0/a", "stage.start", None), ("r0/a", "register", "x")]
    begun, ended = ("r0/a", "release.begin", "x"), ("r0/a", "stage.end", "ok")
    plan = Plan(runs=TWO)
    assert said("CLEAN-6", program, plan, runs(*registered, ended, begun)) is None
    early = said("CLEAN-6", program, plan, runs(*registered, begun, ended))
    assert early == "cleanup x of r0/a ran while its run went on"
    lost = str(said("CLEAN-6", program, plan, runs(*registered, ended)))
    assert lost.startswith("not run when r0 was over: [('r0/a', 'x')]")
    twice = said("CLEAN-1", program, plan, runs(*registered, ended, begun, begun))
    assert twice == "released more than once: ('r0/a', 'x')"
    assert said("CLEAN-1", program, plan, runs(*registered, ended, begun)) is None


def test_a_stage_that_swallows_its_cancellation_is_not_the_engines_to_end() -> None:
    stubborn = one_run(("a", "stage.start", None), ("a", "swallowed", 1))
    assert said("CANCEL-3", STUBBORN, Plan(), stubborn) is None
    willing = one_run(("a", "stage.start", None))
    assert "['a']" in str(said("CANCEL-3", STUBBORN, Plan(), willing))


def test_a_stage_in_which_a_task_is_left_is_told() -> None:
    assert said("CANCEL-3", AB, Plan(), one_run(*ran("a", "b"))) is None
    left = said("CANCEL-3", AB, Plan(), one_run(*ran("a", "b")), left=["B.execute"])
    assert left == "still running when the run was over: ['B.execute']"


def test_a_cleanup_has_finished_when_the_run_is_over() -> None:
    begun, cut = ("a", "release.begin", "lock"), ("a", "release.over", "lock")
    ended = [*cut[:1], "release.end", *cut[2:]]
    plan = Plan(cancels=(Cancel(at_s=0.1),))
    assert said("CLEAN-2", HELD, plan, one_run(begun, cut)) is None
    assert "not finished" in str(said("CLEAN-2", HELD, plan, [*one_run(begun)[:2], OVER]))
    # The engine's own cleanups are its own to await, and it may not cut them short.
    assert said("CLEAN-2", REGISTERED, plan, [*one_run(begun, tuple(ended))[:3], OVER]) is None
    assert "not finished" in str(said("CLEAN-2", REGISTERED, plan, [*one_run(begun)[:2], OVER]))
    assert said("CLEAN-2", HELD, plan, one_run(begun)) is not None
    late = dataclasses.replace(plan, cleanup_grace_s=1)
    slow = Program((Stage("a", (step("acquire", name="lock", cleanup_s=20),)), B))
    assert said("CLEAN-2", slow, late, one_run(begun)) is None  # it was over long before


def test_a_cleanup_after_another_has_what_that_left_of_the_grace() -> None:
    pair = [step("cleanup", name=name, cleanup_s=6) for name in ("x", "y")]
    slow = Program((Stage("a", tuple(pair)), B))

    def told(over_s: float) -> str | None:
        seen: list[Note] = [
            (0.0, "a", "release.begin", "y"),
            (6.0, "a", "release.end", "y"),
            (6.0, "a", "release.begin", "x"),
            (over_s, "", "run.end", None),
        ]
        return said("CLEAN-2", slow, Plan(), seen, shape="cleanup-not-awaited")

    assert told(9.0) == "begun, and not finished when the run was over: ['x']"
    assert told(10.0) is None


def test_the_cleanups_of_each_run_have_the_grace_together() -> None:
    plan = Plan(runs=TWO, cleanup_grace_s=1)
    slow = Program((Stage("a", (step("cleanup", name="k", cleanup_s=5),)), B))

    def told(over_s: float) -> str | None:
        seen: list[Note] = [
            (0.0, "r0/a", "release.begin", "k"),
            (0.5, "r1/a", "release.begin", "k"),
            (0.9, "r0/a", "release.end", "k"),
            (0.9, "r0/", "run.end", "returned"),
            (over_s, "r1/", "run.end", "returned"),
        ]
        return said("CLEAN-2", slow, plan, seen, shape="cleanup-not-awaited")

    begun = "r1: begun, and not finished when the run was over: [('r1/a', 'k')]"
    assert (told(1.4), told(1.5)) == (begun, None)


TRIED = Program(
    (
        Stage("a", (step("ok"),), retry=Retry(attempts=3, backoff_s=0.05, factor=1.0)),
        Stage("b", (step("flaky"),)),
    )
)


def test_no_attempt_comes_after_the_end() -> None:
    again = ran("a", how="raise:OSError")
    assert said("RETRY-1", TRIED, Plan(), one_run(*again, *again, *ran("a"))) is None
    few = said("RETRY-1", TRIED, Plan(), one_run(*again, *again))
    assert few == "stage a failed and was tried 2 of 3 times"
    failed = said("RETRY-1", TRIED, Plan(), one_run(*again, *ran("b", how="fail"), *ran("a")))
    assert "was tried again" in str(failed)
    goes_on = Plan(on_failure="continue")
    assert (
        said("RETRY-1", TRIED, goes_on, one_run(*again, *ran("b", how="fail"), *ran("a"))) is None
    )
    late: list[Note] = [*one_run(*again), (9.5, "a", "stage.start", None)]
    assert "0.50 s after the end" in str(
        said("RETRY-1", TRIED, Plan(), late, shape="retried-after-cancel")
    )


def test_a_value_that_a_stage_changed_is_its_own_affair() -> None:
    seen = one_run(*ran("a", "b"))
    assert said("CTX-2", CHANGED, Plan(), seen, outputs={"b": "changed"}) is None
    spoilt = said("CTX-2", CHANGED, Plan(), seen, outputs={"a": {"changed": True}})
    assert "an output carries a change" in str(spoilt)


def test_outputs_of_a_childs_stages_are_not_the_runs() -> None:
    seen = one_run(*ran("a", "child/x"))
    assert said("PART-1", DELEGATING, Plan(), seen, outputs={"a": 1}) is None
    assert "caller: ['a']" in str(said("PART-1", DELEGATING, Plan(), seen))
