"""How often two things fall together, for a second of CPU: real sleeps against virtual time.

Two hand-written asyncio programs (`programs.py`) go wrong only if two things land in the same
turn of the loop: both replicas' answers, or a caller's cancel between a completion and its
hand-over. On stock asyncio they run as a fair user would stress them: sleeps drawn evenly from
0 to `SPAN_S`, in one loop that all share (so that no run pays for making one), one at a time,
and again `WIDTH` at a time. In dagstorm's loop they run with its legal perturbations: a
duration is one of a few (0, and ties among them), the order of equal deadlines, timers a
little late, extra turns, and the cancel lands at a point drawn from all that a clean run has.

Sleeping costs no CPU, so CPU seconds are what favours stock asyncio; wall seconds are what its
user waits. Both are printed. `python tests/bench/races.py` prints; it never fails.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from harness.kernel.loop import SimLoop  # noqa: E402
from harness.kernel.tape import Tape  # noqa: E402
from tests.bench.programs import doubled, unbooked  # noqa: E402

Race = Callable[..., Any]

SPAN_S = 0.05
WIDTH = 25
# What a step of ours may take in the simulation: none, and three of which two draws may tie.
GRID_S = (0.0, SPAN_S / 4, SPAN_S / 2, SPAN_S)
YIELDS = (0, 0, 1, 2)
RACES: dict[str, tuple[Race, str]] = {
    "doubled": (doubled, "two completions in one turn"),
    "unbooked": (unbooked, "a cancel between a completion and its hand-over"),
}


@dataclass(frozen=True, slots=True)
class Size:
    """Runs: simulated; on stock one at a time; on stock `WIDTH` at a time."""

    simulated: int
    alone: int
    wide: int


FULL = Size(simulated=15_000, alone=60, wide=4_000)
QUICK = Size(simulated=1_000, alone=4, wide=WIDTH)


@dataclass(frozen=True, slots=True)
class Tally:
    """What a side came to."""

    runs: int
    hits: int
    cpu_s: float
    wall_s: float

    @property
    def per_cpu_s(self) -> float:
        return self.hits / self.cpu_s

    @property
    def per_wall_s(self) -> float:
        return self.hits / self.wall_s


def timed(runs: int, hits: Callable[[], int]) -> Tally:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    found = hits()
    return Tally(runs, found, time.process_time() - cpu_s, time.perf_counter() - wall_s)


def stock(race: Race, runs: int, width: int, seed: int = 1) -> Tally:
    """Run a race on stock asyncio, `width` of them at once, with real sleeps."""
    rng = random.Random(seed)

    async def wait() -> None:
        await asyncio.sleep(rng.uniform(0, SPAN_S))

    async def cancel(task: asyncio.Task[Any]) -> None:
        await asyncio.wait([task], timeout=rng.uniform(0, SPAN_S))
        task.cancel()

    async def all_of_them() -> int:
        hits = 0
        for _ in range(runs // width):
            hits += sum(await asyncio.gather(*(race(wait, cancel) for _ in range(width))))
        return hits

    return timed(runs, lambda: asyncio.run(all_of_them()))


def clean_points(race: Race) -> int:
    """Return how many points an undisturbed run has at which a cancel can land."""
    loop = _loop(0)
    _run(loop, race, 0)
    return loop.points


def simulated(race: Race, runs: int, first: int = 1) -> Tally:
    """Run a race in virtual time, a seed a run."""
    points = clean_points(race)
    return timed(
        runs, lambda: sum(_run(_loop(s), race, points) for s in range(first, first + runs))
    )


def _loop(seed: int) -> SimLoop:
    return SimLoop(Tape(seed), horizon_s=60.0, steps_max=10_000)


def _run(loop: SimLoop, race: Race, points: int) -> bool:
    tape = loop.tape

    async def wait() -> None:
        await asyncio.sleep(GRID_S[tape.choose("durations", len(GRID_S))])
        for _ in range(YIELDS[tape.choose("yields", len(YIELDS))]):
            await asyncio.sleep(0)

    async def cancel(task: asyncio.Task[Any]) -> None:
        if points:
            loop.inject_at = 1 + tape.choose("points", points)
            loop.inject = task.cancel

    task = loop.create_task(race(wait, cancel))
    task.add_done_callback(lambda _task: loop.settle())
    loop.run_forever()
    hit: bool = task.result()
    loop.close()
    return hit


def text_of(size: Size) -> Iterator[str]:
    yield (
        f"same-turn races: stock asyncio sleeps 0-{SPAN_S * 1000:g} ms; dagstorm's loop draws from "
        f"{', '.join(f'{s * 1000:g}' for s in GRID_S)} ms; Python {sys.version.split()[0]}"
    )
    for name, (race, what) in RACES.items():
        yield f"{name}: {what}"
        alone = stock(race, size.alone, 1)
        wide = stock(race, size.wide, WIDTH)
        ours = simulated(race, size.simulated)
        yield _row("stock, one at a time", alone)
        yield _row(f"stock, {WIDTH} at a time", wide)
        yield _row("dagstorm", ours)
        yield _ratios(ours, alone, wide)


def _row(name: str, tally: Tally) -> str:
    return (
        f"  {name:<21} {tally.hits:6} hits in {tally.runs:6} runs, {tally.cpu_s:6.2f} s of CPU, "
        f"{tally.wall_s:6.2f} s: {tally.per_cpu_s:9.2f} a CPU second, "
        f"{tally.per_wall_s:9.2f} a second"
    )


def _ratios(ours: Tally, *others: Tally) -> str:
    """Hold our hits against the better of the other's ways; with no hit there is a bound only."""
    if not any(o.hits for o in others):
        least = min(1 / o.cpu_s for o in others), min(1 / o.wall_s for o in others)
        word = "over "
    else:
        least = max(o.per_cpu_s for o in others), max(o.per_wall_s for o in others)
        word = ""
    return (
        f"  dagstorm against the better of stock's: {word}{ours.per_cpu_s / least[0]:.0f}x a CPU "
        f"second, {word}{ours.per_wall_s / least[1]:.0f}x a second"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a few runs only: does it work?")
    options = parser.parse_args(arguments)
    gc.collect()
    gc.freeze()
    for line in text_of(QUICK if options.quick else FULL):
        print(line)


if __name__ == "__main__":
    main()
