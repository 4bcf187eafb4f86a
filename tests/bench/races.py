"""How often two things fall together, for a second of CPU: real sleeps against virtual time.

Three hand-written asyncio programs (`programs.py`) go wrong only if two things land in the same
turn of the loop: both replicas' answers, a caller's cancel between a completion and its
hand-over, an answer and its deadline. On stock asyncio they run as a fair user would stress them:
sleeps drawn evenly from 0 to `SPAN_S`, in one loop that all share (so that no run pays for making
one), one at a time, and again `WIDTH` at a time; and `FAR_WIDTH` at a time with sleeps of up to
`FAR_SPAN_S`, which is what calls of tools take. In dagstorm's loop they run with its legal
perturbations: a duration is one of a few (0, and ties among them), the order of equal deadlines,
timers a little late, extra turns, and the cancel lands at a point drawn from all that a clean run
has. How long the sleeps are makes no difference to it: time is virtual.

On a machine that is busy with something else stock's timers are late, so they fall together more
often the busier it is; the second line says whether that is so.

Short sleeps favour stock asyncio. Its selector waits whole milliseconds, so two of 0-50 ms fall in
one turn once in some tens of runs, and not once in thousands: what dagstorm can gain there a CPU
second is bounded, as printed, by what it would gain if every run of its own hit.

Sleeping costs no CPU, so CPU seconds are what favours stock asyncio; wall seconds are what its
user waits. Both are printed, with the interval that holds 95 of 100 times (hits are counts: the
fewer, the wider). `python tests/bench/races.py` prints; it never fails.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
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
from tests.bench.programs import doubled, refused, unbooked  # noqa: E402

Race = Callable[..., Any]

SPAN_S = 0.05
WIDTH = 25
TIMERS = 100
# An idle machine's selector wakes up to a millisecond late, and its scheduler adds some.
LATE_MAX_S = 0.003
FAR_SPAN_S = 1.0
FAR_WIDTH = 250
# What a step of ours may take in the simulation: none, and three of which two draws may tie.
GRID_S = (0.0, SPAN_S / 4, SPAN_S / 2, SPAN_S)
YIELDS = (0, 0, 1, 2)
RACES: dict[str, tuple[Race, str]] = {
    "doubled": (doubled, "two completions in one turn"),
    "unbooked": (unbooked, "a cancel between a completion and its hand-over"),
    "refused": (refused, "an answer in the turn of its deadline"),
}


@dataclass(frozen=True, slots=True)
class Size:
    """Runs: simulated; on stock one at a time, `WIDTH` and (long sleeps) `FAR_WIDTH` at a time."""

    simulated: int
    alone: int
    wide: int
    far: int


FULL = Size(simulated=15_000, alone=60, wide=10_000, far=10_000)
QUICK = Size(simulated=1_000, alone=4, wide=WIDTH, far=FAR_WIDTH)


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


def stock(race: Race, runs: int, width: int, *, span_s: float = SPAN_S, seed: int = 1) -> Tally:
    """Run a race on stock asyncio, `width` of them at once, with real sleeps."""
    rng = random.Random(seed)

    async def wait() -> None:
        await asyncio.sleep(rng.uniform(0, span_s))

    async def cancel(task: asyncio.Task[Any]) -> None:
        await asyncio.wait([task], timeout=rng.uniform(0, span_s))
        task.cancel()

    async def all_of_them() -> int:
        hits = 0
        for _ in range(runs // width):
            hits += sum(await asyncio.gather(*(race(wait, cancel) for _ in range(width))))
        return hits

    return timed(runs, lambda: asyncio.run(all_of_them()))


def lateness() -> float:
    """Return how late a timer of stock asyncio is here, in seconds: 95 in 100 are not later."""

    async def measure() -> list[float]:
        found = []
        for _ in range(TIMERS):
            began_s = time.perf_counter()
            await asyncio.sleep(0.005)
            found.append(time.perf_counter() - began_s - 0.005)
        return sorted(found)

    return asyncio.run(measure())[TIMERS * 19 // 20]


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
        f"same-turn races: stock asyncio sleeps 0-{SPAN_S * 1000:g} ms, far: 0-{FAR_SPAN_S:g} s; "
        f"dagstorm's loop draws from {', '.join(f'{s * 1000:g}' for s in GRID_S)} ms; "
        f"Python {sys.version.split()[0]}"
    )
    late_s = lateness()
    busy = late_s > LATE_MAX_S
    why = "too busy: stock's sleeps fall together because none is on time; " if busy else ""
    yield f"this machine: {why}of timers of 5 ms, 19 in 20 are at most {late_s * 1000:.1f} ms late"
    for name, (race, what) in RACES.items():
        yield f"{name}: {what}"
        alone = stock(race, size.alone, 1)
        wide = stock(race, size.wide, WIDTH)
        far = stock(race, size.far, FAR_WIDTH, span_s=FAR_SPAN_S)
        ours = simulated(race, size.simulated)
        yield _row("stock, one at a time", alone)
        yield _row(f"stock, {WIDTH} at a time", wide)
        yield _row(f"stock far, {FAR_WIDTH} at once", far)
        yield _row("dagstorm", ours)
        yield _ratios("the better of stock's", ours, alone, wide)
        yield _ratios("stock far", ours, far)
        yield _bound(ours, alone, wide)


def _row(name: str, tally: Tally) -> str:
    return (
        f"  {name:<23} {tally.hits:6} hits in {tally.runs:6} runs, {tally.cpu_s:6.2f} s of CPU, "
        f"{tally.wall_s:6.2f} s: {tally.per_cpu_s:9.2f} a CPU second, "
        f"{tally.per_wall_s:9.2f} a second"
    )


def _ratios(name: str, ours: Tally, *others: Tally) -> str:
    """Hold our hits against the better of the other's ways."""
    cpu = _ratio(ours, max(others, key=lambda o: o.per_cpu_s), lambda t: t.cpu_s)
    wall = _ratio(ours, max(others, key=lambda o: o.per_wall_s), lambda t: t.wall_s)
    return f"  dagstorm against {name}: {cpu} a CPU second, {wall} a second"


def _ratio(ours: Tally, other: Tally, took_s: Callable[[Tally], float]) -> str:
    """Return a ratio of rates, with the interval that holds 95 of 100 times.

    The logarithm of a ratio of two counts has about the variance 1/a + 1/b; of what was not seen
    once there are up to three, as often.
    """
    rate = ours.hits / took_s(ours)
    if not other.hits:
        return f"over {rate * took_s(other) / NOT_SEEN:.0f}x"
    ratio = rate * took_s(other) / other.hits
    by = math.exp(1.96 * math.sqrt(1 / max(1, ours.hits) + 1 / other.hits))
    return f"{ratio:.0f}x ({ratio / by:.0f} to {ratio * by:.0f})"


NOT_SEEN = 3


def _bound(ours: Tally, *others: Tally) -> str:
    """Say what could be gained a CPU second if every run of ours hit."""
    best = max(others, key=lambda o: o.per_cpu_s)
    if not best.hits:
        return "  if every run of dagstorm hit: not known, as stock never did"
    most = ours.runs / ours.cpu_s / best.per_cpu_s
    hit = 100 * ours.hits / ours.runs
    return (
        f"  if every run of dagstorm hit, and not {hit:.0f} in 100: {most:.0f}x a CPU second, as "
        f"{100 * best.hits / best.runs:.1f} in 100 of stock's do at "
        f"{best.cpu_s / best.runs / (ours.cpu_s / ours.runs):.1f} times the CPU a run"
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
