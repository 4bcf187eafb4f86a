"""The subject: a process in which an engine runs programs while something is done to it.

It is told once, by a line of JSON on standard input, what to run. It says what comes of it,
a line of JSON each, on what was standard output when it began. It ends when it is done, and
at once when its standard input ends: then the process that started it is gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.kernel.adapter import Adapter
from harness.kernel.interpreter import ProgramBodies, World
from harness.kernel.outcome import ErrorReport, Outcome
from harness.kernel.plan import Plan, RunSpec
from harness.kernel.program import Program
from harness.kernel.tape import Tape
from harness.lab.adapter_loader import info_json, load_adapter
from harness.lab.faults.ledger import Ledger
from harness.lab.faults.tools import FaultTool, ceiling
from harness.lab.faults.wall import WallClock
from harness.lab.faults.writes import watch_writes

__all__ = ["main"]

TICK_S = 0.005
AFTER_S = 0.1
MESSAGE_MAX = 500
CPU_MAX_S = 60

Say = Callable[[Mapping[str, Any]], None]


def main() -> None:
    """Serve one request and end the process."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(0)
    threading.Thread(target=_end_with_controller, daemon=True).start()

    def say(message: Mapping[str, Any]) -> None:
        channel.write(json.dumps(message, default=repr) + "\n")
        channel.flush()

    code = 0
    try:
        request = json.loads(line)
        adapter = load_adapter(request["adapter"])
        info = adapter.info()
        if request.get("hello"):
            say({"info": info_json(info)})
        else:
            code = asyncio.run(_Subject(request, say, adapter, info.package).serve())
    except Exception as exc:
        say({"crash": f"{type(exc).__name__}: {exc}"[:MESSAGE_MAX]})
        code = 1
    os._exit(code)  # a thread that an engine left behind must not keep the process


def _end_with_controller() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


class _Subject:
    def __init__(
        self, request: Mapping[str, Any], say: Say, adapter: Adapter, package: str
    ) -> None:
        self.request = request
        self.adapter = adapter
        self.say = say
        self.tool = FaultTool(str(request.get("cgroup", "")))
        self.tool.lifted = bool(request.get("fed"))
        self.lag_s = 0.0
        self.kill: Mapping[str, Any] = request.get("kill") or {}
        self.writes = 0
        self.ledger = Ledger(Path(request["ledger"]), int(request.get("life", 0)), self._crossed)
        self.term: asyncio.Event | None = None
        self.clock = WallClock(package) if "clock_step" in request else None

    def _crossed(self, kind: str, number: int) -> None:
        if self.kill.get("at") == kind and self.kill["nth"] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def _wrote(self) -> None:
        self.writes += 1
        if self.kill.get("at") == "write" and self.kill["nth"] == self.writes:
            os.kill(os.getpid(), signal.SIGKILL)

    async def serve(self) -> int:
        """Build, run, and say what came of it; returns the exit code."""
        request, say, adapter = self.request, self.say, self.adapter
        self._limits()
        loop = asyncio.get_running_loop()
        self.term = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, self.term.set)
        if request.get("profile"):
            watch_writes(self._wrote)
        if self.clock is not None:
            self.clock.follow()
        try:
            natives = [self._build(adapter, job) for job in request["jobs"]]
        except Exception as exc:
            say({"build": f"{type(exc).__name__}: {exc}"[:MESSAGE_MAX]})
            return 0
        if callable(getattr(adapter, "kept", None)):
            known = {s.id: adapter.kept(n, s.id) for n, _, specs in natives for s in specs}  # type: ignore[attr-defined]
            say({"kept": known})
            natives = [
                (n, p, [s if known[s.id] is not None else _anew(s) for s in specs])
                for n, p, specs in natives
            ]
        ticker = loop.create_task(self._tick())
        if self.clock is not None:
            self.clock.follow(*request["clock_step"])
        say({"running": time.monotonic(), "folder": self._folder()})
        await self._round(adapter, natives, "first")
        if request.get("again"):
            self.tool.lift()
            fresh = [(n, p, [RunSpec(f"{s.id}-again") for s in specs]) for n, p, specs in natives]
            await self._round(adapter, fresh, "again")
        over_s = time.monotonic()
        await asyncio.sleep(AFTER_S)  # what was left behind has time to show itself
        ticker.cancel()
        self.tool.lift()
        say(
            {"over": over_s, "lag_s": self.lag_s, "folder": self._folder()}
            | {"counts": self.ledger.counts, "writes": self.writes}
            | ({} if self.clock is None else self.clock.account())
        )
        return 128 + signal.SIGTERM if self.term.is_set() else 0

    def _limits(self) -> None:
        """Bound this process in any case, and lower what the request says."""
        if self.request.get("cgroup"):
            procs = Path(self.request["cgroup"]) / "cgroup.procs"
            procs.write_text(str(os.getpid()), "ascii")
        try:
            import resource
        except ImportError:
            return
        ceiling(resource.RLIMIT_CPU, CPU_MAX_S)
        if "fsize" in self.request:
            ceiling(resource.RLIMIT_FSIZE, int(self.request["fsize"]))

    def _build(self, adapter: Adapter, job: Mapping[str, Any]) -> tuple[Any, Plan, list[RunSpec]]:
        program = Program.from_json(job["program"])
        specs = [RunSpec(r["id"], redrives=r.get("redrives", "")) for r in job["runs"]]
        plan = replace(Plan.from_json(job["plan"]), runs=tuple(specs))
        bodies = ProgramBodies(program)
        bodies.enter(World(self.ledger, Tape(0), plan, time.monotonic, self.tool))
        native = adapter.build(program, plan, bodies)
        # A redrive goes by the id of the run, and has one of its own.
        named = [replace(s, id=s.redrives or s.id) for s in specs]
        return native, plan, named

    async def _round(
        self, adapter: Adapter, natives: list[tuple[Any, Plan, list[RunSpec]]], phase: str
    ) -> None:
        life = self.request.get("life", 0)
        tasks: dict[asyncio.Task[Outcome], str] = {}
        for native, plan, specs in natives:
            for spec in specs:
                one = replace(spec, id=f"{spec.id}+{life}") if spec.redrives else spec
                task = asyncio.get_running_loop().create_task(self._one(adapter, native, one, plan))
                tasks[task] = spec.id
        assert self.term is not None
        told = asyncio.create_task(self.term.wait())
        deadline = time.monotonic() + float(self.request["horizon_s"])
        left = set(tasks)
        while left and time.monotonic() < deadline:
            wait_s = max(0.0, deadline - time.monotonic())
            done, _ = await asyncio.wait(
                {*left, *([] if told.done() else [told])},
                timeout=wait_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if told in done:
                self.say({"term": time.monotonic()})
                for task in left:
                    task.cancel()
            for task in left & done:
                self.say({"outcome": _plain(task), "run": tasks[task], "phase": phase})
            left -= done
        told.cancel()
        for task in left:
            self.say({"outcome": {"status": "hung"}, "run": tasks[task], "phase": phase})

    async def _one(self, adapter: Adapter, native: Any, spec: RunSpec, plan: Plan) -> Outcome:
        self.ledger.add(time.monotonic(), spec.id, "", "run.begin")
        how = "returned"
        try:
            return await adapter.run(native, spec, plan)
        except BaseException as exc:
            how = type(exc).__name__
            raise
        finally:
            self.ledger.add(time.monotonic(), spec.id, "", "run.end", how)

    async def _tick(self) -> None:
        """Measure how late timers fire."""
        while True:
            due = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            late = time.monotonic() - due
            self.lag_s = max(self.lag_s, late)
            if late > 10 * TICK_S:
                self.say({"late": [due, late]})

    def _folder(self) -> dict[str, int]:
        """Return how large the files of the checkpoints' folder are."""
        folder = self.request.get("folder")
        sizes = [p.stat().st_size for p in Path(folder).rglob("*") if p.is_file()] if folder else []
        return {"largest": max(sizes, default=0), "total": sum(sizes)}


def _anew(spec: RunSpec) -> RunSpec:
    return replace(spec, redrives="")


def _plain(task: asyncio.Task[Outcome]) -> dict[str, Any]:
    if task.cancelled():
        found = Outcome("", "cancelled", raised=ErrorReport("CancelledError"))
    elif (exc := task.exception()) is not None:
        found = Outcome("", "failed", raised=ErrorReport(type(exc).__name__, str(exc)))
    else:
        found = task.result()
    data = asdict(found)
    keys = ("status", "stages", "failures", "raised", "reused", "cleanup_failures")
    return {k: data[k] for k in keys}
