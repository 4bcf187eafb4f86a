"""What the search once accused the reference engine of, and why it was wrong to, is kept.

Each case is a small program and plan on which a check spoke though the engine was right: it
took a layer's refusal for an interrupted stage, a tool's own timeout for the engine's, a stage
given up after its grace for one that was forgotten. In one the engine was wrong, and was mended:
CANCEL-3 `hung`. No clause may speak of any of them. That the same clauses still catch what is
wrong is held by the broken engines' own tests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.contract.clauses import CLAUSES
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from tests.contract.bench import judgements, shapes

CASES: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("found_by_search.json").read_text("utf-8")
)


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['clause']}-{case['shape']}-{CASES.index(case)}"
)
def test_what_was_accused_wrongly_is_not_accused(case: dict[str, Any]) -> None:
    assert case["clause"] in CLAUSES
    program = Program.from_json({"stages": case["program"]})
    plan = Plan.from_json(case["plan"])
    for seed in range(3):
        said = shapes(judgements("reference", program, plan, seed))
        assert (seed, said) == (seed, {})
