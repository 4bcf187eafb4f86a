"""A campaign: engines times scenarios, run by worker processes, kept unit by unit.

What a unit comes to depends on the engine, the scenario and the campaign's seed alone,
never on which worker ran it or what ran before: that is what makes a campaign resumable
and its results the same on every machine. Each finished unit is appended to
`units.jsonl` at once; a last line torn by a crash is ignored when it is read again.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness import __version__
from harness.contract.scenario import Scenario
from harness.kernel.errors import DagstormError, EnvironmentFault, InputError
from harness.lab.again import Again, again_unit, died_again, scenario_of
from harness.lab.engines import python_of
from harness.lab.live_path import LivePath
from harness.lab.pool import Pool
from harness.lab.search.units import SHARD_RUNS
from harness.lab.subject import Engine
from harness.lab.unit_rows import died, row_of, scenario_data, weight_of, without_runs
from harness.lab.worker import AGAIN_LIMIT_S, UNIT_LIMIT_S, WorkerDied, WorkerHung

__all__ = ["PROFILES", "Campaign", "Engine", "read_units", "run_metadata", "scenario_data"]

# Runs of each scenario on each engine. What a profile does besides is for a later release.
PROFILES: Mapping[str, int] = {
    "smoke": 5,
    "default": 30,
    "daily": 60,
    "weekly": 200,
    "nightly": 300,
    "monthly": 500,
}
STAGE_RUNS_MAX = 3_000
# An engine that hung its process in so many scenarios is not tried in more.
HANGS_MAX = 3
# Units of one engine before the next one's turn.
WRITTEN_AT_ONCE = 25
SOUGHT_AT_ONCE = 4
UNITS_FILE = "units.jsonl"


def read_units(folder: Path) -> list[dict[str, Any]]:
    """Return the finished units of a run directory; a torn last line is left out."""
    try:
        lines = (folder / UNITS_FILE).read_text("utf-8").split("\n")
    except OSError:
        return []
    units = []
    for line in lines:
        try:
            units.append(json.loads(line))
        except ValueError:
            continue
    return units


Window = Callable[[str], contextlib.AbstractContextManager[None]]
# What one worker does at a time, and in which laboratory.
_Job = tuple[Engine, Scenario | Again, str]


class Campaign:
    """Runs what is left of engines times scenarios.

    Args:
        engines: to run on; `prepare` must have been called.
        scenarios: in the order in which results are listed.
        runs: for each scenario, fewer where the pipeline is large.
        report: called after each unit with (done, total, unit).
        again: runs that failed before; they are replayed first, in this order.
        cases: scenario id -> what returns its data, for their tokens.
        without: (engine, version, scenario) of what is left out.
        labs: "sim", "live" or both.
        path: to the mock services, for live runs.
        window: entered, with what it is, while a fault is on the way to the services.
        pool: of workers, which whoever brings it closes; without it `run` closes its own.
    """

    def __init__(
        self,
        folder: Path,
        engines: Sequence[Engine],
        scenarios: Sequence[Scenario],
        *,
        seed: int,
        runs: int,
        workers: int,
        report: Callable[[int, int, Mapping[str, Any]], None],
        budget_s: float | None = None,
        tier: str = "legal",
        again: Sequence[Again] = (),
        cases: Mapping[str, Callable[[], dict[str, Any]]] | None = None,
        without: frozenset[tuple[str, ...]] = frozenset(),
        labs: Sequence[str] = ("sim",),
        path: LivePath | None = None,
        pool: Pool | None = None,
        window: Window = lambda _what: contextlib.nullcontext(),
    ) -> None:
        self.folder = folder
        self.again = again
        self.cases = cases or {}
        self.without = without
        self.engines = engines
        self.scenarios = scenarios
        self.seed = seed
        self.runs = runs
        self.workers = workers
        self.report = report
        self.budget_s = budget_s
        self.tier = tier
        self.labs = labs
        self.path = path
        self.left_out = 0
        self.pool = pool or Pool(workers)
        self.window = window
        self._own_pool = pool is None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        every = read_units(folder)
        self.units = [unit for unit in every if not unit.get("not_live")]
        self.skipped = [unit for unit in every if unit.get("not_live")]

    @property
    def not_live(self) -> dict[str, str]:
        """Scenarios that were not run in the live laboratory -> why."""
        found = {unit["scenario"]: unit["not_live"] for unit in self.skipped}
        return {s.id: found[s.id] for s in self.scenarios if s.id in found}

    def prepare(self, say: Callable[[str], None]) -> None:
        """Make environments and load adapters; an engine that cannot is given its fault.

        Raises:
            InputError: if an adapter is not one.
            EnvironmentFault: if no engine at all has an environment.
        """
        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            faults = list(pool.map(lambda engine: self._prepare(engine, say), self.engines))
        if all(faults):
            raise next(fault for fault in faults if fault is not None)

    def _prepare(self, engine: Engine, say: Callable[[str], None]) -> EnvironmentFault | None:
        """Bring one engine up, or note why not; returns the fault if it has no environment."""
        try:
            engine.python = python_of(engine.ref, say)
        except EnvironmentFault as exc:
            engine.fault = str(exc)
            return exc
        try:
            with self.pool.lend(engine) as worker:
                engine.info = worker.info
        except InputError:
            raise
        except (DagstormError, WorkerDied) as exc:
            engine.fault = str(exc)
        return None

    def run(self) -> None:
        """Run all units that are not done yet; on Ctrl-C stop, keep what there is, re-raise."""
        done = {
            (u["engine"], u["engine_version"], u["scenario"], u["lab"])
            for u in (*self.units, *self.skipped)
        }
        jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        every = self._jobs()
        total = len(every)
        for engine, job, lab in every:
            key = (*engine.key, job.id)
            if (*key, lab) not in done and key not in self.without:
                jobs.put((engine, job, lab))
        deadline = None if self.budget_s is None else time.monotonic() + self.budget_s
        threads = [
            threading.Thread(target=self._serve, args=(jobs, total, deadline), daemon=True)
            for _ in range(max(1, min(self.workers, jobs.qsize())))
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.1)
        except KeyboardInterrupt:
            self._stop.set()
            self.pool.close()
            for thread in threads:
                thread.join(10)
            raise
        finally:
            if self._own_pool:
                self.pool.close()
        self.left_out = total - len(self.units) - len(self.skipped)

    def _jobs(self) -> list[_Job]:
        """Return every unit: what failed before, what was written by hand, then searches; live
        runs come last."""
        jobs: list[_Job] = []
        if "sim" in self.labs:
            jobs += [
                (e, a, "sim")
                for e in self.engines
                for a in self.again
                if e.key == (a.engine, a.version)
            ]
        written = [s for s in self.scenarios if s.sweep != "swarm"]
        sought = [s for s in self.scenarios if s.sweep == "swarm"]
        for lab in self.labs:
            for kind, most in ((written, WRITTEN_AT_ONCE), (sought, SOUGHT_AT_ONCE)):
                # With little time the engines take turns, so that each gets its share of it.
                turn = len(kind) if self.budget_s is None else most
                for start in range(0, len(kind), max(1, turn)):
                    jobs += [(e, s, lab) for e in self.engines for s in kind[start : start + turn]]
        return jobs

    def _serve(
        self,
        jobs: queue.SimpleQueue[_Job],
        total: int,
        deadline: float | None,
    ) -> None:
        while not self._stop.is_set():
            if deadline is not None and time.monotonic() > deadline:
                break
            try:
                engine, job, lab = jobs.get_nowait()
            except queue.Empty:
                break
            began = time.monotonic()
            if isinstance(job, Again):
                result = self._once_more(engine, job)
                scenario = scenario_of(job, self.cases)
            else:
                left_s = None if deadline is None else deadline - time.monotonic()
                result = self._one(engine, job, lab, left_s)
                scenario = job
            if self._stop.is_set():
                break
            unit = row_of(
                engine.ref,
                scenario,
                lab,
                result,
                seed=self.seed,
                runs_asked=self._runs_of(scenario),
                took_s=time.monotonic() - began,
            )
            if isinstance(job, Again):
                unit["token"] = job.token
            with self._lock:
                self._keep(unit)
                self.report(len(self.units) + len(self.skipped), total, unit)

    def _one(
        self, engine: Engine, scenario: Scenario, lab: str, left_s: float | None
    ) -> dict[str, Any]:
        """Run one unit; a worker that dies is started again once, with less patience if it hung.

        A search keeps to what is left of the budget, a scenario is run to its end.
        """
        if engine.fault:
            return without_runs("error", engine.fault)
        if len(engine.hung_in) >= HANGS_MAX:
            return without_runs("blocked", f"it hung in {', '.join(engine.hung_in)}")
        request = {
            "op": "unit",
            "scenario": scenario_data(scenario),
            "runs": self._runs_of(scenario),
            "seed": self.seed,
            "tier": self.tier,
            "budget_s": left_s,
            "lab": lab,
        }
        how = ""
        for _ in range(2):
            try:
                with contextlib.ExitStack() as entered:
                    worker = entered.enter_context(self.pool.lend(engine))
                    # A live run may take that long without a word, and end all the same.
                    impatient = engine.hung_in and lab == "sim"
                    limit_s = AGAIN_LIMIT_S if impatient else UNIT_LIMIT_S
                    if lab == "live":
                        assert self.path is not None  # who asks for live runs brings the services
                        toxics = scenario.plan.toxics
                        way = self.path.through(toxics)
                        request["addresses"] = entered.enter_context(way)
                        if toxics:
                            kinds = ", ".join(dict.fromkeys(t.type for t in toxics))
                            what = f"{engine.ref.label} {scenario.id}: {kinds}"
                            entered.enter_context(self.window(what))
                    return worker.ask(request, limit_s=limit_s)
            except DagstormError as exc:
                return without_runs("error", str(exc))
            except WorkerDied as exc:
                again, how = bool(how), str(exc)
                if isinstance(exc, WorkerHung):
                    again = again or bool(engine.hung_in)
                    engine.hung_in += [s for s in (scenario.id,) if s not in engine.hung_in]
                if again:
                    break
        return died(scenario, how)

    def _once_more(self, engine: Engine, job: Again) -> dict[str, Any]:
        if engine.fault:
            return without_runs("error", engine.fault)
        try:
            with self.pool.lend(engine) as worker:
                result = again_unit(job, (worker, worker), self.cases)
            if result["verdict"] == "fail" or not result["runs"]:
                return result
            # What the worker did before may have hidden it.
            with self.pool.fresh(engine) as first, self.pool.fresh(engine) as second:
                return again_unit(job, (first, second), self.cases)
        except DagstormError as exc:
            return without_runs("error", str(exc))
        except WorkerDied as exc:
            return died_again(job, str(exc))

    def _runs_of(self, scenario: Scenario) -> int:
        if scenario.sweep == "swarm":
            return SHARD_RUNS
        weight = weight_of(scenario.program, scenario.plan)
        return max(2, min(self.runs, STAGE_RUNS_MAX // weight))

    def _keep(self, unit: dict[str, Any]) -> None:
        (self.skipped if unit.get("not_live") else self.units).append(unit)
        line = json.dumps(unit, separators=(",", ":"), default=repr) + "\n"
        with open(self.folder / UNITS_FILE, "a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def platform_text() -> str:
    """Return the platform without its host name."""
    return f"{platform.system()} {platform.machine()}"


def run_metadata(**fields: Any) -> dict[str, Any]:
    """Return the fields of run.json that every run has."""
    return {
        "dagstorm_version": __version__,
        "python_version": platform.python_version(),
        "platform": platform_text(),
        **fields,
    }
