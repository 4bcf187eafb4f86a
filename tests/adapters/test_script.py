"""Stand-alone scripts: what they do is what the interpreter does, and they tell it truly.

The main property here: for any program, the notes of the rendered script are the
entries of the laboratory's journal, entry for entry, on the same simulated loop.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.kernel.laboratory import Laboratory
from harness.kernel.loop import SimLoop
from harness.kernel.plan import Cancel, Fault, Plan, RunSpec
from harness.kernel.program import Program, Stage
from harness.kernel.script import NOTES, Unrenderable, render, render_stage
from harness.kernel.script_ends import HOWS
from harness.kernel.script_literals import literal
from harness.kernel.services import COMPILERS as SERVICES
from harness.kernel.steps import OPS, Step, step
from harness.kernel.tape import Tape
from mocks.tools import simulated_tool
from tests.adapters.toy import PACKAGE, TOY, ToyAdapter, toy_start

# Names every note and every end, so that scripts have them all.
QUIET_CHECK = "def violation(seen, error, outputs, left, took):\n    return None\n"
NOTED = '# "thread.end" "fault.fired" "release.begin"\n'
EVERY_NOTE = "".join(
    f'# "{word}"\n' for word in (*NOTES, *HOWS) if word not in ("release.over", "taken")
)
# It takes notes as a whole, so that they are whole.
WHOLE = "def violation(seen, error, outputs, left, took):\n    return None if seen else None\n"
FULL_CHECK = WHOLE + EVERY_NOTE

# Services that no script asks an engine for yet: a program with one has no script.
UNWRITTEN = set(SERVICES) - {"emit"}

# A worker thread's time is real in a script; its rendering is tested in real time below.
SIMULATED_OPS = sorted(set(OPS) - {"thread"} - UNWRITTEN)


@pytest.fixture(scope="module", autouse=True)
def toy_package() -> Iterator[None]:
    sys.modules[PACKAGE.__name__] = PACKAGE
    yield
    del sys.modules[PACKAGE.__name__]


def program(*steps: Step, name: str = "p") -> Program:
    return Program((Stage("a", steps),), name)


def journal_of(prog: Program, plan: Plan) -> list[tuple[Any, ...]]:
    """Run in the laboratory; return (time, stage, kind, detail), the runs' own entries left out."""
    record = Laboratory(ToyAdapter(), simulated_tool).run(prog, plan)
    assert record.ended == "over", record.waiting
    rows = []
    for at, run, stage, kind, detail in record.journal:
        # What a stage returned is in a script's `outputs`, and its runs' entries are not stages'.
        if kind in ("run.begin", "run.end", "cancel.sent", "returned"):
            continue
        # A script tells a child's stages apart by the child's name, the journal by its run.
        label = "/".join([*run.split("/")[1:], stage])
        rows.append((round(at, 6), label, kind, detail))
    return rows


def notes_of(prog: Program, plan: Plan) -> list[tuple[Any, ...]]:
    """Run the rendered script's own stages on the same loop; return what they noted."""
    source = render(prog, plan, TOY, "X-1", FULL_CHECK)
    # The run's own entries are not stages', and its hooks are for a process of its own.
    source = re.sub(r"(?m)^(sys\.excepthook = |threading\.Timer\().*$", "", source)
    source = source.partition("\nwith asyncio.Runner()")[0]
    names: dict[str, Any] = {"__name__": "rendered"}
    exec(compile(source, "<script>", "exec"), names)
    loop = SimLoop(Tape(0), horizon_s=3600, steps_max=200_000)
    names["time"] = types.SimpleNamespace(monotonic=loop.time)
    names["began"] = 0.0
    graph = re.search(r"(?m)^ +graph = (\[\n(?:.*\n)*? +\])", source)
    assert graph is not None, source
    run = loop.create_task(toy_start(eval(graph[1], names), "r0", "t0"))
    run.add_done_callback(lambda _task: loop.settle())
    for cancel in plan.cancels:
        loop.call_at(cancel.at_s or 0.0, run.cancel)
    loop.run_forever()
    assert loop.stalled == "", loop.stalled
    if not run.cancelled():
        run.exception()
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    seen = [(round(at, 6), *rest) for at, *rest in names["seen"]]
    if left:
        loop.resume()
        loop.create_task(asyncio.wait(left)).add_done_callback(lambda _t: loop.stop())
        loop.run_forever()
    loop.close()
    return seen


UNDISTURBED = Plan()


def assert_same(prog: Program, plan: Plan = UNDISTURBED) -> list[tuple[Any, ...]]:
    seen = notes_of(prog, plan)
    assert seen == journal_of(prog, plan)
    return seen


SAMPLES: dict[str, list[Step]] = {
    "sleep": [step("sleep", seconds=0.5)],
    "yield": [step("yield", times=3)],
    "acquire": [step("acquire", name="db", cleanup_s=0.2), step("sleep", seconds=1)],
    "release": [
        step("acquire", name="db", cleanup="sync"),
        step("acquire", name="file"),
        step("release", name="db"),
    ],
    "using": [step("using", name="db", cleanup_s=0.1, steps=[step("sleep", seconds=1)])],
    "cleanup": [step("cleanup", name="db", cleanup_s=0.1), step("sleep", seconds=1)],
    "generate": [step("generate", name="rows", items=3, every_s=0.1), step("ok", value="$items")],
    "chunk": [step("chunk", value={"n": 1})],
    "emit": [step("emit", type="t", data={"x": 1}), step("emit", type="u")],
    "read": [step("read", stage="a")],
    "mutate": [step("mutate", stage="a")],
    "call": [
        step("call", tool="web search", seconds=1, chunks=2, holds=True, cleanup_s=0.1),
        step("call", tool="web search", seconds=0.5),
        step("ok", value="$items"),
    ],
    "parallel": [
        step("parallel", branches=[[step("sleep", seconds=1)], [step("sleep", seconds=2)], []])
    ],
    "spawn": [
        step("spawn", name="side", steps=[step("sleep", seconds=2)]),
        step("sleep", seconds=1),
        step("ok", value=1),
    ],
    "thread": [step("thread", seconds=0.01)],
    "heartbeat": [step("heartbeat")],
    "timeout": [
        step(
            "timeout",
            label="inner",
            seconds=1,
            steps=[step("sleep", seconds=2)],
            otherwise=[step("emit", type="late")],
        )
    ],
    "subpipeline": [
        step(
            "subpipeline",
            program=Program((Stage("k", (step("sleep", seconds=1), step("context"))),), "kid"),
        )
    ],
    "context": [step("context")],
    "ok": [step("ok", value={"a": [1, None, "it's"]})],
    "fail": [step("fail", message="no 'luck'")],
    "raise": [step("raise", error="KeyError", message="k")],
    "cancel_run": [step("cancel_run", reason="enough")],
    "cancel_branch": [step("cancel_branch", reason="enough")],
    "skip": [step("skip", reason="no need")],
    "swallow": [step("swallow", times=1, steps=[step("sleep", seconds=1)])],
    "allocate": [step("sleep", seconds=0.5), step("allocate", megabytes=9)],
    "never": [step("timeout", label="t", seconds=1, steps=[step("never")])],
}


def test_every_operation_has_a_sample() -> None:
    assert set(SAMPLES) == set(OPS) - UNWRITTEN


@pytest.mark.parametrize("op", SIMULATED_OPS)
def test_a_script_notes_what_the_interpreter_notes(op: str) -> None:
    seen = assert_same(program(*SAMPLES[op]))
    assert seen[0][1:3] == ("a", "stage.start")


CANCELLED = [
    [step("acquire", name="db", cleanup_s=0.5), step("sleep", seconds=5)],
    [step("using", name="db", cleanup_s=0.5, steps=[step("sleep", seconds=5)])],
    [step("generate", name="rows", items=9, every_s=1)],
    [step("call", tool="t", seconds=5, holds=True, cleanup_s=0.5)],
    [
        step("spawn", name="side", steps=[step("acquire", name="x"), step("sleep", seconds=9)]),
        step("sleep", seconds=5),
        step("ok"),
    ],
    [
        step(
            "parallel",
            branches=[[step("sleep", seconds=5)], [step("acquire", name="y"), step("never")]],
        )
    ],
    [step("swallow", times=2, steps=[step("sleep", seconds=5)])],
    [step("timeout", label="in", seconds=9, steps=[step("sleep", seconds=5)])],
    [step("subpipeline", program=Program((Stage("k", (step("sleep", seconds=9),)),), "kid"))],
]


@pytest.mark.parametrize("steps", CANCELLED)
def test_a_cancelled_script_notes_what_the_interpreter_notes(steps: list[Step]) -> None:
    seen = assert_same(program(*steps), Plan(cancels=(Cancel(at_s=1.5),)))
    kinds = [kind for _, _, kind, _ in seen]
    assert "interrupt" in kinds or "release.begin" in kinds


def test_a_verdict_waits_for_the_task_that_the_stage_joins() -> None:
    steps = [
        step("spawn", name="side", steps=[step("sleep", seconds=3), step("emit", type="done")]),
        step("acquire", name="db"),
        step("ok", value=1),
    ]
    seen = assert_same(program(*steps))
    assert [(at, kind) for at, _, kind, _ in seen][-2:] == [
        (3.0, "spawn.end"),
        (3.0, "stage.end"),
    ]


def test_a_branch_can_end_the_stage() -> None:
    branches = [[step("sleep", seconds=1), step("fail", message="x")], [step("sleep", seconds=2)]]
    steps = [step("parallel", branches=branches), step("emit", type="not reached")]
    assert assert_same(program(*steps))[-1][1:] == ("a", "stage.end", "fail")


@pytest.mark.parametrize("onwards", [False, True])
def test_a_fault_fires_at_its_call(onwards: bool) -> None:
    steps = [step("call", tool="t", seconds=1) for _ in range(3)]
    plan = Plan(faults=(Fault("t", nth=2, error="OSError", onwards=onwards),))
    seen = assert_same(program(*steps), plan)
    fired = [(at, detail) for at, _, kind, detail in seen if kind == "fault.fired"]
    assert fired == [(1.0, ("t", 2))]


def blocks(depth: int) -> st.SearchStrategy[list[Step]]:
    seconds = st.sampled_from([0.0, 0.25, 1.0])
    name = st.sampled_from(["db", "file"])
    leaf = st.one_of(
        st.builds(lambda s: step("sleep", seconds=s), seconds),
        st.builds(lambda n: step("yield", times=n), st.integers(0, 2)),
        st.builds(lambda n, s: step("acquire", name=n, cleanup_s=s), name, seconds),
        st.builds(lambda n: step("acquire", name=n, cleanup="sync"), name),
        st.builds(lambda n: step("release", name=n), name),
        st.builds(lambda n, s: step("cleanup", name=n, cleanup_s=s), name, seconds),
        st.builds(lambda n, s: step("generate", name="g", items=n, every_s=s), st.just(2), seconds),
        st.builds(
            lambda s, n, h, e: step("call", tool="t", seconds=s, chunks=n, holds=h, error=e),
            seconds,
            st.integers(0, 2),
            st.booleans(),
            st.sampled_from([None, "OSError", "TimeoutError"]),
        ),
        st.sampled_from(
            [step("emit", type="e"), step("read", stage="a"), step("context"), step("heartbeat")]
        ),
        st.sampled_from(
            [step("ok", value="$items"), step("fail"), step("raise"), step("cancel_run")]
        ),
    )
    if not depth:
        return st.lists(leaf, max_size=4)
    inner = blocks(depth - 1)
    nested = st.one_of(
        st.builds(lambda s, b: step("using", name="u", cleanup_s=s, steps=b), seconds, inner),
        st.builds(
            lambda s, b, o: step("timeout", label="l", seconds=s, steps=b, otherwise=o),
            st.sampled_from([0.1, 0.6]),
            inner,
            inner,
        ),
        st.builds(lambda b, c: step("parallel", branches=[b, c]), inner, inner),
        st.builds(lambda b: step("spawn", name="side", steps=b), inner),
        st.builds(lambda b: step("swallow", times=1, steps=b), inner),
    )
    return st.lists(st.one_of(leaf, nested), max_size=5)


@given(blocks(2))
def test_any_program_is_told_by_its_script_as_by_the_interpreter(steps: list[Step]) -> None:
    assert_same(program(*steps))


@given(blocks(2), st.sampled_from([0.1, 0.3, 0.9, 1.1]))
def test_any_cancelled_program_is_told_alike(steps: list[Step], at_s: float) -> None:
    assert_same(program(*steps), Plan(cancels=(Cancel(at_s=at_s),)))


# Whole scripts, in processes of their own


def run_script(source: str, tmp_path: Any) -> tuple[int, str]:
    path = tmp_path / "check.py"
    path.write_text(source)
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout


def checked(expression: str) -> str:
    head = "def violation(seen, error, outputs, left, took):"
    return f"{head}\n    return {expression}\n{NOTED}"


def test_exit_codes_and_verdicts(tmp_path: Any) -> None:
    prog = program(step("sleep", seconds=0.01), step("ok", value=[1, 2]))
    held = render(prog, Plan(), TOY, "X-1", checked("None if outputs == {'a': [1, 2]} else 'no'"))
    broken = render(prog, Plan(), TOY, "X-1", checked("f'outputs were {outputs}'"))
    failing = render(prog, Plan(), TOY, "X-1", checked("1 / 0"))
    assert run_script(held, tmp_path) == (0, "HOLDS X-1\n")
    assert run_script(broken, tmp_path) == (1, "VIOLATION X-1: outputs were {'a': [1, 2]}\n")
    assert run_script(failing, tmp_path) == (2, "")


def test_a_script_without_its_engine_says_so(tmp_path: Any) -> None:
    source = render(program(), Plan(), TOY, "X-1", QUIET_CHECK)
    source = source.replace("from asyncio import sleep as _unused", "import no_such_engine")
    assert run_script(source, tmp_path) == (2, "")


def test_a_refused_pipeline_is_an_error_before_anything_was_seen(tmp_path: Any) -> None:
    check = checked("None if not seen and error.args == ('cycle',) and left == [] else 'no'")
    check += '# "run.begin"\n'
    source = render(program(), Plan(), TOY, "X-1", check)
    source = source.replace(
        "        graph = [", "        raise ValueError('cycle')\n        graph = ["
    )
    assert run_script(source, tmp_path) == (0, "HOLDS X-1\n")


def test_threads_block_for_real_and_left_tasks_are_named(tmp_path: Any) -> None:
    prog = program(
        step("spawn", name="own side task", join=False, steps=[step("never")]),
        step("thread", seconds=0.05),
        step("ok"),
    )
    check = checked(
        "None if took >= 0.05 and left == [] and "
        "('a', 'thread.end', 0.05) in [r[1:] for r in seen] else f'{left} {seen}'"
    )
    assert run_script(render(prog, Plan(), TOY, "X-1", check), tmp_path) == (0, "HOLDS X-1\n")


def test_several_runs_are_told_apart(tmp_path: Any) -> None:
    prog = program(step("call", tool="t", seconds=0.01), step("ok", value=1))
    plan = Plan(runs=(RunSpec("r0"), RunSpec("r1", "t1", 0.02)), faults=(Fault("t"),))
    check = checked(
        "None if outputs == {} and type(error) is RuntimeError and sorted(s for _, s, k, _ in seen"
        " if k == 'fault.fired') == ['r0/a', 'r1/a'] else f'{outputs} {error!r} {seen}'"
    )
    assert run_script(render(prog, plan, TOY, "X-1", check), tmp_path) == (0, "HOLDS X-1\n")


@pytest.mark.parametrize("cancel", [Cancel(at_s=0.05), Cancel(at_point=3, times=2, gap_s=0.01)])
def test_a_caller_cancels(cancel: Cancel, tmp_path: Any) -> None:
    prog = program(step("acquire", name="db", cleanup_s=0.1), step("sleep", seconds=5))
    check = checked(
        "None if type(error).__name__ == 'CancelledError' and took < 2 and "
        "'release.begin' in [k for _, _, k, _ in seen] else f'{error!r} {seen}'"
    )
    source = render(prog, Plan(cancels=(cancel,)), TOY, "X-1", check)
    assert run_script(source, tmp_path) == (0, "HOLDS X-1\n")


def test_only_helpers_that_are_used_are_printed() -> None:
    source = render(program(step("sleep", seconds=1)), Plan(), TOY, "X-1", QUIET_CHECK)
    for helper in ("release", "held", "stream", "cancel_after", "noted_call", "note("):
        assert helper not in source
    assert "await asyncio.sleep(1.0)" in source


def test_what_the_dialect_has_no_words_for_is_refused() -> None:
    with pytest.raises(Unrenderable, match="tape"):
        render(program(), Plan(cancels=(Cancel(at_point=-1),)), TOY, "X-1", QUIET_CHECK)
    with pytest.raises(Unrenderable, match="timeout"):
        render(program(step("call", tool="t", timeout_s=1)), Plan(), TOY, "X-1", QUIET_CHECK)


def test_a_list_of_durations_gives_its_first() -> None:
    waits = Stage("a", (step("sleep", seconds=[0.5, 1]),))
    writer = render_stage(waits, TOY, Plan(), notes=("interrupt",))
    assert writer.lines == ['await sleep("a", 0.5)', 'return ("ok", None)']


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_literals_mean_the_value(value: Any) -> None:
    text = literal(value)
    if "inf" not in text:
        assert eval(text) == value
