"""A script is rehearsed in virtual time: what it shows there is what it is kept for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from harness.adapters import reference
from harness.adapters.asyncio_plain import Adapter
from harness.kernel.laboratory import Laboratory
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.lab.search import smallest, telling
from harness.lab.search.rehearsal import REHEARSALS, is_race, rehearse
from harness.lab.search.shrink import Seen, Shrunk
from harness.lab.search.smallest import shrink_witness
from mocks.tools import simulated_tool

LAB = Laboratory(Adapter(), simulated_tool)
FRAME = '''\
"""X-1 on a toy: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run."""

import asyncio
import os
import sys
import threading
import time

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

seen = []


async def stage(name, seconds):
    await asyncio.sleep(seconds)
    seen.append(name)


async def main():
BODY


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION X-1: {found}" if found else "HOLDS X-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
'''


def script(*body: str) -> str:
    return FRAME.replace("BODY", "\n".join(f"    {line}" for line in body))


def test_a_script_that_shows_it_shows_it_in_each_rehearsal_and_takes_no_time() -> None:
    hook, began = sys.excepthook, time.monotonic()
    since = ("began = time.monotonic()", "await asyncio.sleep(20)")
    text = script(*since, "return 20 <= time.monotonic() - began < 20.1")
    assert rehearse(LAB, text) == REHEARSALS
    assert rehearse(LAB, script("await asyncio.sleep(20)", "return None")) == 0
    assert (sys.excepthook, time.monotonic() - began < 10) == (hook, True)


def test_what_ends_later_than_a_script_waits_for_shows_nothing() -> None:
    assert rehearse(LAB, script("await asyncio.sleep(30)", "return 'late'")) == 0
    assert rehearse(LAB, script("await asyncio.Future()", "return 'never'")) == 0
    assert rehearse(LAB, script("raise ValueError", "return 'broken'")) == 0


def test_what_depends_on_the_order_of_a_set_of_tasks_shows_now_and_then() -> None:
    text = script(
        "tasks = [asyncio.create_task(stage(n, 0)) for n in range(3)]",
        "done, _ = await asyncio.wait(tasks)",
        "return list(done)[0] is tasks[0]",
    )
    assert 0 < rehearse(LAB, text) < REHEARSALS
    # No more are made than are needed to know that there are not as many as are wanted.
    assert rehearse(LAB, text, REHEARSALS) < rehearse(LAB, text)


def test_a_thread_of_a_script_takes_as_long_as_it_says() -> None:
    text = script(
        "began = time.monotonic()",
        "await asyncio.to_thread(time.sleep, 5)",
        "return time.monotonic() - began >= 5",
    )
    assert rehearse(LAB, text) == REHEARSALS


def test_each_rehearsal_has_variables_of_its_own_and_leaves_no_task() -> None:
    text = script(
        "left = asyncio.create_task(stage('left', 9))",
        "await stage('here', 1)",
        "return seen == ['here'] and len(asyncio.all_tasks()) == 2",
    )
    assert [rehearse(LAB, text), rehearse(LAB, text)] == [REHEARSALS] * 2


def test_a_rehearsal_cannot_tell_of_logs_or_of_another_frame() -> None:
    shows = script("return 'shown'")
    assert rehearse(LAB, shows.replace("import time", "import logging\nimport time")) == 0
    assert rehearse(LAB, "print('VIOLATION X-1')\n") == 0
    assert not is_race(LAB, "print('VIOLATION X-1')\n")


def test_a_race_shows_in_some_of_many_tries() -> None:
    race = script(
        "task = asyncio.create_task(stage('other', 0.1))",
        "await stage('own', 0.1)",
        "await task",
        "return seen == ['other', 'own']",
    )
    assert (rehearse(LAB, race), is_race(LAB, race)) == (0, True)
    assert not is_race(LAB, race.replace("stage('own', 0.1)", "stage('own', 0.05)"))


Tells = Callable[[Program, Plan], int]


def told(monkeypatch: pytest.MonkeyPatch, tells: Tells) -> None:
    """Let scripts tell so much of cases."""

    def by_script(
        _lab: Any, _key: Any, program: Program, plan: Plan, *_rest: Any, **_more: Any
    ) -> int:
        return tells(program, plan)

    monkeypatch.setattr(telling, "told_by_script", by_script)
    monkeypatch.setattr(smallest, "told_by_script", by_script)


def shrunk(*steps: dict[str, Any]) -> list[str]:
    """Return the steps of the smallest case in which a caller's cancel cuts a cleanup short."""
    program = {"version": 1, "name": "p", "stages": [{"name": "a", "steps": list(steps)}]}
    plan = {"version": 1, "cancels": [{"at_s": 0.1}]}
    key = ["CLEAN-2", "cleanup-cut", "*"]
    lab = Laboratory(reference.Adapter("broken:cleanup-cut-by-cancel"), simulated_tool)
    row = shrink_witness(lab, {"program": program, "plan": plan, "key": key})
    return [one["op"] for one in row["program"]["stages"][0]["steps"]]


STEPS = ({"op": "yield"}, {"op": "cleanup", "name": "db", "cleanup_s": 1.0})


def test_what_a_script_tells_on_the_way_it_goes_on_telling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def by_its_turn(program: Program, _plan: Plan) -> int:
        ops = [one.op for _, one in program.walk()]
        return telling.SHOWN if "yield" in ops else telling.SCRIPTED

    told(monkeypatch, lambda _program, _plan: telling.SHOWN)
    assert shrunk(*STEPS) == ["cleanup"]
    told(monkeypatch, by_its_turn)
    assert shrunk(*STEPS) == ["yield", "cleanup"]


def test_where_a_script_cannot_tell_things_take_longer() -> None:
    program = Program.from_json(
        {"stages": [{"name": "a", "steps": [{"op": "sleep", "seconds": 1}]}]}
    )
    small = Shrunk(program, Plan(), {}, {}, {}, 1, 0, "smallest")
    key = ("X-1", "shown", "*")

    def longest(one: Program) -> float:
        return max(float(step.args["seconds"]) for _, step in one.walk())

    def seen(one: Program, _plan: Plan, _tape: Any) -> Seen:
        return Seen(frozenset([("X-1", "shown", "")]) if longest(one) < 2 else frozenset())

    with pytest.MonkeyPatch.context() as patch:
        told(patch, lambda one, _plan: telling.SHOWN if longest(one) > 1 else telling.SCRIPTED)
        found = telling.with_longer_times(LAB, key, small, telling.SCRIPTED, seen)
        assert found is not None
        assert (longest(found[0]), found[1:]) == (1.5, (Plan(), telling.SHOWN))
        told(patch, lambda one, _plan: telling.SHOWN if longest(one) > 2 else telling.SCRIPTED)
        assert telling.with_longer_times(LAB, key, small, telling.SCRIPTED, seen) is None
