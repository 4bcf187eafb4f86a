"""What a script's check says of engines that are broken on purpose: the defect, by its clause.

That checks are silent on the reference engine is held in `test_scripts_around`. Here the same
checks, on the scenario in which a broken engine is caught, have to speak.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict

import pytest

from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from scenarios import scenarios
from tests.contract.bench import laboratory
from tests.contract.script_bench import check, notes_of
from tests.selftest.detect import EVIDENCE

SEEDS = range(3)
STAGES_MAX = 60

# broken engine -> clause -> scenario
CAUGHT = json.loads(EVIDENCE.read_text("utf-8"))["engines"]
# Where a script asks for less than the clause: that the stage is named somewhere in what its
# caller gets (CANCEL-4, PART-4), and for the words of the engine at hand (TIME-4).
UNSEEN = frozenset({"CANCEL-4", "PART-4", "TIME-4"})


@functools.cache
def said() -> dict[str, set[bool]]:
    """Return clause -> whether its script's check spoke, where the clause itself did."""
    spoke: dict[str, set[bool]] = defaultdict(set)
    for engine, by in CAUGHT.items():
        for clause, scenario in by.items():
            one = scenarios()[scenario]
            if len(one.program.stages) > STAGES_MAX or True in spoke[clause]:
                continue
            lab = laboratory(f"broken:{engine}")
            for seed in SEEDS:
                record = lab.run(one.program, one.plan, seed=seed)
                if record.ended != "over":
                    continue
                reading = Reading(one.program, one.plan, record, lab.info)
                for violation in CLAUSES[clause].check(reading).violations:
                    source = CLAUSES[clause].check_of(one.program, one.plan, violation.shape)
                    if source is not None:
                        spoke[clause].add(check(source, *notes_of(one.plan, record)) is not None)
    return {clause: answers for clause, answers in spoke.items() if answers}


SCRIPTED = sorted({c for by in CAUGHT.values() for c in by})


@pytest.mark.parametrize("clause", SCRIPTED)
def test_a_script_speaks_of_an_engine_that_is_broken(clause: str) -> None:
    if clause not in said():
        pytest.skip("no script for the scenarios in which it is broken")
    assert (True in said()[clause]) is (clause not in UNSEEN)
