"""What Stageflow offers around stages, as its adapter puts it under test: events and their
queue, ids, inputs, logs, layers, retries, streams. Skipped where no Stageflow is installed.

Where a version does something that a contract would not have, the test states what it
does: the adapter must show it as it is.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("stageflow")

from harness.adapters.stageflow import SUBJECTS, Adapter
from harness.kernel.errors import NotOffered
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.outcome import EventReport, LogReport, Outcome, SinkReport
from harness.kernel.plan import Cancel, Consumer, Layer, Plan, RunSpec, Sink, required_capabilities
from harness.kernel.program import Program, Retry, Stage
from harness.kernel.record import RunRecord
from harness.kernel.script import NOTES, Unrenderable
from harness.kernel.script_ends import HOWS
from harness.kernel.steps import Step, step
from mocks.tools import simulated_tool

PLAIN = Plan()
TWO = Plan(
    runs=(
        RunSpec("r0", "t0", inputs={"marker": "M0"}, correlation="c0"),
        RunSpec("r1", "t1", inputs={"marker": "M1"}, correlation="c1"),
    )
)
CHECK = "def violation(seen, error, outputs, left, took):\n    return {}\n"
TOLD = "repr((type(error).__name__, [], seen))"
# What a check names in double quotes is noted.
CHECK += '# "run" "tenant" "correlation"\n'
ONLY_IN_SCRIPTS = ("release.over", "taken")
CHECK += "".join(f'# "{word}"\n' for word in (*NOTES, *HOWS) if word not in ONLY_IN_SCRIPTS)

_labs: dict[str, Laboratory] = {}


@pytest.fixture(params=SUBJECTS)
def lab(request: Any) -> Laboratory:
    if request.param not in _labs:
        made = Laboratory(Adapter(request.param), simulated_tool)
        for other in _labs.values():  # the engine's clocks are replaced once a process
            made.clocks = other.clocks
        _labs[request.param] = made
    return _labs[request.param]


def stage(
    name: str, *steps: Step, after: tuple[str, ...] = (), retry: Retry | None = None
) -> Stage:
    return Stage(name, steps, after, retry=retry)


def run(lab: Laboratory, *stages: Stage, plan: Plan = PLAIN) -> RunRecord:
    program = Program(stages)
    for capability in sorted(required_capabilities(program, plan)):
        if capability not in lab.info.capabilities:
            assert len(lab.info.missing[capability]) > 20
            pytest.skip(lab.info.missing[capability])
    record = lab.run(program, plan)
    assert record.ended == "over", record.waiting
    assert record.build_error is None
    assert digest(record) == digest(lab.run(program, plan))
    return record


def outcome(record: RunRecord) -> Outcome:
    return record.outcomes["r0"]


def details(record: RunRecord, kind: str, run: str | None = None) -> list[Any]:
    return [e.detail for e in record.journal.of(kind, run=run)]


# Ids, inputs, logs


def test_a_stage_reads_its_runs_inputs_and_ids(lab: Laboratory) -> None:
    record = run(
        lab, stage("a", step("input"), step("identify"), step("ok", value="$marker")), plan=TWO
    )
    for n in "01":
        assert details(record, "input", f"r{n}") == [("marker", f"M{n}")]
        ids = {"run": f"r{n}", "tenant": f"t{n}", "correlation": f"c{n}"}
        assert details(record, "identity", f"r{n}") == [("stage", ids)]
        assert record.outcomes[f"r{n}"].stages["a"].value == f"M{n}"


def test_threads_and_children_know_for_whom_they_work(lab: Laboratory) -> None:
    kid = Program((stage("k", step("input"), step("identify", place="kid")),), "kid")
    record = run(
        lab,
        stage("a", step("thread", seconds=0.1, identify=True), step("subpipeline", program=kid)),
        plan=TWO,
    )
    for n in "01":
        ids = {"run": f"r{n}", "tenant": f"t{n}", "correlation": f"c{n}"}
        assert details(record, "identity", f"r{n}") == [("thread", ids)]
        assert details(record, "input", f"r{n}/kid") == [("marker", f"M{n}")]
        child = ids | {"run": f"r{n}/kid"}
        assert details(record, "identity", f"r{n}/kid") == [("kid", child)]


def test_a_cleanup_knows_for_whom_it_works(lab: Laboratory) -> None:
    record = run(lab, stage("a", step("cleanup", name="db", identify=True)))
    (found,) = details(record, "identity")
    assert (found[0], found[1]["run"], found[1]["tenant"]) == ("cleanup", "r0", "t0")


def test_events_carry_ids_and_the_stages_own_data(lab: Laboratory) -> None:
    emits = (step("emit", type="x.y", data={"m": "$marker"}), step("emit", type="x.z", data=[1]))
    record = run(lab, stage("a", step("input"), *emits), plan=TWO)
    for n in "01":
        ids = {"run": f"r{n}", "correlation": f"c{n}"}
        assert record.outcomes[f"r{n}"].event_reports == (
            EventReport("x.y", {"m": f"M{n}"}, ids),
            EventReport("x.z", [1], ids),
        )


def test_the_engines_own_events_of_many_runs_are_seen_as_well(lab: Laboratory) -> None:
    record = run(lab, stage("a", step("ok", value="secret")), plan=TWO)
    types = [type_ for type_, _ in record.outcomes["r0"].events]
    adapter = lab.adapter
    assert isinstance(adapter, Adapter)
    assert ("stage.wide" in types) is bool(adapter.engine().wide_events)
    assert all(data["request_id"] for _, data in record.outcomes["r0"].events)


def test_log_records_carry_tenant_and_correlation(lab: Laboratory) -> None:
    lab.settle_process()  # switches logging off; what stages write must come through
    record = run(lab, stage("a", step("input"), step("log", message="100% $marker")), plan=TWO)
    for n in "01":
        ids = {"tenant": f"t{n}", "correlation": f"c{n}"}
        assert record.outcomes[f"r{n}"].logs == (LogReport(f"100% M{n}", ids),)


# The queue


def flood(count: int, every_s: float = 0.0, producer: str = "p") -> Step:
    return step("flood", producer=producer, count=count, every_s=every_s)


def delivered(record: RunRecord) -> int:
    return sum(1 for d in details(record, "deliver.end") if d[1] >= 0)


def test_without_load_every_event_is_delivered_and_accounted_for(lab: Laboratory) -> None:
    record = run(lab, stage("a", flood(5, 0.1)), plan=Plan(sink=Sink()))
    sink = outcome(record).sink
    assert sink is not None
    assert delivered(record) == 5
    assert (sink.offered, sink.dropped, sink.pending, sink.queue_max) == (
        sink.delivered,
        0,
        0,
        1000,
    )
    # The older graph sends events of its own the same way.
    assert sink.delivered == 5 + (2 if lab.info.name == "stageflow-legacy" else 0)


def test_a_full_queue_drops_the_newest_and_counts_it(lab: Laboratory) -> None:
    plan = Plan(sink=Sink(delivery_s=1, queue_max=3, drain_s=60))
    record = run(lab, stage("a", flood(10)), plan=plan)
    sink = outcome(record).sink
    assert sink is not None
    assert (sink.offered, sink.pending, sink.queue_max) == (sink.delivered + sink.dropped, 0, 3)
    assert sink.dropped >= 6
    accounts = [SinkReport(*d) for d in details(record, "account")]
    assert all(a.offered == a.delivered + a.dropped + a.pending for a in accounts)
    assert {d[2] for d in details(record, "offer.end")} == {"taken"}  # the context says nothing


def test_a_queue_that_is_told_to_block_drops_nothing(lab: Laboratory) -> None:
    plan = Plan(sink=Sink(delivery_s=1, queue_max=3, policy="block", drain_s=60))
    record = run(lab, stage("a", flood(10)), plan=plan)
    assert delivered(record) == 10
    assert record.journal.of("offer.end")[-1].at_s > 1
    assert [one.type for one in outcome(record).event_reports] == ["flood"] * 10


def test_a_hung_sink_leaves_its_events_pending(lab: Laboratory) -> None:
    plan = Plan(sink=Sink(hangs_at=1, queue_max=50, drain_s=2))
    record = run(lab, stage("a", flood(10)), plan=plan)
    sink = outcome(record).sink
    assert sink is not None
    # The worker's and the drain's event, both cut off, stand as emitted and are nowhere.
    assert sink.delivered == 2
    assert sink.pending == sink.offered - 2
    assert delivered(record) == 0
    assert record.journal.of("run.end")[0].at_s == pytest.approx(2.0)
    assert record.leaks == ()


@pytest.mark.parametrize("error", ["OSError", "CancelledError"])
def test_what_the_queue_lets_out_of_the_sink_is_no_end_of_the_run(
    lab: Laboratory, error: str
) -> None:
    plan = Plan(sink=Sink(delivery_s=0.1, error=error, error_every=2, drain_s=5))
    record = run(lab, stage("a", flood(8), step("ok", value=1)), plan=plan)
    assert record.journal.of("deliver.fail") != []
    assert (outcome(record).status, outcome(record).stages["a"].value) == ("ok", 1)


def test_a_cancel_during_the_stop_of_the_queue_ends_in_bounded_time(lab: Laboratory) -> None:
    # Stages that outlive the cancelled run go on emitting, which starts the queue again.
    plan = Plan(
        sink=Sink(delivery_s=0.2, queue_max=5, drain_s=1),
        cancels=(Cancel(at_s=0.05),),
        horizon_s=60,
    )
    record = run(lab, stage("a", flood(100, 0.02)), plan=plan)
    (end,) = record.journal.of("run.end")
    assert end.detail == "CancelledError"
    assert end.at_s <= 0.05 + 1 + 1 + 0.01


def test_the_events_of_a_shared_sink_are_told_apart_by_run(lab: Laboratory) -> None:
    plan = Plan(runs=TWO.runs, sink=Sink())
    kid = Program((stage("k", step("emit", type="kid.x")),), "kid")
    record = run(lab, stage("a", flood(2), step("subpipeline", program=kid)), plan=plan)
    for n in "01":
        reports = record.outcomes[f"r{n}"].event_reports
        # Sorted, because the queue's drain can overtake its worker.
        assert sorted((r.type, r.ids["run"]) for r in reports) == [
            ("flood", f"r{n}"),
            ("flood", f"r{n}"),
            ("kid.x", f"r{n}/kid"),
        ]


@pytest.mark.parametrize("policy", ["drop_oldest", "spill"])
def test_a_policy_that_the_queue_does_not_have_is_not_offered(lab: Laboratory, policy: str) -> None:
    with pytest.raises(NotOffered, match=policy):
        lab.run(Program((stage("a", flood(1)),)), Plan(sink=Sink(policy=policy)))


# Layers


def layered(*layers: Layer, **options: Any) -> Plan:
    return Plan(layers=layers, **options)


def test_layers_are_passed_in_declared_order(lab: Laboratory) -> None:
    plan = layered(Layer("observe", "z"), Layer("observe", "a"), Layer("observe", "m", ("b",)))
    record = run(lab, stage("a"), stage("b", step("raise"), after=("a",)), plan=plan)
    passed = [(e.stage, e.kind, e.detail) for e in record.journal if e.kind.startswith("layer")]
    failed = "raise:ValueError"
    assert passed == [
        ("a", "layer.enter", "z"),
        ("a", "layer.enter", "a"),
        ("a", "layer.exit", ("a", "ok")),
        ("a", "layer.exit", ("z", "ok")),
        ("b", "layer.enter", "z"),
        ("b", "layer.enter", "a"),
        ("b", "layer.enter", "m"),
        ("b", "layer.exit", ("m", failed)),
        ("b", "layer.exit", ("a", failed)),
        ("b", "layer.exit", ("z", failed)),
    ]


def test_a_denied_stage_does_not_run_and_is_told_as_the_engine_tells_it(lab: Laboratory) -> None:
    record = run(lab, stage("a"), plan=layered(Layer("deny", "g")))
    assert details(record, "layer.deny") == ["g"]
    assert record.journal.of("stage.start") == []
    said = lab.info.facts["denied_stage_is_told_as"]
    assert outcome(record).stages["a"].status == said


def test_a_failing_guard_does_what_was_probed(lab: Laboratory) -> None:
    record = run(lab, stage("a"), plan=layered(Layer("raise", "g", runs=("r0",))))
    assert details(record, "layer.raise") == ["g"]
    ran = bool(record.journal.of("stage.start"))
    assert ran is not lab.info.facts["failing_guard_denies"]


def test_a_layer_of_the_engines_is_put_among_the_users_as_declared(lab: Laboratory) -> None:
    runs = (RunSpec("r0"), RunSpec("r1", start_s=10))
    key = Layer("idempotency", "once", ("a",), options={"key": "K"})
    plan = layered(Layer("observe", "out"), key, Layer("observe", "in"), runs=runs)
    record = run(lab, stage("a", step("ok", value=1)), plan=plan)
    # The second run is answered for by the layer: what stands without it is passed, and
    # nothing within is entered. (That all are left is this engine's way.)
    assert details(record, "layer.enter", "r1") == ["out"]
    assert record.journal.of("stage.start", run="r1") == []


def test_a_breaker_for_one_stage_leaves_the_others_alone(lab: Laboratory) -> None:
    runs = tuple(RunSpec(f"r{i}", start_s=i) for i in range(7))
    breaker = Layer("circuit_breaker", "cb", ("other",), options={"threshold": 5, "reset_s": 30})
    record = run(lab, stage("a", step("raise")), plan=layered(breaker, runs=runs))
    assert len(record.journal.of("stage.start")) == 7
    everywhere = Layer("circuit_breaker", "cb")
    record = run(lab, stage("a", step("raise")), plan=layered(everywhere, runs=runs))
    assert len(record.journal.of("stage.start")) < 7


def test_a_breaker_cannot_be_told_another_threshold(lab: Laboratory) -> None:
    if "circuit_breaker" not in lab.info.capabilities:
        pytest.skip(lab.info.missing["circuit_breaker"])
    breaker = Layer("circuit_breaker", "cb", options={"threshold": 2})
    with pytest.raises(NotOffered, match="threshold=2 cannot be set; the engine's own is 5"):
        lab.run(Program((stage("a"),)), layered(breaker))


# Retry


def test_a_flaky_stage_is_retried_after_its_backoff(lab: Laboratory) -> None:
    retry = Retry(3, 0.5, 2.0)
    record = run(
        lab,
        stage("a", step("flaky", times=1), step("ok", value=1), retry=retry),
        stage("b", step("sleep", seconds=1)),
    )
    assert outcome(record).stages["a"].value == 1
    assert [e.at_s for e in record.journal.of("stage.start", stage="a")] == [0.0, 0.5]


def test_only_the_stage_that_declares_it_is_retried(lab: Laboratory) -> None:
    record = run(
        lab,
        stage("a", step("flaky", times=1), retry=Retry(2, 0.5, 1.0)),
        stage("b", step("flaky", times=1), after=("a",)),
    )
    assert outcome(record).status == "failed"
    assert len(record.journal.of("stage.start", stage="b")) == 1


@pytest.mark.parametrize("retry", [Retry(3, 0.1, 3.0), Retry(3, 0.1, 2.0, 0.05)])
def test_a_retry_that_no_strategy_has_is_not_offered(lab: Laboratory, retry: Retry) -> None:
    if "retry" not in lab.info.capabilities:
        pytest.skip(lab.info.missing["retry"])
    with pytest.raises(NotOffered, match="stage a"):
        lab.run(Program((stage("a", retry=retry),)), PLAIN)
    kid = Program((stage("k", retry=retry),), "kid")
    with pytest.raises(NotOffered, match="stage k"):
        lab.run(Program((stage("a", step("subpipeline", program=kid)),)), PLAIN)


# Streams


def chunks(count: int) -> list[Step]:
    return [step("chunk", value=n) for n in range(count)]


def test_partial_results_of_a_failed_stage_can_be_read_from_its_channel(lab: Laboratory) -> None:
    kid = Program((stage("a", step("chunk", value="kid's")),), "kid")
    record = run(
        lab,
        stage("a", *chunks(3), step("raise")),
        stage("b", *chunks(2), step("subpipeline", program=kid), after=("c",)),
        stage("c"),
    )
    assert outcome(record).stages["a"].partial == (0, 1, 2)
    assert "r0/kid/a" not in outcome(record).stages


def test_partial_results_are_consumed_while_the_run_goes_on(lab: Laboratory) -> None:
    plan = Plan(consumer=Consumer("a", every_s=0.1, buffer_max=4))
    record = run(lab, stage("a", *chunks(10), step("ok", value=1)), plan=plan)
    assert details(record, "consume") == list(range(10))
    assert outcome(record).stages["a"].partial == tuple(range(10))
    first, last = record.journal.of("consume")[0].at_s, record.journal.of("chunk")[-1].at_s
    assert first < last  # the bounded channel let the producer wait
    assert record.leaks == ()


def test_a_consumer_of_a_stage_that_never_runs_comes_to_its_end(lab: Laboratory) -> None:
    plan = Plan(consumer=Consumer("b", buffer_max=4))
    record = run(lab, stage("a", step("raise")), stage("b", *chunks(2), after=("a",)), plan=plan)
    assert record.journal.of("consume.stop") != []
    assert record.leaks == ()


def test_a_cancel_of_the_caller_leaves_no_consumer_behind(lab: Laboratory) -> None:
    plan = Plan(consumer=Consumer("a", every_s=0.1, buffer_max=4), cancels=(Cancel(at_s=0.25),))
    record = run(lab, stage("a", *chunks(20)), plan=plan)
    assert outcome(record).status == "cancelled"
    # Tasks of the engine's own may be left; that is for a clause to judge.
    assert [x for x in record.leaks if not x.what.startswith(("Unified", "StageGraph"))] == []


def test_the_engines_own_end_is_noted_where_the_consumer_ends_later(lab: Laboratory) -> None:
    plan = Plan(consumer=Consumer("a", every_s=0.1, buffer_max=4))
    record = run(lab, stage("a", *chunks(3)), plan=plan)
    kinds = [e.kind for e in record.journal if e.kind.startswith(("run", "engine", "consume."))]
    assert kinds == ["run.begin", "engine.end", "consume.stop", "run.end"]
    assert record.journal.of("engine.end")[0].at_s < record.journal.of("run.end")[0].at_s
    assert run(lab, stage("a")).journal.of("engine.end") == []


def test_a_consumer_s_bound_holds_no_other_stage_up(lab: Laboratory) -> None:
    plan = Plan(consumer=Consumer("a", buffer_max=1))
    others = stage("b", *(step("chunk", value=n) for n in range(3)))
    record = lab.run(Program((stage("a", step("chunk", value=0)), others)), plan)
    assert record.outcomes["r0"].status == "ok"
    assert record.outcomes["r0"].stages["b"].partial == (0, 1, 2)


def test_what_nobody_consumes_can_be_read_beside_a_consumer(lab: Laboratory) -> None:
    plan = Plan(consumer=Consumer("a"))
    record = run(lab, stage("a", *chunks(2)), stage("b", *chunks(3), step("fail")), plan=plan)
    assert outcome(record).stages["b"].partial == (0, 1, 2)


# Scripts


def _paced(n: int) -> tuple[Step, Step]:
    return step("sleep", seconds=0.05), step("chunk", value=n)


KID = Program((stage("k", step("input"), step("identify", place="kid")),), "kid")
SCRIPTS: dict[str, tuple[tuple[Stage, ...], Plan]] = {
    "slow consumer": (
        (stage("a", *chunks(6), step("ok", value=1)), stage("b", after=("a",))),
        Plan(consumer=Consumer("a", every_s=0.02, buffer_max=2)),
    ),
    "consumer that stops": (
        (stage("a", *(one for n in range(6) for one in _paced(n))),),
        Plan(consumer=Consumer("a", stop_after=2)),
    ),
    "ids": (
        (
            stage("a", step("input"), step("identify"), step("ok", value="$marker")),
            stage("b", step("thread", seconds=0.01, identify=True), after=("a",)),
            stage("c", step("subpipeline", program=KID), after=("b",)),
        ),
        TWO,
    ),
    "log": ((stage("a", step("log", message="100 % done"), step("ok", value=1)),), PLAIN),
    "flood": (
        (stage("a", flood(8, 0.01)), stage("b", flood(3, 0.03, "q"))),
        Plan(sink=Sink(delivery_s=0.2, queue_max=2, drain_s=5)),
    ),
    "flood_block": (
        (stage("a", flood(5)),),
        Plan(sink=Sink(delivery_s=0.05, queue_max=2, drain_s=5, policy="block")),
    ),
    "flood_fails": (
        (stage("a", flood(4, 0.05)),),
        Plan(sink=Sink(error="RuntimeError", error_every=2)),
    ),
    "layers": (
        (stage("a"), stage("b", step("raise"), after=("a",))),
        layered(Layer("observe", "out"), Layer("raise", "in", phase="after", runs=("r9",))),
    ),
    "deny": ((stage("a"),), layered(Layer("deny", "g", runs=("r1",)), runs=TWO.runs)),
    "raise": ((stage("a"),), layered(Layer("raise", "g", error="OSError"))),
    "idempotency": (
        (stage("a", step("ok", value=1)),),
        layered(
            Layer("idempotency", "once", options={"key": "K"}),
            runs=(RunSpec("r0"), RunSpec("r1", start_s=0.1)),
        ),
    ),
    "breaker": (
        (stage("a", step("raise")),),
        layered(
            Layer("circuit_breaker", "cb", ("a",)),
            runs=tuple(RunSpec(f"r{i}", start_s=i / 20) for i in range(6)),
        ),
    ),
    "retry": (
        (
            stage("a", step("flaky", times=1), step("ok", value=1), retry=Retry(2, 0.05, 1.0)),
            stage("b", step("flaky", times=1), after=("a",)),
        ),
        PLAIN,
    ),
}
KINDS = (
    *("chunk", "consume", "consume.stop"),
    *("stage.start", "stage.end", "input", "identity", "flaky", "account", "log"),
    *("layer.enter", "layer.exit", "layer.raise", "layer.deny"),
    *("offer.begin", "deliver.begin", "deliver.end", "deliver.fail"),
)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_sees_what_the_laboratory_sees(lab: Laboratory, name: str, tmp_path: Any) -> None:
    stages, plan = SCRIPTS[name]
    record = run(lab, *stages, plan=plan)
    source = lab.adapter.render(
        Program(stages),
        plan,
        "X-1",
        CHECK.format(TOLD),
    )
    assert source is not None
    path = tmp_path / "check.py"
    path.write_text(source)
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    _error, _outputs, seen = eval(done.stdout.removeprefix("VIOLATION X-1: "))
    in_script = sorted(_comparable(kind, detail) for _, _, kind, detail in seen if kind in KINDS)
    in_lab = [_comparable(e.kind, e.detail) for e in record.journal if e.kind in KINDS]
    sink = outcome(record).sink
    if sink is not None:  # a script notes it last
        told = (sink.offered, sink.delivered, sink.dropped, sink.pending, sink.queue_max)
        in_lab.append(_comparable("account", told))
    assert in_script == sorted(in_lab)


def _comparable(kind: str, detail: Any) -> str:
    if kind == "consume.stop":
        return kind
    if kind == "account":
        # How far the sink has come at an instant is the clock's; the run's end is not.
        return f"account {detail[0]} {detail[4]}"
    if kind == "identity":
        place, ids = detail
        told = {k: v for k, v in ids.items() if k in ("tenant", "correlation") or "/" not in v}
        return f"identity {place} {sorted(told.items())}"
    if kind.startswith(("offer", "deliver")):
        return f"{kind} {detail[0].rpartition('/')[2]} {detail[1]}"
    return f"{kind} {detail}"


@pytest.mark.parametrize(
    ("stages", "plan"),
    [
        (
            (stage("a"),),
            layered(Layer("circuit_breaker", "b"), Layer("idempotency", "i", options={"key": "K"})),
        ),
    ],
)
def test_what_a_script_has_no_words_for_gets_none(
    lab: Laboratory, stages: tuple[Stage, ...], plan: Plan
) -> None:
    with pytest.raises(Unrenderable):
        lab.adapter.render(Program(stages), plan, "X-1", CHECK.format("None"))
