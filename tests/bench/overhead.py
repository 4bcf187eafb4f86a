"""What a judged simulated run costs against the engine's own cost on stock asyncio.

The same adapter builds and runs the same five-stage diamond: with trivial stage bodies on
stock asyncio, the engine's real clocks in place, and in the laboratory with every clause
judged. A judged run has an event loop of its own; so it is held against a run of the
engine in a loop of its own (`asyncio.run`), and beside that against many runs that share
one loop. All are measured in turn, and what is printed are medians of their ratios: the
machine's speed drops out. `python tests/bench/overhead.py` prints; it never fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ROUNDS, RUNS = 15, 150
ENGINES = ("reference", "stageflow@0.5.1", "stageflow@1.2.0")


def inside(module: str, subject: str) -> None:
    """Measure in the engine's own environment and print the figures as JSON."""
    import importlib

    from harness.kernel.laboratory import Laboratory
    from harness.kernel.plan import Plan
    from harness.kernel.port import Verdict
    from harness.kernel.program import Program, Stage
    from harness.kernel.steps import step
    from harness.lab.unit import ScenarioData, Unit
    from mocks.tools import simulated_tool

    def stage(name: str, *needs: str) -> Stage:
        return Stage(name, (step("yield"), step("ok", value=name)), needs)

    b, c, d = (stage(n, "a") for n in "bcd")
    program = Program((stage("a"), b, c, d, stage("e", "b", "c", "d")))
    plan = Plan()
    laboratory = Laboratory(importlib.import_module(module).Adapter(subject), simulated_tool)
    laboratory.settle_process()
    unit = Unit(
        laboratory, ScenarioData("bench/diamond", program, plan, ("GRAPH-2", "GRAPH-3", "CLEAN-5"))
    )

    class Trivial:
        def body(self, name: str) -> Any:
            async def run(_port: Any) -> Verdict:
                await asyncio.sleep(0)
                return Verdict("ok", name)

            return run

    bodies: Any = Trivial()

    async def one() -> None:
        native = laboratory.adapter.build(program, plan, bodies)
        await laboratory.adapter.run(native, plan.runs[0], plan)

    async def shared() -> float:
        began = time.perf_counter()
        for _ in range(RUNS):
            await one()
        return time.perf_counter() - began

    def own() -> float:
        began = time.perf_counter()
        for _ in range(RUNS):
            asyncio.run(one())
        return time.perf_counter() - began

    def judged(seeds: Iterable[int], recorded: dict[str, list[int]] | None) -> float:
        began = time.perf_counter()
        for seed in seeds:
            unit._judge(laboratory.run(program, plan, seed=seed, recorded=recorded), None)
        return time.perf_counter() - began

    quiet: dict[str, list[int]] = {"yields": []}  # nothing recorded: nothing is perturbed
    rows: list[dict[str, float]] = []
    for number in range(1, ROUNDS + 3):
        laboratory.clocks.withdraw()
        stock, alone = asyncio.run(shared()), own()
        judged([1], quiet)  # puts the simulated clocks in again
        undisturbed = judged(range(1, RUNS + 1), quiet)
        perturbed = judged(range(number * RUNS, (number + 1) * RUNS), None)
        rows.append(
            {
                "undisturbed": undisturbed / alone,
                "perturbed": perturbed / alone,
                "undisturbed_shared": undisturbed / stock,
                "perturbed_shared": perturbed / stock,
                "engine_us": alone / RUNS * 1e6,
                "rate": RUNS / undisturbed,
                "rate_perturbed": RUNS / perturbed,
            }
        )
    rows = rows[2:]  # the first rounds warm up
    print(json.dumps({name: statistics.median(row[name] for row in rows) for name in rows[0]}))


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from harness.lab.engines import parse_engine, python_of

    print("judged run of a 5-stage diamond / the engine's own run, medians of paired rounds")
    print("each engine's run in a loop of its own (in brackets: in a loop that all share)")
    for name in ENGINES:
        ref = parse_engine(name, {})
        python = python_of(ref, lambda text: print(text, file=sys.stderr))
        done = subprocess.run(
            [python, str(Path(__file__)), ref.adapter["module"], ref.adapter["subject"]],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            print(f"{name:<18} could not be measured: {done.stderr.strip().splitlines()[-1]}")
            continue
        figures = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"{name:<18} undisturbed {figures['undisturbed']:.2f}x "
            f"({figures['undisturbed_shared']:.2f}x)   "
            f"perturbed {figures['perturbed']:.2f}x ({figures['perturbed_shared']:.2f}x)   "
            f"here: engine {figures['engine_us']:.0f} us a run; judged runs/s "
            f"{figures['rate']:.0f}, perturbed {figures['rate_perturbed']:.0f}"
        )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        inside(sys.argv[1], sys.argv[2])
    else:
        main()
