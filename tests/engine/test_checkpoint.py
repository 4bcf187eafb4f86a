"""Checkpoints and redrives of the reference engine, on both stores."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.engine import (
    CancelBranch,
    CancelRun,
    CheckpointError,
    CheckpointStore,
    Context,
    MemoryCheckpoints,
    Pipeline,
    PipelineError,
    RedriveRefused,
    RunCancelled,
    RunFailed,
    Skip,
    SqliteCheckpoints,
)
from harness.engine.result import RunResult
from tests.engine.virtual import in_virtual_time, sleeper

Stage = Callable[[Context], Awaitable[Any]]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CheckpointStore]:
    if request.param == "memory":
        yield MemoryCheckpoints()
    else:
        one = SqliteCheckpoints(tmp_path / "runs.db")
        yield one
        one.close()


class Trip:
    """A pipeline of counted stages: a -> b -> c, of which c fails the first `fails` times."""

    def __init__(self, fails: int = 1) -> None:
        self.ran: list[str] = []
        self.seen: list[Any] = []
        self.fails = fails

    def pipeline(self, name: str = "trip", **needs: str) -> Pipeline:
        needs = needs or {"a": "", "b": "a", "c": "b"}
        pipeline = Pipeline(name)
        for stage, wants in needs.items():
            pipeline.stage(stage, self.stage, needs=wants.split())
        return pipeline

    async def stage(self, context: Context) -> Any:
        self.ran.append(context.stage)
        self.seen.append([context.inputs.get("order"), *map(context.input, context.needs)])
        await asyncio.sleep(1)
        if context.stage == "c" and self.ran.count("c") <= self.fails:
            raise ValueError("c is not ready")
        return {"by": context.stage, "n": [1, None, 2.5]}


def out(stage: str) -> dict[str, Any]:
    return {"by": stage, "n": [1, None, 2.5]}


async def fails(awaitable: Awaitable[RunResult]) -> RunResult:
    with pytest.raises((RunFailed, RunCancelled)) as caught:
        await awaitable
    return caught.value.result


def test_a_redrive_runs_what_had_not_completed_on_the_same_outputs_and_inputs(
    store: CheckpointStore,
) -> None:
    trip = Trip()

    async def main() -> RunResult:
        await fails(trip.pipeline().run({"order": 7}, run_id="r", checkpoints=store))
        return await trip.pipeline().redrive("r", checkpoints=store)

    result = in_virtual_time(main())
    assert trip.ran == ["a", "b", "c", "c"]
    assert trip.seen == [[7], [7, out("a")], [7, out("b")], [7, out("b")]]
    assert (result.run_id, result.status, result.reused) == ("r", "completed", ("a", "b"))
    assert dict(result.outputs) == {"a": out("a"), "b": out("b"), "c": out("c")}
    assert result.duration_s == 1
    assert [(s.attempts, s.started_s) for s in result.stages.values()] == [
        (0, None),
        (0, None),
        (1, 3),
    ]


def test_a_redrive_of_a_completed_run_gives_its_result_and_runs_nothing(
    store: CheckpointStore,
) -> None:
    trip = Trip(fails=0)

    async def main() -> list[RunResult]:
        first = await trip.pipeline().run(run_id="r", checkpoints=store)
        return [first, *[await trip.pipeline().redrive("r", checkpoints=store) for _ in "ab"]]

    first, *others = in_virtual_time(main())
    assert trip.ran == ["a", "b", "c"]
    for one in others:
        assert (one.status, dict(one.outputs)) == ("completed", dict(first.outputs))
        assert (one.reused, one.duration_s) == (("a", "b", "c"), 0)


def test_redrives_can_be_redriven_by_any_of_their_ids(store: CheckpointStore) -> None:
    trip = Trip(fails=3)

    async def main() -> RunResult:
        pipeline = trip.pipeline()
        await fails(pipeline.run(run_id="r", checkpoints=store))
        await fails(pipeline.redrive("r", checkpoints=store, new_id="again"))
        await fails(pipeline.redrive("again", checkpoints=store, new_id="once more"))
        return await pipeline.redrive("r", checkpoints=store)

    assert in_virtual_time(main()).status == "completed"
    assert trip.ran == ["a", "b", "c", "c", "c", "c"]


def test_skipped_stages_and_cancelled_branches_stay_as_they_are(store: CheckpointStore) -> None:
    ran: list[str] = []

    def returns(value: Any) -> Stage:
        async def stage(context: Context) -> Any:
            ran.append(context.stage)
            await asyncio.sleep(1)
            return value

        return stage

    async def last(context: Context) -> str:
        ran.append("last")
        if ran.count("last") == 1:
            raise ValueError("not yet")
        return f"read {context.input('idle')}"

    pipeline = Pipeline("p")
    pipeline.stage("idle", returns(Skip("nothing new")))
    pipeline.stage("cut", returns(CancelBranch("not wanted")))
    pipeline.stage("below", returns("below"), needs=["cut"])
    pipeline.stage("last", last, needs=["idle"])

    async def main() -> list[RunResult]:
        one = await fails(pipeline.run(run_id="r", checkpoints=store))
        return [one, await pipeline.redrive("r", checkpoints=store)]

    first, second = in_virtual_time(main())
    assert ran == ["idle", "cut", "last", "last"]
    told = {n: (s.status, s.reason) for n, s in first.stages.items()}
    again = {n: (s.status, s.reason) for n, s in second.stages.items()}
    assert again == told | {"last": ("completed", "")}
    assert (second.outputs["last"], second.cancelled_by) == ("read None", "cut")


def test_a_run_that_was_cancelled_can_be_gone_on_with(store: CheckpointStore) -> None:
    trip = Trip(fails=0)
    asked: list[str] = []

    async def asks(context: Context) -> Any:
        asked.append(context.stage)
        await asyncio.sleep(1.5)
        return CancelRun("enough") if len(asked) == 1 else "went on"

    pipeline = trip.pipeline()
    pipeline.stage("asks", asks)

    async def main() -> RunResult:
        await fails(pipeline.run(run_id="r", checkpoints=store))
        task = asyncio.ensure_future(pipeline.redrive("r", checkpoints=store))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await pipeline.redrive("r", checkpoints=store)

    result = in_virtual_time(main())
    assert (result.status, result.reused) == ("completed", ("a",))
    assert (trip.ran, asked) == (["a", "b", "b", "b", "c"], ["asks"] * 3)


def test_two_redrives_at_once_are_one_too_many(store: CheckpointStore) -> None:
    trip = Trip()
    refused = "run 'r' is being run or redriven; wait until that is over"

    async def main() -> None:
        pipeline = trip.pipeline()
        first = asyncio.ensure_future(pipeline.run(run_id="r", checkpoints=store))
        await asyncio.sleep(0.5)
        with pytest.raises(RedriveRefused) as caught:
            await pipeline.redrive("r", checkpoints=store)
        assert str(caught.value) == refused
        await fails(first)
        second = asyncio.ensure_future(pipeline.redrive("r", checkpoints=store, new_id="x"))
        await asyncio.sleep(0.5)
        for name in ("r", "x"):
            with pytest.raises(RedriveRefused) as caught:
                await pipeline.redrive(name, checkpoints=store)
            assert str(caught.value) == refused
        assert (await second).status == "completed"

    in_virtual_time(main())
    assert trip.ran == ["a", "b", "c", "c"]


@pytest.mark.parametrize(
    ("name", "needs", "says"),
    [
        ("other", {"a": "", "b": "a", "c": "b"}, "it was 'trip' and is 'other'"),
        ("trip", {"a": "", "c": "a"}, "stage 'b' is gone; stage 'c' needed ['b'] and needs ['a']"),
        ("trip", {"a": "", "b": "a", "c": "b", "d": "c"}, "stage 'd' is new"),
        ("trip", {"a": "", "b": "a", "c": "a b"}, "stage 'c' needed ['b'] and needs ['a', 'b']"),
    ],
)
def test_a_pipeline_that_has_changed_in_a_way_that_matters_is_refused(
    store: CheckpointStore, name: str, needs: dict[str, str], says: str
) -> None:
    trip = Trip()

    async def main() -> RunResult:
        await fails(trip.pipeline().run(run_id="r", checkpoints=store))
        with pytest.raises(RedriveRefused) as caught:
            await trip.pipeline(name, **needs).redrive("r", checkpoints=store)
        assert str(caught.value) == (
            f"run 'r' cannot be redriven, the pipeline has changed: {says}"
        )
        # The refusal holds no claim, and what does not matter may have changed.
        other = Pipeline("trip", stage_timeout_s=50, on_failure="continue")
        for stage, wants in (("c", ["b"]), ("b", ["a"]), ("a", [])):
            other.stage(stage, sleeper(1, "mended"), needs=wants)
        return await other.redrive("r", checkpoints=store)

    result = in_virtual_time(main())
    assert trip.ran == ["a", "b", "c"]
    assert dict(result.outputs) == {"c": "mended", "b": out("b"), "a": out("a")}


def test_runs_that_are_not_there_and_ids_that_are_taken_are_named(store: CheckpointStore) -> None:
    async def main() -> list[str]:
        pipeline = Trip(fails=9).pipeline()
        said = []
        for work in (
            pipeline.redrive("nobody", checkpoints=store),
            pipeline.run(run_id="r", checkpoints=store),
            pipeline.run(run_id="r", checkpoints=store),
            pipeline.redrive("r", checkpoints=store, new_id="r"),
            pipeline.run(run_id="s", checkpoints=store),
            pipeline.redrive("r", checkpoints=store, new_id="s"),
        ):
            with pytest.raises((RedriveRefused, CheckpointError, RunFailed)) as caught:
                await work
            said.append(f"{type(caught.value).__name__}: {caught.value}")
        return said

    taken = "has checkpoints already; redrive it, or give the new run another id"
    said = in_virtual_time(main())
    assert said[0].startswith("RedriveRefused: run 'nobody' is not in ")
    assert [one.split(":")[0] for one in said[1:5:2]] == ["RunFailed", "RunFailed"]
    assert said[2] == f"CheckpointError: run 'r' {taken}"
    assert said[5] == f"CheckpointError: run 's' {taken}"


def test_a_run_with_checkpoints_needs_an_id(store: CheckpointStore) -> None:
    with pytest.raises(PipelineError, match=r"^pipeline 'trip': a run with checkpoints needs a"):
        Trip().pipeline().prepare(checkpoints=store)


def test_outputs_in_the_store_are_out_of_the_callers_reach(store: CheckpointStore) -> None:
    trip = Trip()

    async def main() -> RunResult:
        result = await fails(trip.pipeline().run(run_id="r", checkpoints=store))
        result.outputs["a"]["n"].append("changed")
        return await trip.pipeline().redrive("r", checkpoints=store)

    assert in_virtual_time(main()).outputs["a"] == out("a")


def test_a_run_is_redriven_for_its_own_tenant_and_others_are_not_told_of_it(
    store: CheckpointStore,
) -> None:
    trip = Trip()

    async def main() -> RunResult:
        pipeline = trip.pipeline()
        await fails(pipeline.run(run_id="r", checkpoints=store, tenant="a"))
        said = []
        asked: Any
        for run_id, asked in (("r", {"tenant": "b"}), ("none", {"tenant": "b"}), ("r", {})):
            with pytest.raises(RedriveRefused) as caught:
                await pipeline.redrive(run_id, checkpoints=store, **asked)
            said.append(str(caught.value))
        assert said == [
            "run 'r' is not among the checkpoints of tenant 'b'",
            "run 'none' is not among the checkpoints of tenant 'b'",
            "run 'r' is not among the checkpoints of no tenant",
        ]
        return await pipeline.redrive("r", checkpoints=store, tenant="a")

    assert in_virtual_time(main()).status == "completed"
    assert trip.ran == ["a", "b", "c", "c"]


class Failing(MemoryCheckpoints):
    """A store whose disk is full when stage `b` is to be kept, or forgotten."""

    def keep(self, root: str, stage: Any) -> None:
        if stage.stage == "b":
            raise CheckpointError("disk full")
        super().keep(root, stage)


def test_a_stage_whose_output_cannot_be_kept_has_failed_and_nothing_starts_after_it() -> None:
    trip = Trip(fails=0)
    store = Failing()

    async def main() -> RunResult:
        return await fails(trip.pipeline().run(run_id="r", checkpoints=store))

    result = in_virtual_time(main())
    assert trip.ran == ["a", "b"]
    assert [f.message for f in result.failures] == ["stage 'b' failed: CheckpointError: disk full"]
    assert dict(result.outputs) == {"a": out("a")}


def test_what_cannot_be_forgotten_is_not_undone() -> None:
    class Stuck(MemoryCheckpoints):
        def withdraw(self, root: str, stages: Any) -> None:
            raise CheckpointError("disk full")

    undone: list[str] = []

    async def books(context: Context) -> None:
        async def undo() -> None:
            undone.append(context.stage)

        context.compensate("cancel booking", undo)

    pipeline = Pipeline("p")
    pipeline.stage("a", books)
    pipeline.stage("c", Trip().stage, needs=["a"])
    store = Stuck()

    async def main() -> RunResult:
        return await fails(pipeline.run(run_id="r", checkpoints=store))

    result = in_virtual_time(main())
    assert (undone, result.compensated) == ([], ())
    assert [(f.name, str(f.error)) for f in result.compensation_failures] == [
        ("cancel booking", "disk full")
    ]


# SQLite.


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ((1, 2), "would not come back from its checkpoint as it is; hand on plain data"),
        ({1: "a"}, "would not come back from its checkpoint as it is; hand on plain data"),
        (float("nan"), "would not come back from its checkpoint as it is; hand on plain data"),
        (
            {1, 2},
            "cannot be kept (set: Object of type set is not JSON serializable); hand on plain",
        ),
    ],
    ids=repr,
)
def test_an_output_that_would_come_back_otherwise_is_refused_when_it_is_written(
    tmp_path: Path, output: Any, says: str
) -> None:
    pipeline = Pipeline("p")
    pipeline.stage("a", sleeper(1, output))

    async def main() -> RunResult:
        store = SqliteCheckpoints(tmp_path / "runs.db")
        return await fails(pipeline.run(run_id="r", checkpoints=store))

    (failure,) = in_virtual_time(main()).failures
    assert failure.message.startswith(f"CheckpointError: stage 'a': its output {says}")


def test_a_codec_of_the_users_lets_other_values_be_kept(tmp_path: Path) -> None:
    pipeline = Pipeline("p")
    pipeline.stage("a", sleeper(1, {1, 2}))

    async def main() -> RunResult:
        store = SqliteCheckpoints(
            tmp_path / "runs.db",
            encode=lambda v: repr(sorted(v)) if isinstance(v, set) else repr(v),
            decode=lambda text: {1, 2} if text == "[1, 2]" else eval(text, {}),
        )
        await pipeline.run(run_id="r", checkpoints=store)
        return await pipeline.redrive("r", checkpoints=store)

    assert in_virtual_time(main()).outputs["a"] == {1, 2}


def test_a_file_of_another_version_and_a_place_that_is_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(CheckpointError, match=r"runs\.db: version 9 of the checkpoints, this eng"):
        SqliteCheckpoints(path)
    with pytest.raises(CheckpointError, match=r"nowhere/runs\.db: OperationalError: unable to op"):
        SqliteCheckpoints(tmp_path / "nowhere" / "runs.db")


def test_two_stores_on_one_file_respect_each_others_claims(tmp_path: Path) -> None:
    trip = Trip()

    async def main() -> None:
        ours, theirs = (SqliteCheckpoints(tmp_path / "runs.db") for _ in "ab")
        pipeline = trip.pipeline()
        await fails(pipeline.run(run_id="r", checkpoints=ours))
        task = asyncio.ensure_future(pipeline.redrive("r", checkpoints=ours))
        await asyncio.sleep(0.5)
        with pytest.raises(RedriveRefused):
            await pipeline.redrive("r", checkpoints=theirs)
        await task
        assert (await pipeline.redrive("r", checkpoints=theirs)).status == "completed"
        ours.close()
        theirs.close()

    in_virtual_time(main())
    assert os.listdir(tmp_path / "runs.db.claims") == []


def test_another_process_holds_its_claim_until_it_dies(tmp_path: Path) -> None:
    holder = (
        "import sys; from harness.engine import SqliteCheckpoints;"
        "store = SqliteCheckpoints(sys.argv[1]); store.claim('r');"
        "print('held', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "runs.db"
    store = SqliteCheckpoints(path)
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RedriveRefused):
            store.claim("r")
    finally:
        process.kill()
        process.communicate()
    store.claim("r")
    store.close()
