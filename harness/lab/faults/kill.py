"""`kill -9`: the engine's process is killed at drawn moments, started again, and has to go on.

Half of the moments are times drawn over the run. The others are chosen steps: a stage's
begin, before and after its effect, between its return and its checkpoint, and in the midst of
the engine's writing. Some are killed a second time while they go on.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.lab.faults.bench import LIMIT_S, Bench, must_be_up, stage
from harness.lab.faults.ledger import read_ledger
from harness.lab.faults.process import Ending
from harness.lab.faults.redrives import judge_redrives
from harness.lab.faults.tally import Tally, Trial, unsupported_row

__all__ = ["Order", "at_least_once", "go_on", "kill_row", "order_program"]

AGAIN_SHARE = 0.25
AGAIN_WITHIN_S = 0.2
# So many moments are drawn for each trial that is asked for, at the most.
DRAWS = 3
# Kinds of chosen steps, as the ledger calls them; `write` is the engine's own.
STEPS = (
    *("write", "effect", "stage.end", "call.begin", "write"),
    *("returned", "stage.start", "write", "call.end"),
)
SAYS = {
    "write": "in the engine's writing",
    "effect": "after a stage's effect",
    "call.end": "after a stage's effect",
    "call.begin": "before a stage's effect",
    "stage.start": "at a stage's begin",
    "returned": "between effect and checkpoint",
    "stage.end": "between effect and checkpoint",
}


def order_program(reads: bool, size: int = 0) -> dict[str, Any]:
    """Return the program: six stages, each with an effect that must not be done twice.

    Args:
        reads: stages read the outputs of those that they need.
        size: characters that each output is blown up by.
    """
    needs = {
        "receive": (),
        "reserve": ("receive",),
        "charge": ("receive",),
        "pack": ("reserve", "charge"),
        "notify": ("charge",),
        "ship": ("pack", "notify"),
    }
    stages = []
    for number, (name, wanted) in enumerate(needs.items()):
        steps: list[dict[str, Any]] = []
        if reads:
            steps += [{"op": "read", "stage": need} for need in wanted]
        steps.append({"op": "call", "tool": "effect", "seconds": 0.002 * (1 + number % 3)})
        value = {"of": name, "number": number} | ({"bulk": "x" * size} if size else {})
        stages.append(stage(name, *steps, {"op": "ok", "value": value}, needs=wanted))
    return {"name": "order", "stages": stages}


@dataclass(frozen=True, slots=True)
class Order:
    """What is run, killed and gone on with: the program, and the ids of its runs."""

    program: Mapping[str, Any]
    runs: tuple[str, ...]

    def request(self, bench: Bench, folder: Path, life: int) -> dict[str, Any]:
        """Return what a subject is told in one of its lives; later ones redrive."""
        kept = folder / "checkpoints"
        kept.mkdir(exist_ok=True)
        return {
            "ledger": str(folder / "ledger"),
            "folder": str(kept),
            "life": life,
            "profile": True,
            "jobs": [bench.job(self.program, {}, self.runs, folder=kept, redrive=life > 0)],
        }


def at_least_once(bench: Bench) -> bool:
    """Say whether the engine documents that what it has not kept yet may be done twice."""
    return (bench.durable or {}).get("effects") == "at-least-once"


def kill_row(bench: Bench) -> dict[str, Any]:
    """Kill the engine's process at `bench.times` moments; returns the unit row."""
    began_s = time.monotonic()
    tally = Tally(
        "kill",
        "The process is killed",
        "kill -9 at drawn moments of the run and at chosen steps; then started again and redriven.",
        ("PART-5",),
    )
    if bench.durable is None:
        return unsupported_row(tally, bench.seed, *bench.why_not_durable)
    order = Order(
        order_program(not bench.offers("inputs")),
        ("r0",) if bench.offers("concurrent_runs") else ("r0", "r1"),
    )
    rng = random.Random(f"kill {bench.seed}")
    calm = _undisturbed(bench, order)
    moments = _moments(rng, calm)
    for _ in range(DRAWS * bench.times):
        if len(tally.trials) == bench.times:
            break
        moment = next(moments)
        trial = _trial(bench, order, moment, rng, len(tally.trials))
        if trial is None:
            tally.not_fired += 1
            continue
        tally.add(trial)
        bench.say(f"kill: {len(tally.trials)} of {bench.times} moments")
    counts = {
        s: sum(t.note.startswith(s) for t in tally.trials) for s in sorted(set(SAYS.values()))
    }
    words = [f"{n} {s}" for s, n in counts.items() if n]
    timed = len(tally.trials) - sum(counts.values())
    tally.remarks.append("; ".join([f"killed {timed} times at a drawn time", *words]))
    return tally.row(bench.info, bench.seed, time.monotonic() - began_s)


def _undisturbed(bench: Bench, order: Order) -> Ending:
    """Run the program once with nothing done to it: what there is to choose moments from.

    Raises:
        EnvironmentFault: if it cannot even be run.
    """
    folder = bench.place.new_folder("calm")
    with bench.subject(order.request(bench, folder, 0)) as subject:
        subject.until("running")
        calm = subject.rest(LIMIT_S)
    must_be_up(calm, "the undisturbed run")
    calm.setdefault("over", calm["running"] + 1.0)
    return calm


def _moments(rng: random.Random, calm: Ending) -> Iterator[dict[str, Any]]:
    """Draw moments without end: a time, a chosen step, a time, …"""
    span_s = calm["over"] - calm["running"]
    counts = {**calm.get("counts", {}), "write": calm.get("writes", 0)}
    number = 0
    while True:
        yield {"at": "time", "s": rng.uniform(0.0, span_s)}
        step = STEPS[number % len(STEPS)]
        number += 1
        if counts.get(step):
            yield {"at": step, "nth": rng.randint(1, counts[step])}


def _trial(
    bench: Bench, order: Order, moment: Mapping[str, Any], rng: random.Random, number: int
) -> Trial | None:
    """Kill at one moment and go on to the end; None if the process was over before that."""
    again = rng.random() < AGAIN_SHARE
    again_s = rng.random() * AGAIN_WITHIN_S
    folder = bench.place.new_folder("kill")
    lives: list[Ending] = []
    second: Mapping[str, Any] = {"at": "time", "s": again_s}
    for one in (moment, second) if again else (moment,):
        timed = one["at"] == "time"
        request = order.request(bench, folder, len(lives))
        with bench.subject({**request, "kill": None if timed else one}) as subject:
            if subject.until("running") and timed:
                time.sleep(one["s"])
                subject.send(signal.SIGKILL)
            lives.append(subject.rest(LIMIT_S))
        if lives[0]["code"] != -signal.SIGKILL:
            return None
    lives += go_on(bench, order.request(bench, folder, len(lives)), order.runs)
    entries = read_ledger(folder / "ledger")
    judged = judge_redrives(
        order.program, order.runs, entries, lives, at_least_once=at_least_once(bench)
    )
    note = f"killed after {moment['s']:.3f} s" if moment["at"] == "time" else _says(moment)
    kills = sum(life["code"] == -signal.SIGKILL for life in lives)
    return Trial(
        number,
        order.program,
        {},
        entries,
        {"PART-5": judged},
        {"lives": len(lives), "kills": kills, **judged.figures},
        note + (", and again while it went on" if kills > 1 else ""),
    )


def _says(moment: Mapping[str, Any]) -> str:
    return f"{SAYS[moment['at']]} (killed at {moment['at']} number {moment['nth']})"


def go_on(bench: Bench, request: Mapping[str, Any], runs: Sequence[str]) -> list[Ending]:
    """Start the process once more, undisturbed, and redrive the runs; returns what it said.

    An engine that cannot be asked what it keeps may refuse a run that it never heard of: such a
    run is then run from its beginning, in a further life.
    """
    with bench.subject(request) as subject:
        last = subject.rest(LIMIT_S)
    if "kept" in last:
        return [last]
    began = {e.run.split("+")[0] for e in read_ledger(Path(request["ledger"])) if e.stage}
    unheard = [
        run
        for run in runs
        if run not in began
        and (last["outcomes"].get(("first", run)) or {}).get("status") == "failed"
    ]
    if not unheard:
        return [last]
    job = request["jobs"][0]
    specs = [{"id": run, "redrives": ""} for run in unheard]
    more = {**request, "life": request["life"] + 1, "jobs": [{**job, "runs": specs}]}
    with bench.subject(more) as subject:
        anew = subject.rest(LIMIT_S)
    anew["outcomes"] = {**last["outcomes"], **anew["outcomes"]}
    return [last, anew]
