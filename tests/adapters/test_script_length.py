"""Scripts of small programs are short, read as they are on record, and are clean code.

Regenerate what is on record, here, by `DAGSTORM_SNAPSHOTS=write pytest test_script_length.py`.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.adapters.asyncio_plain import Adapter
from harness.contract.clauses import CLAUSES
from harness.kernel.plan import Cancel, Plan, RunSpec
from harness.kernel.program import Program, Stage
from harness.kernel.script import render
from harness.kernel.script_texts import with_told
from harness.kernel.steps import step
from tests.adapters.toy import TOY

RECORDED = Path(__file__).with_name("scripts")
LINES_MAX = 60
# Shapes for whose violations they are, where it is not the one without a title of its own.
SHAPES = {
    "CANCEL-1": "stage-left-running",
    "CANCEL-3": "stage-outlived-run",
    "TIME-1": "late",
    "TIME-3": "sibling-left-running",
    "CLEAN-4": "failure-not-reported",
}

A = Stage("fetch", (step("sleep", seconds=0.1), step("ok", value=1)))
FAILS = Stage("parse", (step("raise", error="ValueError", message="no"),), needs=("fetch",))
HOLDS = Stage("hold", (step("acquire", name="lock", cleanup_s=0.1), step("sleep", seconds=1)))
CALLER = Plan(cancels=(Cancel(at_s=0.1),))

# One small program for each clause, of the size to which findings are shrunk.
SMALL: dict[str, tuple[Program, Plan]] = {
    "CANCEL-1": (Program((A, Stage("end", (step("cancel_run"),)))), Plan()),
    "CANCEL-3": (Program((A,)), CALLER),
    "CANCEL-5": (Program((A,)), Plan(cancels=(Cancel(at_s=0.1),))),
    "CLEAN-1": (Program((HOLDS,)), CALLER),
    "CLEAN-2": (Program((HOLDS,)), CALLER),
    "CLEAN-4": (
        Program((Stage("hold", (step("acquire", name="lock", fails=True),)),)),
        Plan(),
    ),
    "CLEAN-5": (Program((A, Stage("end", (step("fail"),)))), Plan()),
    "CTX-2": (
        Program((A, Stage("rogue", (step("mutate", stage="fetch"),), needs=("fetch",)))),
        Plan(),
    ),
    "GRAPH-1": (Program((Stage("parse", needs=("parse",)),)), Plan()),
    "GRAPH-2": (Program((A, Stage("last", needs=("fetch",)))), Plan()),
    "PART-1": (Program((A, FAILS)), Plan()),
    "PART-3": (Program((A, FAILS)), Plan()),
    "PART-4": (Program((FAILS,)), Plan()),
    "TIME-1": (Program((A,)), Plan(stage_timeout_s=0.05)),
    "TIME-3": (Program((A, HOLDS)), Plan(stage_timeout_s=0.05)),
    "TIME-5": (Program((A,)), Plan(stage_timeout_s=-1.0)),
}


def rendered(clause: str) -> str:
    program, plan = SMALL[clause]
    check = CLAUSES[clause].check_of(program, plan, SHAPES.get(clause, ""))
    assert check is not None
    script = render(program, plan, TOY, clause, check)
    return with_told(script, "what the engine must do", "what it did")


def engines_own(source: str) -> int:
    """Count the lines of the toy engine's own run, which no engine that is installed needs."""
    (function,) = [
        one
        for one in ast.parse(source).body
        if isinstance(one, ast.AsyncFunctionDef) and one.name == "run_stages"
    ]
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 3


@pytest.mark.parametrize("clause", sorted(SMALL))
def test_a_script_of_a_small_program_is_short(clause: str) -> None:
    source = rendered(clause)
    assert len(source.splitlines()) - engines_own(source) <= LINES_MAX


@pytest.mark.parametrize("clause", sorted(SMALL))
def test_a_script_says_first_what_is_expected(clause: str) -> None:
    told = ast.get_docstring(ast.parse(rendered(clause)))
    assert told is not None
    assert told.startswith(f"{clause} on ")
    assert told.splitlines()[1:] == [
        "",
        "Expected: what the engine must do",
        "Actual: what it did",
    ]


def test_what_is_told_cannot_break_the_script() -> None:
    script = render(*SMALL["CANCEL-3"], TOY, "X-1", "def violation(seen):\n    return None\n")
    spoilt = with_told(script, 'a """ and a \\', "two\nlines " + "x" * 200)
    compile(spoilt, "script.py", "exec")
    assert max(map(len, spoilt.splitlines())) <= 110
    assert with_told("import asyncio\n", "a", "b") == "import asyncio\n"


def test_scripts_are_clean_code(tmp_path: Path) -> None:
    for clause in SMALL:
        (tmp_path / f"{clause}.py").write_text(rendered(clause), "utf-8")
    rules = "B,C4,E,F,PIE,RUF,SIM,UP,W"
    # What stands for itself in a stage's body stays as the program has it.
    command = ["ruff", "check", "--isolated", "--line-length", "110", "--select", rules]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--ignore", "B018,F401,SIM105", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


SNAPSHOTS = {
    "CLEAN-1": SMALL["CLEAN-1"],
    "PART-4": (Program((A, FAILS)), Plan()),
    "CANCEL-3": (
        Program((HOLDS,)),
        Plan(runs=(RunSpec("r0"), RunSpec("r1")), cancels=CALLER.cancels),
    ),
}


@pytest.mark.parametrize("clause", sorted(SNAPSHOTS))
def test_scripts_read_as_they_are_on_record(clause: str) -> None:
    program, plan = SNAPSHOTS[clause]
    check = CLAUSES[clause].check_of(program, plan, SHAPES.get(clause, ""))
    assert check is not None
    source = render(program, plan, TOY, clause, check)
    file = RECORDED / f"{clause}.txt"
    if os.environ.get("DAGSTORM_SNAPSHOTS") == "write":
        file.write_text(source, "utf-8")
    assert source == file.read_text("utf-8")


def test_the_plain_idiom_has_scripts_for_them_too() -> None:
    adapter = Adapter()
    for clause in ("CANCEL-3", "CLEAN-1", "PART-1"):
        program, plan = SMALL[clause]
        check = CLAUSES[clause].check_of(program, plan, "")
        assert check is not None
        assert adapter.render(program, plan, clause, check)
