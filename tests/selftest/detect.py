"""The detection proof: is every broken engine caught by a clause that it breaks, and is the
reference engine never accused?

`python tests/selftest/detect.py` prints both and exits 1 on a miss or a false alarm; with
`--write` it also writes what caught each engine into the package, for
`dagstorm engines list` and the fast tests.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from harness.adapters.reference import Adapter  # noqa: E402
from harness.engine.broken import CATALOGUE  # noqa: E402
from harness.kernel.laboratory import Laboratory  # noqa: E402
from harness.lab.campaign import scenario_data  # noqa: E402
from harness.lab.unit import ScenarioData, run_unit  # noqa: E402
from mocks.tools import simulated_tool  # noqa: E402
from scenarios import scenarios  # noqa: E402

CAUGHT = ROOT / "harness" / "engine" / "broken" / "caught.json"
RUNS = 12
LARGE = 60


def judged(subject: str, scenario: str, *, runs: int = RUNS, seed: int = 7) -> dict[str, Any]:
    """Run one scenario on the reference engine or a broken one, in this process."""
    laboratory = Laboratory(Adapter(subject), simulated_tool)
    data = ScenarioData.from_json(scenario_data(scenarios()[scenario]))
    stages = len(data.program.stages)
    return run_unit(laboratory, data, runs=max(1, min(runs, 400 // max(1, stages))), seed=seed)


def order(breaks: tuple[str, ...]) -> list[str]:
    """Scenarios, those first that are there for a broken clause, the large ones last."""

    def rank(name: str) -> tuple[bool, int]:
        one = scenarios()[name]
        at = [one.clauses.index(c) for c in breaks if c in one.clauses]
        return len(one.program.stages) > LARGE, min(at, default=99)

    return sorted(scenarios(), key=rank)


def catch(name: str) -> tuple[str, str] | None:
    """Return (clause, scenario) of the first violation of a clause that the engine breaks."""
    breaks = CATALOGUE[name].breaks
    for scenario in order(breaks):
        rows = judged(f"broken:{name}", scenario)["clauses"]
        for clause in breaks:
            if clause in rows and rows[clause]["verdict"] == "fail":
                return clause, scenario
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000, help="runs on the reference engine")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = {name: catch(name) for name in CATALOGUE}
    missed = [name for name, caught in found.items() if caught is None]
    print(
        f"detection: {len(found) - len(missed)} of {len(found)} broken engines caught, "
        "by the clause they break"
    )
    for name in missed:
        print(f"  missed: broken:{name} breaks {', '.join(CATALOGUE[name].breaks)}")
    if options.write:
        data = {n: {"clause": c[0], "scenario": c[1]} for n, c in found.items() if c}
        CAUGHT.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", "utf-8")
    each = max(1, options.runs // len(scenarios()))
    alarms, runs = [], 0
    for scenario in scenarios():
        unit = judged("reference", scenario, runs=each, seed=options.seed)
        runs += unit["runs"]
        if unit["verdict"] != "pass" or unit["witnesses"]:
            alarms.append(f"{scenario}: {unit['verdict']} {unit['reason']}")
    print(
        f"false alarms: {len(alarms)} over {runs} runs of the reference engine, seed {options.seed}"
    )
    for alarm in alarms:
        print(f"  {alarm}")
    return 1 if missed or alarms else 0


if __name__ == "__main__":
    sys.exit(main())
