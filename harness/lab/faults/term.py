"""`SIGTERM`: the process is asked to end, cancels its runs, and gives them a grace.

That is what a deployment does to every service. The subject handles the signal as a service
would: it cancels the tasks that await the engine's runs and waits. Where the engine keeps
checkpoints, the process is started again and has to go on.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.contract.clause import Judgement, Violation
from harness.lab.faults.bench import HORIZON_S, LIMIT_S, Bench, judgement, must_be_up, stage
from harness.lab.faults.kill import at_least_once, go_on
from harness.lab.faults.ledger import Noted, read_ledger
from harness.lab.faults.process import Ending
from harness.lab.faults.redrives import judge_redrives
from harness.lab.faults.tally import Tally, Trial

__all__ = ["judge_released", "term_row"]


WORK_S = 0.5
TRIALS_MAX = 10


def _program() -> dict[str, Any]:
    """A stage that completes, then three that hold something while they work."""
    work = [{"op": "sleep", "seconds": WORK_S}, {"op": "call", "tool": "effect", "seconds": 0}]

    def held(name: str, cleanup_s: float) -> dict[str, Any]:
        take = {"op": "acquire", "name": f"{name}-lock", "cleanup_s": cleanup_s}
        return stage(name, take, *work, {"op": "ok", "value": name}, needs=["open"])

    first = stage(
        "open", {"op": "call", "tool": "effect", "seconds": 0}, {"op": "ok", "value": "open"}
    )
    return {
        "name": "service",
        "stages": [first, held("left", 0.02), held("middle", 0.0), held("right", 0.05)],
    }


def term_row(bench: Bench) -> dict[str, Any]:
    """Ask the process to end at drawn moments; returns the unit row."""
    began_s = time.monotonic()
    durable = bench.durable
    clauses = ("CANCEL-3", "CLEAN-1", "PART-5") if durable else ("CANCEL-3", "CLEAN-1")
    tally = Tally(
        "term",
        "The process is asked to end",
        "SIGTERM at drawn moments: runs are cancelled and given a grace; then redriven.",
        clauses,
    )
    rng = random.Random(f"term {bench.seed}")
    times = min(TRIALS_MAX, max(1, bench.times // 5))
    for _ in range(2 * times):
        if len(tally.trials) == times:
            break
        trial = _trial(bench, rng.uniform(0.0, 0.8 * WORK_S), len(tally.trials))
        if trial is None:
            tally.not_fired += 1
        else:
            tally.add(trial)
            bench.say(f"term: {len(tally.trials)} of {times} moments")
    return tally.row(bench.info, bench.seed, time.monotonic() - began_s)


def _trial(bench: Bench, after_s: float, number: int) -> Trial | None:
    folder = bench.place.new_folder("term")
    durable, program = bench.durable, _program()
    kept = folder / "checkpoints"
    kept.mkdir()
    place = kept if durable else None
    request = {
        "ledger": str(folder / "ledger"),
        "folder": str(kept),
        "jobs": [bench.job(program, {}, folder=place)],
    }
    with bench.subject(request) as subject:
        subject.until("running")
        time.sleep(after_s)
        subject.send(signal.SIGTERM)
        first = subject.rest(LIMIT_S)
    must_be_up(first, "the service")
    if "term" not in first and first["code"] == 0:
        return None
    entries = read_ledger(folder / "ledger")
    judged = {
        "CANCEL-3": _judge_cancel(entries, first),
        "CLEAN-1": judge_released(entries),
    }
    if durable:
        again = {**request, "life": 1, "jobs": [bench.job(program, {}, folder=place, redrive=True)]}
        lives = [first, *go_on(bench, again, ("r0",))]
        judged["PART-5"] = judge_redrives(
            program,
            ("r0",),
            read_ledger(folder / "ledger"),
            lives,
            at_least_once=at_least_once(bench),
        )
    note = f"SIGTERM {after_s:.3f} s after the run began"
    return Trial(number, program, {}, entries, judged, {"after_s": after_s}, note)


def _judge_cancel(entries: Sequence[Noted], ending: Ending) -> Judgement:
    over = next((i for i, e in enumerate(entries) if e.kind == "run.end"), -1)
    outcome = ending["outcomes"].get(("first", "r0"))
    if over < 0 or outcome is None or outcome["status"] == "hung":
        return judgement(
            [
                Violation(
                    "hung",
                    f"the run ends within {HORIZON_S:g} s of its cancel",
                    f"it did not (the process ended with code {ending['code']})",
                    "",
                    "",
                    {},
                    (len(entries) - 1,) if entries else (),
                )
            ],
            True,
        )
    found = []
    late = [i for i in range(over + 1, len(entries)) if entries[i].stage]
    if late:
        found.append(
            Violation(
                "stage-outlived-run",
                "nothing of a stage happens after the run was over for its caller",
                f"{len(late)} things did; the first: {entries[late[0]].kind}",
                entries[late[0]].stage,
                "",
                {"after_the_run": len(late)},
                (over, late[0]),
            )
        )
    ended = {e.stage for e in entries[:over] if e.kind == "stage.end"}
    open_then = {e.stage for e in entries[:over] if e.kind == "stage.start"} - ended
    if open_then and not late:
        name = min(open_then)
        found.append(
            Violation(
                "stage-outlived-run",
                "every stage has ended when the run is over for its caller",
                f"{len(open_then)} stages had not",
                name,
                "",
                {"stages_left": len(open_then)},
                (over,),
            )
        )
    cut = {e.stage for e in entries if e.kind == "stage.end" and e.detail == "cancelled"}
    if cut and outcome["status"] == "ok":
        found.append(
            Violation(
                "cancel-swallowed",
                "a run that was cancelled is not reported as ok",
                f"it is, though {len(cut)} stages were cut short",
                min(cut),
                "",
                {},
                (over,),
            )
        )
    return judgement(found, True, cancelled=1, cut_short=len(cut))


def judge_released(entries: Sequence[Noted]) -> Judgement:
    """Judge CLEAN-1: what was acquired is released once, before the run is over."""
    over = {e.run: i for i, e in enumerate(entries) if e.kind == "run.end"}
    taken: Counter[tuple[str, str, str]] = Counter()
    given: Counter[tuple[str, str, str]] = Counter()
    where: dict[tuple[str, str, str], int] = {}
    for i, e in enumerate(entries):
        if e.kind not in ("acquire", "release.end"):
            continue
        key = (e.run, e.stage, str(e.detail))
        if e.kind == "acquire":
            taken[key] += 1
            where[key] = i
        elif i < over.get(e.run, len(entries)):
            given[key] += 1
    found = []
    for key, count in taken.items():
        if given[key] == count:
            continue
        kept = given[key] < count
        found.append(
            Violation(
                "" if kept else "released-twice",
                f"{key[2]} is released once by the end of the run",
                f"it was released {given[key]} of {count} times by then",
                key[1],
                "",
                {"acquired": count, "released": given[key]},
                (where[key],),
            )
        )
    return judgement(found, bool(taken), acquired=taken.total(), released=given.total())
