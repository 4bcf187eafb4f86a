"""A run whose process is killed, `kill -9`, at any point is gone on with by another process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.engine import Context, Pipeline, RedriveRefused, SqliteCheckpoints
from tests.engine.killed import NEEDS

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60

OUTPUTS = {
    "a": {"of": {}, "sum": 1},
    "b": {"of": {"a": 1}, "sum": 2},
    "c": {"of": {"a": 1}, "sum": 2},
    "d": {"of": {"b": 2, "c": 2}, "sum": 5},
}

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork() and SIGKILL")


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.killed", str(tmp_path_factory.mktemp("killed"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_process_was_killed_at_every_point_until_none_was_left(
    points: list[dict[str, Any]],
) -> None:
    *before, last = points
    assert len(before) >= 25
    assert [row["killed"] for row in before] == [True] * len(before)
    assert (last["killed"], last["began"], last["kept"]) == (False, ["a", "b", "c", "d"], [*NEEDS])
    # Killed with any number of stages kept, and with a stage under way or about to be kept.
    assert {len(row["kept"]) for row in before} == {0, 1, 2, 3, 4}
    assert {len(row["began"]) - len(row["kept"]) for row in before} == {0, 1, 2}


def test_nothing_began_before_what_it_needs_was_kept(points: list[dict[str, Any]]) -> None:
    for row in points:
        for stage in row["began"]:
            assert set(NEEDS[stage]) <= set(row["kept"]), row


def test_a_redrive_runs_what_was_not_kept_and_nothing_else(points: list[dict[str, Any]]) -> None:
    for row in points:
        assert sorted(row["ran"]) == sorted(set(NEEDS) - set(row["kept"])), row


def test_every_redrive_ends_as_if_nothing_had_happened(points: list[dict[str, Any]]) -> None:
    for row in points:
        assert (row["exit"], row["status"], row["outputs"]) == (0, "completed", OUTPUTS), row
        assert sorted(row["kept_after"]) == sorted(NEEDS)


WORKER = """
import asyncio, sys
from harness.engine import Pipeline, SqliteCheckpoints

async def quick(context):
    return "kept"

async def slow(context):
    print("at work", flush=True)
    await asyncio.sleep(60)

pipeline = Pipeline("p")
pipeline.stage("quick", quick)
pipeline.stage("slow", slow, needs=["quick"])
asyncio.run(pipeline.run(run_id="r", checkpoints=SqliteCheckpoints(sys.argv[1])))
"""


def test_a_run_is_refused_while_its_process_lives_and_redriven_when_it_was_killed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"
    ran: list[str] = []

    async def stage(context: Context) -> str:
        ran.append(context.stage)
        return "mended"

    pipeline = Pipeline("p")
    pipeline.stage("quick", stage)
    pipeline.stage("slow", stage, needs=["quick"])
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "at work\n"
        store = SqliteCheckpoints(path)
        with pytest.raises(RedriveRefused, match=r"^run 'r' is being run or redriven; wait"):
            asyncio.run(pipeline.redrive("r", checkpoints=store))
    finally:
        worker.kill()
        worker.communicate()
    result = asyncio.run(pipeline.redrive("r", checkpoints=store))
    store.close()
    assert ran == ["slow"]
    assert dict(result.outputs) == {"quick": "kept", "slow": "mended"}
