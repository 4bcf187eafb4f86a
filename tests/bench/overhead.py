"""What a judged simulated run costs against the engine's own cost on stock asyncio.

The same adapter builds and runs the same five-stage diamond: once with trivial stage
bodies in one `asyncio.run`, once in the laboratory with every clause judged. The two are
measured in turn, and what is printed is the median of their ratios: the machine's speed
drops out. `python tests/bench/overhead.py` prints; it never fails.
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
    from harness.lab.unit import ScenarioData, _Unit
    from mocks.tools import simulated_tool

    def stage(name: str, *needs: str) -> Stage:
        return Stage(name, (step("yield"), step("ok", value=name)), needs)

    b, c, d = (stage(n, "a") for n in "bcd")
    program = Program((stage("a"), b, c, d, stage("e", "b", "c", "d")))
    plan = Plan()
    laboratory = Laboratory(importlib.import_module(module).Adapter(subject), simulated_tool)
    laboratory.settle_process()
    unit = _Unit(
        laboratory, ScenarioData("bench/diamond", program, plan, ("GRAPH-2", "GRAPH-3", "CLEAN-5"))
    )

    class Trivial:
        def body(self, name: str) -> Any:
            async def run(_port: Any) -> Verdict:
                await asyncio.sleep(0)
                return Verdict("ok", name)

            return run

    bodies: Any = Trivial()

    async def stock() -> float:
        began = time.perf_counter()
        for _ in range(RUNS):
            native = laboratory.adapter.build(program, plan, bodies)
            await laboratory.adapter.run(native, plan.runs[0], plan)
        return time.perf_counter() - began

    def judged(seeds: Iterable[int]) -> float:
        began = time.perf_counter()
        for seed in seeds:
            unit._one(seed, None)
        return time.perf_counter() - began

    plain, perturbed, own = [], [], []
    for number in range(ROUNDS + 2):
        a = asyncio.run(stock())
        b1 = judged([0] * RUNS)
        b2 = judged(range(1 + number * RUNS, 1 + (number + 1) * RUNS))
        if number >= 2:  # the first rounds warm up
            plain.append(b1 / a)
            perturbed.append(b2 / a)
            own.append(a / RUNS)
    figures = {
        "undisturbed": statistics.median(plain),
        "perturbed": statistics.median(perturbed),
        "engine_us": statistics.median(own) * 1e6,
    }
    print(json.dumps(figures))


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from harness.lab.engines import parse_engine, python_of

    print("judged run of a 5-stage diamond / the engine's own cost, medians of paired rounds")
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
        rate = 1e6 / (figures["engine_us"] * figures["undisturbed"])
        print(
            f"{name:<18} undisturbed {figures['undisturbed']:.2f}x   "
            f"perturbed {figures['perturbed']:.2f}x   "
            f"(engine {figures['engine_us']:.0f} us a run here: {rate:.0f} judged runs/s)"
        )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        inside(sys.argv[1], sys.argv[2])
    else:
        main()
