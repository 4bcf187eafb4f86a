"""A probe finds what is planted, at its line, and says nothing about sound programs."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.kernel.errors import InputError
from harness.lab.probe import assert_sound, probe

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PLANTED = re.compile(r"# (DEFECT|ALSO) (\w[\w-]*)")
FUNCTION = re.compile(r"^async def ([a-z]\w*)\(", re.MULTILINE)


def functions(file: str) -> list[str]:
    return FUNCTION.findall((HERE / file).read_text("utf-8"))


def planted(file: str) -> set[tuple[str, int]]:
    lines = (HERE / file).read_text("utf-8").splitlines()
    found = ((PLANTED.search(line), n) for n, line in enumerate(lines, 1))
    return {(match[2], n) for match, n in found if match}


def found_in(file: str, function: str, **options: object) -> set[tuple[str, int]]:
    """Probe one function; returns the defects as (kind, line in that file)."""
    answer = probe(f"{HERE / file}:{function}", **options).answer  # type: ignore[arg-type]
    out = set()
    for defect in answer["defects"]:
        path, line = defect["place"].split(" ")[0].rsplit(":", 1)
        assert path.endswith(f"tests/probe/{file}")
        out.add((defect["kind"], int(line)))
    return out


SOUND = ("task_group", "producer_consumer", "shielded_cleanup", "timeout_with_cleanup")
DEFECTIVE = ("orphaned_task", "swallowed_cancel", "cleanup_cut_off", "unclosed_generator")
FIVE = {*SOUND, "nested_managers"}, {*DEFECTIVE, "lock_held"}


def test_the_ten_programs_are_the_ones_that_are_judged_here() -> None:
    assert set(functions("programs.py")) == FIVE[0] | FIVE[1]


@pytest.mark.parametrize("function", sorted(FIVE[0]))
def test_none_of_the_five_sound_programs_is_flagged(function: str) -> None:
    assert found_in("programs.py", function) == set()


def test_each_of_the_five_planted_defects_is_found_at_its_line_and_nothing_else() -> None:
    found = {f: found_in("programs.py", f) for f in sorted(FIVE[1])}
    assert {one for each in found.values() for one in each} == planted("programs.py")
    assert {f: len(each) for f, each in found.items()} == dict.fromkeys(sorted(FIVE[1]), 1)


@pytest.mark.slow
@pytest.mark.parametrize("function", functions("more_sound.py"))
def test_sound_programs_of_other_shapes_are_not_flagged(function: str) -> None:
    assert found_in("more_sound.py", function, runs=3) == set()


def owner(line: int) -> str:
    """Return the probed function that a line belongs to: what helps one stands before it."""
    tree = ast.parse((HERE / "more_defective.py").read_text("utf-8"))
    ends = {n.name: n.end_lineno or 0 for n in tree.body if isinstance(n, ast.AsyncFunctionDef)}
    return next(f for f in functions("more_defective.py") if ends[f] >= line)


# A thread that is left makes every run wait in real time; a loop that spins, for the alarm.
OPTIONS = {"thread_left": {"points_max": 2, "budget_s": 1.0}, "spins": {"wall_s": 0.5}}


@pytest.mark.slow
@pytest.mark.parametrize("function", functions("more_defective.py"))
def test_defects_of_other_shapes_are_found_at_their_lines(function: str) -> None:
    found = found_in("more_defective.py", function, runs=5, **OPTIONS.get(function, {}))
    if function == "spins":  # any line of the loop that spins
        assert {kind for kind, _ in found} == {"blocked"}
        return
    expected = {one for one in planted("more_defective.py") if owner(one[1]) == function}
    assert expected
    assert found == expected


def test_the_line_that_replays_a_defect_replays_it() -> None:
    target = "tests/probe/programs.py:cleanup_cut_off"
    (defect,) = probe(target, runs=0).defects
    done = dagstorm("probe", target, *defect["first"].split())
    assert done.returncode == 1
    assert f"{defect['place']}\n   {defect['says']}" in done.stdout
    assert f"again: dagstorm probe {target} {defect['first']}" in done.stdout


def test_a_point_without_the_defect_shows_none() -> None:
    done = dagstorm("probe", "tests/probe/programs.py:cleanup_cut_off", "--once")
    assert done.returncode == 0
    assert "no defect in 1 runs" in done.stdout


def test_two_probes_of_one_function_say_the_same() -> None:
    target = f"{HERE / 'more_defective.py'}:consumer_cancelled"
    assert probe(target, runs=10).answer == probe(target, runs=10).answer


def test_json_names_kind_place_hits_and_replay() -> None:
    done = dagstorm("probe", "tests/probe/programs.py:lock_held", "--json", "--runs", "0")
    assert done.returncode == 1
    (defect,) = json.loads(done.stdout)["defects"]
    (line,) = (n for kind, n in planted("programs.py") if kind == "lock")
    assert defect == {
        "kind": "lock",
        "place": f"tests/probe/programs.py:{line} lock_held",
        "says": "what is taken here is held for ever; the next run never ends",
        "waits": [f"the next run waits at tests/probe/programs.py:{line} lock_held"],
        "hits": {"cancel": 3, "timeout": 4},
        "first": "--point 1",
        "landed": f"tests/probe/programs.py:{line + 1} lock_held",
    }


# input that cannot be probed


def dagstorm(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


BAD = "tests/probe/unfit.py"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nowhere:f",), "no module 'nowhere' here"),
        (("nowhere.py:f",), "no file nowhere.py here"),
        (("json",), "expected package.module:function or path/to/file.py:function"),
        (("json:dumps",), "expected an async function (async def), got a plain function"),
        ((f"{BAD}:need",), "did you mean needs?"),
        ((f"{BAD}:Thing",), "expected an async function (async def), got a class"),
        ((f"{BAD}:Thing.method",), "it is a method; give that of an instance"),
        ((f"{BAD}:generator",), "it is an async generator"),
        ((f"{BAD}:needs",), """it needs arguments (what); give --args '{"what": …}'"""),
        ((f"{BAD}:needs", "--args", "[1, 2]"), "--args does not fit (what: 'str')"),
        ((f"{BAD}:needs", "--args", "{"), "not valid JSON"),
        ((f"{BAD}:needs", "--args", "7"), "expected a JSON object (by name) or list"),
        ((f"{BAD}:raises",), "undisturbed, it raised ValueError: nothing works, at"),
        ((f"{BAD}:opens_a_socket",), "opens_a_socket asked for real sockets"),
        ((f"{BAD}:hides_a_socket",), "hides_a_socket asked for real sockets"),
        ((f"{BAD}:socket_in_a_thread",), "_dial asked for a real"),
        ((f"{BAD}:runs_a_program",), "runs_a_program asked for a real subprocess"),
        ((f"{BAD}:needs", "--second", "4"), "--second needs --point"),
        ((f"{BAD}:needs", "--wait-for"), "--wait-for needs --timeout"),
        ((f"{BAD}:needs", "--once", "--point", "4"), "give one of them"),
        ((f"{BAD}:needs", "--timeout", "soon"), "expected seconds such as 0.25"),
        ((f"{BAD}:needs", "--runs", "-1"), "expected 0 or more"),
    ],
)
def test_what_cannot_be_probed_gets_one_line_and_exit_code_2(
    words: tuple[str, ...], says: str
) -> None:
    done = dagstorm("probe", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr


def test_arguments_reach_the_function_by_name_and_by_place() -> None:
    for args in ('{"what": "x"}', '["x"]'):
        done = dagstorm("probe", f"{BAD}:needs", "--args", args, "--runs", "0")
        assert (done.returncode, done.stderr) == (0, "")


def test_a_function_that_may_raise_is_probed_all_the_same() -> None:
    done = dagstorm("probe", f"{BAD}:raises", "--may-raise", "--runs", "0")
    assert done.returncode == 0
    assert "undisturbed it raised ValueError" in done.stdout


def test_a_function_that_ends_the_process_is_a_finding() -> None:
    (defect,) = probe(f"{ROOT / BAD}:ends_the_process", runs=0).defects
    assert (defect["kind"], defect["says"]) == (
        "died",
        "the process of this run ended with code 3",
    )


def test_a_coroutine_that_is_never_awaited_is_found() -> None:
    (defect,) = probe(f"{ROOT / BAD}:forgets_to_await", runs=0).defects
    assert defect["kind"] == "unawaited"


# the pytest helper


async def sound_here() -> int:
    await asyncio.sleep(0.5)
    return 1


async def leaky_here(seconds: float) -> None:
    task = asyncio.create_task(asyncio.sleep(seconds))
    await asyncio.sleep(0.1)
    del task


def test_the_helper_passes_a_sound_function() -> None:
    assert_sound(sound_here, runs=3)


def test_the_helper_fails_with_the_place_in_this_file() -> None:
    line = leaky_here.__code__.co_firstlineno + 1
    with pytest.raises(AssertionError) as failed:
        assert_sound(leaky_here, args={"seconds": 9.0}, runs=3)
    assert f"orphaned task: tests/probe/test_probe.py:{line} leaky_here" in str(failed.value)
    assert """--args '{"seconds": 9.0}' --once""" in str(failed.value)


def test_the_helper_refuses_what_another_process_cannot_import() -> None:
    async def inner() -> None:
        return None

    with pytest.raises(InputError, match="at the top level of a module"):
        assert_sound(inner)


def test_a_budget_that_ends_is_said() -> None:
    answer = probe(f"{HERE / 'programs.py'}:task_group", budget_s=0.0).answer
    assert answer["limits"] == ["the budget of time ended after 2 runs"]


def test_points_that_were_left_out_are_said() -> None:
    answer = probe(f"{HERE / 'programs.py'}:producer_consumer", points_max=5, runs=0).answer
    assert answer["families"]["cancel"] == 5
    assert answer["limits"] == ["5 of 25 points tried (--points-max)"]
