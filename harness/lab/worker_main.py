"""The worker: serves one engine, in the engine's own environment, over pipes.

One JSON object a line comes in on standard input, one goes out on what was standard
output when the process began. Before anything of the engine is imported, file
descriptor 1 is pointed at standard error, so that an engine that prints cannot break
the protocol.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import IO, Any

from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.kernel.errors import DagstormError, InputError
from harness.kernel.interpreter import ToolMock
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.live import LiveLaboratory
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script_texts import with_told
from harness.lab.adapter_loader import info_json, load_adapter
from harness.lab.live_unit import run_live_unit
from harness.lab.order import run_ordered
from harness.lab.search.points import points_unit
from harness.lab.search.shrink import key_of
from harness.lab.search.smallest import run_taped, shrink_witness
from harness.lab.search.swarm import swarm_unit
from harness.lab.search.telling import told_by_script
from harness.lab.standalone import script_of
from harness.lab.unit import ScenarioData, run_unit

__all__ = ["limit_memory", "main"]

MEMORY_MAX_BYTES = 4 << 30
ORPHAN_LOOK_S = 0.5
OUT_OF_MEMORY = 137
REFERENCE = "harness.adapters.reference"


LiveTools = Callable[[Mapping[str, Any]], ToolMock]


def main(tool: ToolMock, live_tool: LiveTools | None = None) -> None:
    """Serve requests until standard input ends, or the process that started this one does.

    Args:
        tool: the simulated mock behind `call` steps; the starter of the worker brings it.
        live_tool: makes its live twin of the addresses of the services; None: no live runs.
    """
    limit_memory()
    _end_with(os.getppid())
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    served = _Served(channel, tool, live_tool)
    for line in sys.stdin:
        if line.strip():
            served.answer(json.loads(line))


def limit_memory() -> None:
    """Let an engine that allocates without end take this process down, not the machine."""
    try:
        import resource
    except ImportError:  # no such limits on Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_MAX_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_MAX_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _end_with(parent: int) -> None:
    """End this process and all that its engine started, soon after the parent is gone.

    A parent that was killed closes no pipe in the midst of a long run, and cannot kill.
    """

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_LOOK_S)
        with contextlib.suppress(OSError, AttributeError):
            if os.getpgrp() == os.getpid():
                os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=look, name="dagstorm-orphan", daemon=True).start()


class _Served:
    def __init__(self, channel: IO[str], tool: ToolMock, live_tool: LiveTools | None) -> None:
        self.channel = channel
        self.tool = tool
        self.live_tool = live_tool
        self.lab: Laboratory | None = None
        self.reference: Laboratory | None = None
        self.repeated: tuple[Mapping[str, Any], ScenarioData] | None = None

    def say(self, message: Mapping[str, Any]) -> None:
        self.channel.write(json.dumps(message, default=repr) + "\n")
        self.channel.flush()

    def answer(self, request: Mapping[str, Any]) -> None:
        number = request.get("id")
        try:
            reply: dict[str, Any] = {"id": number, "ok": self._do(request)}
        except MemoryError:
            os.write(2, b"out of memory\n")
            os._exit(OUT_OF_MEMORY)
        except DagstormError as exc:
            reply = {"id": number, "error": {"kind": type(exc).__name__, "message": str(exc)}}
        except Exception as exc:
            text = "".join(traceback.format_exception(exc))[-4000:]
            message = f"{type(exc).__name__}: {exc}"
            reply = {"id": number, "error": {"kind": "Crash", "message": message, "trace": text}}
        self.say(reply)

    def _do(self, request: Mapping[str, Any]) -> Any:
        match request.get("op"):
            case "hello":
                return self._hello(request["adapter"])
            case "unit":
                return self._unit(request)
            case "replay":
                return self._replay(request)
            case "render":
                return self._render(request)
            case "rehearse":
                return self._rehearse(request)
            case "repeat":
                return self._repeat(request)
            case "shrink":
                return shrink_witness(self._ready(), request, self._progress(request, "tries"))
            case other:
                raise InputError(f"worker: unknown operation {other!r}")

    def _hello(self, adapter: Mapping[str, Any]) -> dict[str, Any]:
        self.lab = Laboratory(load_adapter(adapter), self.tool)
        self.lab.settle_process()
        return {"info": info_json(self.lab.info), "python": platform.python_version()}

    def _ready(self) -> Laboratory:
        if self.lab is None:
            raise InputError("worker: say hello first")
        return self.lab

    def _unit(self, request: Mapping[str, Any]) -> dict[str, Any]:
        scenario = ScenarioData.from_json(request["scenario"])
        if request.get("lab", "sim") == "live":
            return run_live_unit(
                self._live(request["addresses"]),
                self._reference(),
                scenario,
                runs=int(request["runs"]),
                seed=int(request["seed"]),
                progress=self._progress(request, "runs"),
            )
        lab, progress = self._ready(), self._progress(request, "runs")
        runs, seed = int(request["runs"]), int(request["seed"])
        if scenario.sweep == "swarm":
            return swarm_unit(
                lab,
                seed=f"{scenario.id} {seed}",
                runs=runs,
                budget_s=request.get("budget_s"),
                progress=progress,
                reference=self._reference(),
            )
        if scenario.sweep == "points":
            return points_unit(
                lab,
                scenario.program,
                scenario.plan,
                budget_s=request.get("budget_s"),
                progress=progress,
            )
        order_runs = runs if request.get("tier") == "order" else 0
        return run_unit(
            lab, scenario, runs=runs, seed=seed, progress=progress, order_runs=order_runs
        )

    def _live(self, addresses: Mapping[str, Any]) -> LiveLaboratory:
        """Return the live laboratory, whose services are at these addresses."""
        if self.live_tool is None:
            raise InputError("worker: it was started without a live laboratory")
        beside = self._ready()
        return LiveLaboratory(beside.adapter, self.live_tool(addresses), beside=beside)

    def _reference(self) -> Laboratory:
        """Return the reference engine, which needs the standard library only."""
        if self.reference is None:
            self.reference = Laboratory(load_adapter({"module": REFERENCE}), self.tool)
        return self.reference

    def _progress(self, request: Mapping[str, Any], what: str) -> Callable[[int], None]:
        """Return what tells the controller how far a long request has come."""
        number = request.get("id")
        return lambda done: self.say({"id": number, "progress": {what: done}})

    def _replay(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run one recorded run again; also say what each of the scenario's clauses makes of it."""
        lab = self._ready()
        scenario = ScenarioData.from_json(request["scenario"])
        seed, order = int(request.get("seed", 0)), request.get("order")
        record = (
            run_ordered(lab, scenario.program, scenario.plan, seed=seed, mode=order)
            if order
            else run_taped(lab, scenario.program, scenario.plan, seed, request.get("tape"))
        )
        reading = Reading(scenario.program, scenario.plan, record, lab.info)
        judged = {}
        for clause in CLAUSES.values():
            if clause.needs <= lab.info.capabilities:
                judgement = clause.check(reading)
                if clause.id in scenario.clauses or judgement.violations:
                    judged[clause.id] = {
                        "verdict": judgement.verdict,
                        "violations": [
                            {
                                "key": list(key_of(clause.id, v.shape, v.location)),
                                "shape": v.shape,
                                "expected": v.expected,
                                "actual": v.actual,
                                "stage": v.stage,
                                "location": v.location,
                                "at": [i for i in v.at if i >= 0],
                            }
                            for v in judgement.violations
                        ],
                    }
        return {
            "digest": digest(record),
            "ended": record.ended,
            "build_error": record.build_error,
            "journal": record.journal.to_json(),
            "outcomes": {k: o.to_json() for k, o in record.outcomes.items()},
            "leaks": [[x.kind, x.what, x.stage, x.location] for x in record.leaks],
            "waiting": [[w.task, list(w.where)] for w in record.waiting],
            "judged": judged,
        }

    def _repeat(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run a scenario undisturbed so many times; say how many objects are alive afterwards."""
        lab = self._ready()
        # All batches run the same program: adapters keep something of each that they are given.
        if self.repeated is None or self.repeated[0] != request["scenario"]:
            scenario = ScenarioData.from_json(request["scenario"])
            self.repeated = (request["scenario"], scenario)
        scenario = self.repeated[1]
        for _ in range(int(request["runs"])):
            lab.run(scenario.program, scenario.plan)
        gc.collect()
        return {"objects": len(gc.get_objects())}

    def _rehearse(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Say of each case what the script of it tells, as rehearsed in virtual time."""
        key = (request["clause"], request["shape"], "")
        told: list[int] = []
        progress = self._progress(request, "cases")
        for case in request["cases"]:
            progress(len(told))
            program, plan = Program.from_json(case["program"]), Plan.from_json(case["plan"])
            told.append(told_by_script(self._ready(), key, program, plan))
        return {"told": told}

    def _render(self, request: Mapping[str, Any]) -> dict[str, Any]:
        lab = self._ready()
        program = Program.from_json(request["program"])
        plan = Plan.from_json(request["plan"])
        clause = CLAUSES[request["clause"]]
        text, why = script_of(lab.adapter, clause, program, plan, request["shape"])
        if text is not None:
            expected = request.get("expected") or f"the engine must {clause.must}"
            text = with_told(text, expected, request.get("actual") or "")
        return {"script": text, "why": why}
