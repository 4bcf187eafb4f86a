"""Real processes, killed, stopped and starved: one of each fault on the engine that is right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.lab.faults.kill import go_on, order_program
from harness.lab.faults.process import Place
from tests.faults.rig import bench, leftovers, row, shapes

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs signals, limits and /proc of Linux"
)

KILLS = 6
ENGINES = Path(__file__).with_name("engines.py")


def clauses(found: dict[str, object]) -> dict[str, str]:
    return {c: r["verdict"] for c, r in found["clauses"].items()}  # type: ignore[attr-defined]


def test_the_reference_goes_on_wherever_it_is_killed() -> None:
    found = row("reference", "kill", times=KILLS)
    assert (found["verdict"], found["runs"], found["violations"]) == ("pass", KILLS, 0)
    # Two runs each, and moments of both sorts: drawn times and chosen steps.
    assert found["figures"]["redriven"] == 2 * KILLS
    timed = sum(note.startswith("killed after") for note in found["notes"])
    assert 0 < timed < KILLS
    assert sum(sample["kills"] for sample in found["samples"]) >= KILLS


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("term", {"CANCEL-3": "pass", "CLEAN-1": "pass", "PART-5": "pass"}),
        ("memory", {"PART-4": "pass", "CLEAN-1": "pass", "CLEAN-5": "pass"}),
        ("descriptors", {"PART-4": "pass", "CLEAN-1": "pass", "CLEAN-5": "pass"}),
        ("disk", {"PART-5": "pass", "PART-4": "pass"}),
    ],
)
def test_the_reference_holds(fault: str, expected: dict[str, str]) -> None:
    found = row("reference", fault)
    assert (found["verdict"], clauses(found)) == ("pass", expected), found["witnesses"]
    assert found["figures"]["not_fired"] == 0


@pytest.mark.parametrize("fault", ["stop", "block", "cpu", "clock"])
def test_the_reference_keeps_its_timeouts(fault: str) -> None:
    found = row("reference", fault)
    # A machine that is busy besides proves nothing, and then that is what is said.
    assert found["verdict"] in ("pass", "inconclusive")
    assert (found["witnesses"], found["violations"]) == ([], 0)
    assert found["figures"]["not_fired"] == 0


def test_where_nothing_can_be_mounted_files_are_limited_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Place, "mount", lambda *_: "not allowed")
    found = row("broken:checkpoint-failure-hidden", "disk")
    assert ("PART-5", "not-stored") in shapes(found)
    assert "no tmpfs could be mounted (not allowed); files were limited" in found["remarks"]


def test_an_engine_without_checkpoints_is_unsupported_and_why() -> None:
    found = row("asyncio", "kill")
    assert (found["verdict"], found["reason"]) == ("unsupported", "needs checkpoint")
    assert found["missing"] == {"checkpoint": "nothing of a task can be stored"}


def test_an_engine_that_cannot_be_asked_what_it_keeps_is_redriven_or_run_anew() -> None:
    with bench(f"{ENGINES}:NotAsked") as one:
        folder = one.place.new_folder("new")
        kept = folder / "checkpoints"
        kept.mkdir()
        job = one.job(order_program(reads=True), {}, folder=kept, redrive=True)
        request = {"ledger": str(folder / "ledger"), "folder": str(kept), "life": 1, "jobs": [job]}
        # Nobody knows the run, so it is refused, and then run from its beginning.
        refused, anew = go_on(one, request, ["r0"])
        assert refused["outcomes"]["first", "r0"]["status"] == "failed"
        assert anew["outcomes"]["first", "r0"]["status"] == "ok"
        (again,) = go_on(one, {**request, "life": 3}, ["r0"])
        assert again["outcomes"]["first", "r0"]["status"] == "ok"
        assert "kept" not in again


@pytest.mark.slow
def test_effects_may_be_repeated_only_by_an_engine_that_documents_it() -> None:
    found = row(f"{ENGINES}:ExactlyOnce", "kill", times=8)
    assert shapes(found) == {("PART-5", "effect-twice")}


def test_an_engine_that_is_asyncio_itself_cannot_be_given_another_clock() -> None:
    found = row("asyncio", "clock")
    assert (found["verdict"], found["figures"]["not_fired"]) == ("inconclusive", 1)


def test_a_trial_leaves_no_folder() -> None:
    before = leftovers()
    with bench("reference") as one:
        one.place.new_folder("mine")
        assert len(leftovers()) == len(before) + 1
    assert leftovers() == before


@pytest.mark.slow
def test_the_reference_goes_on_at_fifty_moments() -> None:
    found = row("reference", "kill", times=50)
    assert (found["verdict"], found["runs"], found["violations"]) == ("pass", 50, 0)
    assert found["figures"]["redriven"] == 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "fault", "shape"),
    [
        ("checkpoint-before-output", "kill", ("PART-5", "unfinished-left-out")),
        ("checkpoint-ahead", "kill", ("PART-5", "unfinished-left-out")),
        ("checkpoint-at-the-end", "kill", ("PART-5", "completed-rerun")),
        ("redrive-runs-all", "kill", ("PART-5", "completed-rerun")),
        ("checkpoint-failure-hidden", "disk", ("PART-5", "not-stored")),
        ("failure-unnamed", "memory", ("PART-4", "stage-not-named")),
        ("failure-unnamed", "descriptors", ("PART-4", "stage-not-named")),
        ("caller-cancel-abandons", "term", ("CANCEL-3", "stage-outlived-run")),
        ("caller-cancel-abandons", "term", ("CLEAN-1", "")),
        ("timeout-by-ticks", "stop", ("TIME-1", "late")),
        ("timeout-by-ticks", "block", ("TIME-1", "late")),
        ("timeout-late", "cpu", ("TIME-1", "late")),
        ("timeout-wall-clock", "clock", ("TIME-1", "early")),
        ("timeout-wall-clock", "clock", ("TIME-1", "")),
    ],
)
def test_what_is_broken_is_caught(engine: str, fault: str, shape: tuple[str, str]) -> None:
    found = row(f"broken:{engine}", fault, times=6)
    assert found["verdict"] == "fail"
    assert shape in shapes(found)
