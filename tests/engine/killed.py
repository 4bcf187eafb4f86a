"""Runs a pipeline in a process that kills itself, and redrives it in another one.

`python -m tests.engine.killed FOLDER` kills a run at every point there is: whenever a stage
begins or is about to return, before every statement that SQLite executes, COMMIT included, and
after each checkpoint.
For each point it prints one line of JSON: what the first process had begun, what was in the
file when it was dead, what the second process ran, and what came of it.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.engine import Context, Pipeline, RedriveRefused, SqliteCheckpoints
from harness.engine.checkpoint import Kept

__all__ = ["NEEDS", "POINTS_MAX"]

NEEDS = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
POINTS_MAX = 500

Cross = Callable[[], None]


def pipeline(log: Path, cross: Cross) -> Pipeline:
    async def stage(context: Context) -> Any:
        note(log, context.stage)
        cross()
        given = {need: context.input(need)["sum"] for need in context.needs}
        await asyncio.sleep(0.001)
        cross()
        return {"of": given, "sum": 1 + sum(given.values())}

    found = Pipeline("killed")
    for name, needs in NEEDS.items():
        found.stage(name, stage, needs=needs)
    return found


def note(log: Path, stage: str) -> None:
    """Append to a file, which a process that is killed leaves as it is."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{stage}\n".encode())
    os.close(file)


def noted(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a process of its own; return its wait status."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def first(folder: Path, point: int) -> None:
    """Run the pipeline, and be killed when the given point is crossed."""
    left = point

    def cross(_statement: str = "") -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    class Store(SqliteCheckpoints):
        def keep(self, root: str, stage: Kept) -> None:
            super().keep(root, stage)
            cross()

    store = Store(folder / "runs.db")
    store._db.set_trace_callback(cross)
    built = pipeline(folder / "first", cross)
    asyncio.run(built.run({"order": 7}, run_id="r", checkpoints=store))
    os._exit(0)


def second(folder: Path) -> None:
    """Go on with the run, or begin it if the first process did not come so far."""
    store = SqliteCheckpoints(folder / "runs.db")
    built = pipeline(folder / "second", lambda: None)

    async def main() -> dict[str, Any]:
        try:
            result = await built.redrive("r", checkpoints=store)
        except RedriveRefused as exc:
            if "is not in" not in str(exc):
                raise
            result = await built.run({"order": 7}, run_id="r", checkpoints=store)
        return {"status": result.status, "outputs": dict(result.outputs)}

    (folder / "result").write_text(json.dumps(asyncio.run(main())))
    os._exit(0)


def kept(folder: Path) -> list[str]:
    """Return the stages whose checkpoints are in the file."""
    db = sqlite3.connect(folder / "runs.db")
    try:
        return [stage for (stage,) in db.execute("SELECT stage FROM stages ORDER BY number")]
    finally:
        db.close()


def main(root: Path) -> None:
    for point in range(1, POINTS_MAX):
        folder = root / str(point)
        folder.mkdir()
        status = in_child(functools.partial(first, folder, point))
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        row: dict[str, Any] = {"point": point, "killed": killed}
        row |= {"began": noted(folder / "first"), "kept": kept(folder)}
        again = in_child(functools.partial(second, folder))
        row |= {"exit": again, "ran": noted(folder / "second"), "kept_after": kept(folder)}
        row |= json.loads((folder / "result").read_text())
        print(json.dumps(row), flush=True)
        if not killed:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
