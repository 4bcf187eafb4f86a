"""A script that tries many times: each try with a schedule and variables of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from harness.kernel.plan import Cancel, Plan
from harness.kernel.program import Program, Stage
from harness.kernel.script import render
from harness.kernel.script_tries import ONE_MAX_S, TRIES_MAX, with_other_turns, with_tries
from harness.kernel.steps import Step, step
from tests.adapters.toy import TOY

# The first of two branches that take a turn each comes first, unless something delays it.
CHECK = """\
def violation(seen, error, outputs, left, took):
    order = [detail for _, _, kind, detail in seen if kind == "emit"]
    if len(order) != 2:
        return f"a try saw what another had noted: {order}"
    if order == ["second", "first"]:
        return "the second came first"
    return None
"""


def branch(name: str) -> list[Step]:
    return [step("sleep", seconds=0), step("emit", type=name, data={})]


RACE = Program((Stage("a", (step("parallel", branches=[branch("first"), branch("second")]),)),))


def run(text: str, folder: Path) -> tuple[int, str]:
    file = folder / "script.py"
    file.write_text(text, "utf-8")
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.strip()


def test_a_race_that_one_run_does_not_show_is_told_with_its_rate(tmp_path: Path) -> None:
    script = render(RACE, Plan(), TOY, "X-1", CHECK)
    assert run(script, tmp_path) == (0, "HOLDS X-1")
    often = with_tries(script, "X-1")
    assert often is not None
    code, said = run(often, tmp_path)
    told = re.fullmatch(r"VIOLATION X-1: the second came first: in (\d+) of (\d+) tries", said)
    assert code == 1
    assert told is not None
    shown, tries = int(told[1]), int(told[2])
    assert 0 < shown < tries <= TRIES_MAX


def test_what_is_never_shown_is_told_with_how_often_it_was_tried(tmp_path: Path) -> None:
    alone = Program((Stage("a", (step("parallel", branches=[branch("x"), branch("y")]),)),))
    often = with_tries(render(alone, Plan(), TOY, "X-1", CHECK), "X-1")
    assert often is not None
    few = often.replace(f"tries < {TRIES_MAX}", "tries < 20")
    assert run(few, tmp_path) == (0, "HOLDS X-1: in none of 20 tries")


def test_a_try_that_hangs_is_given_up_and_tells_nothing(tmp_path: Path) -> None:
    hangs = Program((Stage("a", (step("never"),)),))
    often = with_tries(render(hangs, Plan(), TOY, "X-1", CHECK), "X-1")
    assert often is not None
    few = often.replace(f"tries < {TRIES_MAX}", "tries < 2")
    few = few.replace(f"call_later({ONE_MAX_S},", "call_later(0.1,")
    assert run(few, tmp_path) == (0, "HOLDS X-1: in none of 2 tries")


def test_a_try_brings_no_task_of_its_own(tmp_path: Path) -> None:
    strays = "def violation(seen, strays):\n    if strays:\n        return str(strays)\n"
    calm = Program((Stage("a", (step("sleep", seconds=0.01),)),))
    often = with_tries(render(calm, Plan(), TOY, "X-1", strays), "X-1")
    assert often is not None
    few = often.replace(f"tries < {TRIES_MAX}", "tries < 2")
    assert run(few, tmp_path) == (0, "HOLDS X-1: in none of 2 tries")


def test_a_cancel_comes_some_turns_sooner_or_later() -> None:
    plan = Plan(cancels=(Cancel(at_point=5), Cancel(at_s=0.1)))
    often = with_tries(render(RACE, plan, TOY, "X-1", CHECK), "X-1")
    assert often is not None
    assert "cancel_after_turns(run, 0, random.randrange(13))" in often
    assert "call_later(0.1 + random.choice((0, 0, 0.0004, 0.0009))" in often
    compile(often, "script.py", "exec")


def test_a_script_of_another_frame_is_left_alone() -> None:
    assert with_tries("import asyncio\n\nasyncio.run(main())\n", "X-1") is None


def test_a_cancel_that_is_some_turns_off_is_put_nearest_first() -> None:
    line = "for _ in range({}):  # a number of turns of the event loop"
    assert with_other_turns("for _ in range(3):") == []
    assert with_other_turns(line.format(3)) == [line.format(n) for n in (2, 4, 1, 5, 6, 7)]
