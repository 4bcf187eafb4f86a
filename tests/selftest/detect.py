"""The detection proof: is every defect caught, does every scenario catch one, and is the
reference engine never accused?

`python tests/selftest/detect.py` prints all three and exits 1 on a miss or a false alarm; with
`--write` it also keeps what it found: `caught.json` in the package, for `dagstorm engines
list`, and `evidence.json` beside this file, from which the fast tests are made.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from harness.adapters.reference import Adapter  # noqa: E402
from harness.contract.clauses import CLAUSES  # noqa: E402
from harness.engine.broken import CATALOGUE  # noqa: E402
from harness.kernel.laboratory import Laboratory  # noqa: E402
from harness.lab.campaign import scenario_data  # noqa: E402
from harness.lab.unit import ScenarioData, run_unit  # noqa: E402
from mocks.tools import simulated_tool  # noqa: E402
from scenarios import scenarios  # noqa: E402

CAUGHT = ROOT / "harness" / "engine" / "broken" / "caught.json"
EVIDENCE = Path(__file__).with_name("evidence.json")

# What a defect has to show itself in: this many runs of a scenario, from this seed.
RUNS = 12
SEED = 7
LARGE = 60
# A stage costs the same everywhere, so large programs get fewer of the runs.
FULL_SHARE_STAGES = 20

Caught = Mapping[str, Mapping[str, str]]


def judged(subject: str, scenario: str, *, runs: int = RUNS, seed: int = SEED) -> dict[str, Any]:
    """Run one scenario on the reference engine or a broken one, in this process."""
    laboratory = Laboratory(Adapter(subject), simulated_tool)
    data = ScenarioData.from_json(scenario_data(scenarios()[scenario]))
    return run_unit(laboratory, data, runs=runs, seed=seed)


def verdicts(engine: str, scenario: str) -> dict[str, str]:
    """Return what each clause that the scenario judges says of a broken engine."""
    large = len(scenarios()[scenario].program.stages) > LARGE
    rows = judged(f"broken:{engine}", scenario, runs=1 if large else RUNS)["clauses"]
    return {c: row["verdict"] for c, row in rows.items() if c in scenarios()[scenario].clauses}


def likely(clauses: Iterable[str]) -> list[str]:
    """Return scenarios, those first that are there for one of these clauses, large ones last."""
    due = set(clauses)

    def rank(name: str) -> tuple[bool, int]:
        one = scenarios()[name]
        at = [i for i, clause in enumerate(one.clauses) if clause in due]
        return len(one.program.stages) > LARGE, min(at, default=99)

    return sorted(scenarios(), key=rank)


def catch(engine: str) -> dict[str, str]:
    """Return, for each clause that an engine breaks and that catches it, where it does."""
    breaks = CATALOGUE[engine].breaks
    found: dict[str, str] = {}
    for scenario in likely(breaks):
        due = [c for c in breaks if c in scenarios()[scenario].clauses and c not in found]
        if due:
            said = verdicts(engine, scenario)
            found |= {clause: scenario for clause in due if said[clause] == "fail"}
    return found


def teeth(caught: Caught) -> dict[str, tuple[str, str]]:
    """Return, for each scenario that some broken engine fails, (engine, clause)."""
    found: dict[str, tuple[str, str]] = {}
    for engine, by_clause in caught.items():
        for clause, scenario in by_clause.items():
            found.setdefault(scenario, (engine, clause))
    for scenario, one in scenarios().items():
        if scenario in found:
            continue
        # Engines that break the scenario's first clause are tried first.
        ranks = {
            e: min((one.clauses.index(c) for c in d.breaks if c in one.clauses), default=99)
            for e, d in CATALOGUE.items()
        }
        for engine in sorted(ranks, key=ranks.__getitem__):
            said = verdicts(engine, scenario)
            failing = [c for c in said if said[c] == "fail"]
            if failing:
                own = [c for c in failing if c in CATALOGUE[engine].breaks]
                found[scenario] = (engine, (own or failing)[0])
                break
    return {scenario: found[scenario] for scenario in scenarios() if scenario in found}


def shares(runs: int) -> dict[str, int]:
    """Spread at least `runs` runs over all scenarios, so that none costs much more than others."""
    weight = {
        s: min(1.0, FULL_SHARE_STAGES / max(1, len(one.program.stages)))
        for s, one in scenarios().items()
    }
    total = sum(weight.values())
    return {s: math.ceil(runs * w / total) for s, w in weight.items()}


def false_alarms(runs: int, seed: int) -> tuple[int, list[str]]:
    """Return (runs made, what was said against the reference engine in them)."""
    made, alarms = 0, []
    for scenario, share in shares(runs).items():
        unit = judged("reference", scenario, runs=share, seed=seed)
        made += unit["runs"]
        alarms += [
            f"{scenario}: {w['clause']} {w['shape']}: {w['actual']} (seed {w['seed']})"
            for w in unit["witnesses"]
        ]
        if unit["verdict"] not in ("pass", "fail"):
            alarms.append(f"{scenario}: {unit['verdict']}: {unit['reason']}")
    return made, alarms


def write(caught: Caught, failing: Mapping[str, tuple[str, str]]) -> None:
    first = {
        engine: {"clause": clause, "scenario": by_clause[clause]}
        for engine, by_clause in caught.items()
        for clause in [c for c in CATALOGUE[engine].breaks if c in by_clause][:1]
    }
    evidence = {"engines": caught, "scenarios": {s: list(pair) for s, pair in failing.items()}}
    for path, data in ((CAUGHT, first), (EVIDENCE, evidence)):
        path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="runs on the reference engine")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of those runs")
    parser.add_argument("--write", action="store_true", help="keep what was found as data")
    options = parser.parse_args()
    Laboratory(Adapter("reference"), simulated_tool).settle_process()

    caught = {engine: catch(engine) for engine in CATALOGUE}
    due = [(engine, clause) for engine, one in CATALOGUE.items() for clause in one.breaks]
    missed = [(engine, clause) for engine, clause in due if clause not in caught[engine]]
    whole = len(CATALOGUE) - len({engine for engine, _ in missed})
    print(f"detection {whole} of {len(CATALOGUE)} broken engines caught, by the clause they break")
    print(f"  {len(due) - len(missed)} of {len(due)} pairs of an engine and a clause it breaks")
    for engine, clause in missed:
        print(f"  missed: broken:{engine} by {clause}")
    proven = {clause for by_clause in caught.values() for clause in by_clause}
    unproven = [clause for clause in CLAUSES if clause not in proven]
    print(f"{len(CLAUSES) - len(unproven)} of {len(CLAUSES)} clauses catch a broken engine")
    for clause in unproven:
        print(f"  catches none: {clause}")
    failing = teeth(caught)
    toothless = [s for s in scenarios() if s not in failing]
    print(f"{len(failing)} of {len(scenarios())} scenarios fail on a broken engine")
    for scenario in toothless:
        print(f"  fails on none: {scenario}")
    if options.write:
        write(caught, failing)

    made, alarms = false_alarms(options.runs, options.seed)
    print(
        f"{len(alarms)} false alarms over {made} runs of the reference engine "
        f"(--runs {options.runs} --seed {options.seed})"
    )
    for alarm in alarms:
        print(f"  {alarm}")
    return 1 if missed or unproven or toothless or alarms else 0


if __name__ == "__main__":
    sys.exit(main())
