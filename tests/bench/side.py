"""One side of a comparison, in a process of its own: runs programs of `programs.py` under seeds.

A process a side, so that none pays for what another imported: a collection of garbage takes
the longer the more there is. Requests come in on standard input, one JSON object a line
{"program", "first", "runs"}; answers {"cpu_s", "wall_s", "alarms"} go out.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from programs import PROGRAMS  # noqa: E402

Main = Callable[[], Any]
# Runs a program once for each seed; returns how many of them raised an alarm.
Side = Callable[[Main, Iterable[int]], int]

HOW = {
    "stock": "asyncio.run(main()), each run a loop of its own; it sleeps in real time",
    "dagstorm": "Laboratory.run, a seed's legal perturbations, what is left behind judged",
    "simloop": "explore(main, [seed])",
    "simloom": "run(main, seed=seed, world=False, raise_on_error=False)",
}


def stock() -> Side:
    def runs(main: Main, seeds: Iterable[int]) -> int:
        alarms = 0
        for _ in seeds:
            try:
                asyncio.run(main())
            except Exception:
                alarms += 1
        return alarms

    return runs


def dagstorm(*, settled: bool = True) -> Side:
    sys.path.append(str(HERE.parents[1]))
    from harness.kernel.adapter import EngineInfo
    from harness.kernel.laboratory import Laboratory
    from harness.kernel.outcome import ErrorReport, Outcome
    from harness.kernel.plan import Plan
    from harness.kernel.program import Program, Stage
    from harness.kernel.steps import step
    from mocks.tools import simulated_tool

    class Adapter:
        """The laboratory's smallest subject: a coroutine function, and no engine at all."""

        main: Main

        def info(self) -> EngineInfo:
            return EngineInfo("plain", "", frozenset(), "asyncio")

        def build(self, _program: Program, _plan: Plan, _bodies: Any) -> Main:
            return self.main

        async def run(self, native: Main, spec: Any, _plan: Plan) -> Outcome:
            try:
                await native()
            except Exception as exc:
                return Outcome(spec.id, "failed", raised=ErrorReport(type(exc).__name__))
            return Outcome(spec.id, "ok")

        def render(self, *_case: Any) -> str:
            raise NotImplementedError

    adapter, program, plan = Adapter(), Program((Stage("s", (step("ok"),)),)), Plan()
    laboratory = Laboratory(adapter, simulated_tool)
    if settled:  # as in a worker: for good, in all of this process
        laboratory.settle_process()

    def runs(main: Main, seeds: Iterable[int]) -> int:
        adapter.main = main
        alarms = 0
        for seed in seeds:
            record = laboratory.run(program, plan, seed=seed)
            alarms += (
                record.ended != "over" or record.outcomes["r0"].status != "ok" or bool(record.leaks)
            )
        return alarms

    return runs


def simloop() -> Side:
    from simloop import explore  # type: ignore[import-not-found]

    # It stops at the first alarm, so it is asked for one seed at a time.
    return lambda main, seeds: sum(explore(main, [seed]) is not None for seed in seeds)


def simloom() -> Side:
    from simloom import run  # type: ignore[import-not-found]

    def one(main: Main, seed: int) -> bool:
        # Without its simulated network: that is its cheapest option that is documented.
        outcome = run(main, seed=seed, world=False, raise_on_error=False).outcome
        return bool(outcome == "error")

    return lambda main, seeds: sum(one(main, seed) for seed in seeds)


SIDES: dict[str, Callable[[], Side]] = {
    "stock": stock,
    "dagstorm": dagstorm,
    "simloop": simloop,
    "simloom": simloom,
}


def main(name: str, *, frozen: bool) -> None:
    side = SIDES[name]()
    if frozen:
        gc.collect()
        gc.freeze()
    print(json.dumps({"ready": name}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        seeds = range(request["first"], request["first"] + request["runs"])
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        alarms = side(PROGRAMS[request["program"]], seeds)
        answer = {
            "cpu_s": time.process_time() - cpu_s,
            "wall_s": time.perf_counter() - wall_s,
            "alarms": alarms,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], frozen="frozen" in sys.argv[2:])
