"""The benchmarks run, and what they count is what they say."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench import peers, races, side
from tests.bench.programs import CANNOT_FAIL, PROGRAMS

SEEDS = range(1, 201)


# What cannot fail.


@pytest.mark.parametrize("name", CANNOT_FAIL)
def test_no_seed_fails_a_program_that_cannot_fail(name: str) -> None:
    assert side.dagstorm(settled=False)(PROGRAMS[name], SEEDS) == 0


@pytest.mark.parametrize("name", CANNOT_FAIL)
def test_stock_asyncio_does_not_fail_it_either(name: str) -> None:
    assert side.stock()(PROGRAMS[name], range(3)) == 0


async def raises() -> None:
    raise AssertionError("always")


async def leaves_a_task() -> None:
    left.append(asyncio.create_task(asyncio.sleep(60)))


async def never_ends() -> None:
    await asyncio.get_running_loop().create_future()


left: list[asyncio.Task[None]] = []


@pytest.mark.parametrize("main", [raises, leaves_a_task, never_ends])
def test_the_laboratory_raises_an_alarm_for_each_seed_where_there_is_reason(main: Any) -> None:
    assert side.dagstorm(settled=False)(main, range(1, 6)) == 5
    left.clear()


# Races.


@pytest.mark.parametrize("name", races.RACES)
def test_the_race_is_hit_in_virtual_time_and_not_always(name: str) -> None:
    tally = races.simulated(races.RACES[name][0], 500)
    assert tally.runs == 500
    assert 10 < tally.hits < 490


def test_the_same_seeds_hit_again() -> None:
    for race, _ in races.RACES.values():
        assert races.simulated(race, 100).hits == races.simulated(race, 100).hits


async def counted_once(wait: Any, _cancel: Any) -> bool:
    """`doubled`, mended: of the answers that are there, one counts."""

    async def ask() -> int:
        await wait()
        return 1

    asked = {asyncio.create_task(ask()) for _ in range(2)}
    done, pending = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return done.pop().result() > 1


async def refused_unless_taken(wait: Any, _cancel: Any) -> bool:
    """`refused`, mended: what the alarm asks is whether the money was taken."""
    taken = told_refused = False

    async def client() -> None:
        nonlocal taken
        await wait()
        taken = True

    async def alarm(of: asyncio.Task[None]) -> None:
        nonlocal told_refused
        await wait()
        if not taken:
            told_refused = True
            of.cancel()

    task = asyncio.create_task(client())
    ringing = asyncio.create_task(alarm(task))
    await asyncio.wait([task])
    ringing.cancel()
    return taken and told_refused


async def booked_where_taken(wait: Any, cancel: Any) -> bool:
    """`unbooked`, mended: taken and booked in one step."""
    taken = booked = 0

    async def stage() -> None:
        nonlocal taken, booked
        await asyncio.create_task(wait())
        taken += 1
        booked += 1

    task = asyncio.create_task(stage())
    await cancel(task)
    await asyncio.wait([task])
    return taken > booked


@pytest.mark.parametrize("race", [counted_once, booked_where_taken, refused_unless_taken])
def test_the_mended_program_is_never_hit(race: Any) -> None:
    assert races.simulated(race, 500).hits == 0


def test_a_ratio_to_nothing_is_a_bound() -> None:
    none, ours = races.Tally(100, 0, 2.0, 10.0), races.Tally(100, 50, 1.0, 1.0)
    once = races.Tally(100, 1, 2.0, 10.0)
    bound = "  dagstorm against stock: over 33x a CPU second, over 167x a second"
    assert races._ratios("stock", ours, none, none) == bound
    # One hit may as well have been a seventh of one, or seven.
    told = "100x (14 to 724) a CPU second, 500x (69 to 3620) a second"
    assert races._ratios("stock", ours, none, once) == f"  dagstorm against stock: {told}"


def test_what_every_run_of_ours_could_gain_is_a_bound() -> None:
    ours, stock = races.Tally(100, 50, 1.0, 1.0), races.Tally(100, 4, 2.0, 10.0)
    assert races._bound(ours, stock) == (
        "  if every run of dagstorm hit, and not 50 in 100: 50x a CPU second, "
        "as 4.0 in 100 of stock's do at 2.0 times the CPU a run"
    )


# The scripts.


def test_the_races_run_quickly() -> None:
    script = Path(races.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "--quick"], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2 + 8 * len(races.RACES)
    assert sum("hits in" in line for line in lines) == 4 * len(races.RACES)


def test_a_peer_that_cannot_be_had_is_said_and_the_rest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAGSTORM_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    peers.main(["--quick"])
    lines = capsys.readouterr().out.splitlines()
    assert [x.split()[0] for x in lines if "was not measured" in x] == list(peers.PEERS)
    assert [x.split()[0] for x in lines if "us " in x] == ["stock", "dagstorm"]
    assert [x.split()[:2] for x in lines[-2:]] == [["stock", "0.0%"], ["dagstorm", "0.0%"]]


def test_no_address_of_an_index_is_in_the_reason() -> None:
    said = "ERROR: cannot reach https://user:secret@host/simple now"
    assert peers._why(said) == "ERROR: cannot reach the index now"
    said = "ERROR: Ignored the following versions: 0.1 Requires-Python >=3.12\nERROR: No match"
    assert peers._why(said) == "the package index has none for this Python (it needs >=3.12)"


@pytest.mark.engine
@pytest.mark.slow
def test_the_peers_are_measured_where_the_index_has_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    peers.main(["--quick"])
    lines = capsys.readouterr().out.splitlines()
    if any("was not measured" in line for line in lines):
        pytest.skip(next(line for line in lines if "was not measured" in line))
    shares = {x.split()[0]: x.split()[1] for x in lines[-4:]}
    assert list(shares) == ["stock", "dagstorm", "simloop", "simloom"]
    assert shares["stock"] == shares["dagstorm"] == "0.0%"
