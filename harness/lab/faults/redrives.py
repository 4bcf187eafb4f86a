"""What a redrive must have kept to: judged from the ledger of all lives of the process.

A stage counts as completed without doubt if the engine says that it is kept, or if its body
had returned and a stage that needs it was started. Such a stage is never run again. What was
done after that moment was not reached may be done twice only by an engine that documents so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.contract.clause import Judgement, Violation, violated
from harness.lab.faults.ledger import Noted

__all__ = ["judge_redrives"]

Life = Mapping[str, Any]


def judge_redrives(
    program: Mapping[str, Any],
    runs: Sequence[str],
    entries: Sequence[Noted],
    lives: Sequence[Life],
    *,
    at_least_once: bool,
) -> Judgement:
    """Judge PART-5 on runs whose process ended early and that were gone on with.

    Args:
        entries: of the ledger, in order.
        lives: what each life of the process said, the last one undisturbed.
        at_least_once: the engine documents that what it has not kept yet may be done twice.
    """
    stages = {s["name"]: s for s in program["stages"]}
    found: list[Violation] = []
    figures = Counter(redriven=len(runs), completed_before=0, repeated=0)
    for run in runs:
        mine = [(i, e) for i, e in enumerate(entries) if e.run.split("+", 1)[0] == run]
        done = _acknowledged(stages, mine, lives, run)
        figures["completed_before"] += sum(life < len(lives) for life, _ in done.values())
        found += _run_again(mine, done)
        found += _kept_undone(mine, lives, run)
        found += _ended(stages, mine, lives[-1], run)
        found += _values(stages, mine, lives[-1], run)
        found += _in_one_life(mine)
        twice = _effects_twice(mine, done)
        figures["repeated"] += len(twice)
        if not at_least_once:
            found += twice
    return violated(found, **figures)


Mine = Sequence[tuple[int, Noted]]


def _acknowledged(
    stages: Mapping[str, Any], mine: Mine, lives: Sequence[Life], run: str
) -> dict[str, tuple[int, int]]:
    """Return stage -> (life before which it had completed without doubt, index of the proof)."""
    done: dict[str, tuple[int, int]] = {}
    returned: dict[str, int] = {}
    last: dict[int, int] = {}
    for i, e in mine:
        last[e.life] = i
        if e.kind == "stage.end" and e.detail == "ok":
            returned[e.stage] = i
        if e.kind == "stage.start":
            for need in stages[e.stage]["needs"]:
                if need in returned and need not in done:
                    done[need] = (e.life + 1, i)
    for life, said in enumerate(lives):
        before = max((i for n, i in last.items() if n < life), default=0)
        for stage in (said.get("kept") or {}).get(run) or ():
            if stage not in done or done[stage][0] > life:
                done[stage] = (life, before)
    return done


def _run_again(mine: Mine, done: Mapping[str, tuple[int, int]]) -> list[Violation]:
    again = [
        (i, e)
        for i, e in mine
        if e.kind == "stage.start" and e.stage in done and e.life >= done[e.stage][0]
    ]
    if not again:
        return []
    i, first = again[0]
    return [
        Violation(
            "completed-rerun",
            f"of the {len(done)} stages that had completed, none is run again",
            f"stage {first.stage} was run again after the process was started anew",
            first.stage,
            "",
            {"rerun": len({e.stage for _, e in again}), "completed_before": len(done)},
            (done[first.stage][1], i),
        )
    ]


def _kept_undone(mine: Mine, lives: Sequence[Life], run: str) -> list[Violation]:
    for life, said in enumerate(lives):
        acted = {e.stage for _, e in mine if e.life < life and e.kind == "effect"}
        for stage in (said.get("kept") or {}).get(run) or ():
            if stage not in acted:
                return [
                    Violation(
                        "unfinished-left-out",
                        f"stage {stage} counts as completed only when it has completed",
                        "the engine says that it is kept, and it had done nothing yet",
                        stage,
                        "",
                        {"life": life},
                        tuple(i for i, e in mine if e.stage == stage)[:1],
                    )
                ]
    return []


def _ended(stages: Mapping[str, Any], mine: Mine, last: Life, run: str) -> list[Violation]:
    outcome = last["outcomes"].get(("first", run))
    if outcome is None or outcome["status"] != "ok":
        how = _how(last, outcome)
        return [
            Violation(
                "redrive-failed",
                f"run {run} is gone on with and ends ok",
                how,
                "",
                "",
                {},
                tuple(i for i, _ in mine)[-1:],
            )
        ]
    acted = {e.stage for _, e in mine if e.kind == "effect"}
    left = [name for name in stages if name not in acted]
    if not left:
        return []
    return [
        Violation(
            "unfinished-left-out",
            f"stage {left[0]} is done before run {run} counts as ok",
            "the run is reported as ok, and the stage never did its work",
            left[0],
            "",
            {"left_out": len(left)},
            tuple(i for i, _ in mine)[-1:],
        )
    ]


def _how(last: Life, outcome: Mapping[str, Any] | None) -> str:
    if outcome is not None:
        raised = outcome.get("raised") or {}
        return f"it ended {outcome['status']}: {str(raised.get('message', ''))[:160]}".rstrip(": ")
    for key in ("crash", "build", "stderr"):
        if last.get(key):
            return f"nothing came of it: {str(last[key])[-160:]}"
    return f"nothing came of it: the process ended with code {last.get('code')}"


def _values(stages: Mapping[str, Any], mine: Mine, last: Life, run: str) -> list[Violation]:
    """Find outputs that the outcome, or a stage, has otherwise than they were returned."""
    right = {
        name: next(s["value"] for s in reversed(one["steps"]) if s["op"] == "ok")
        for name, one in stages.items()
    }
    outcome = last["outcomes"].get(("first", run)) or {}
    seen = [
        (name, report["value"], "the outcome has", len(mine) - 1)
        for name, report in outcome.get("stages", {}).items()
        if report["status"] == "completed" and name in right
    ]
    for place, (_, e) in enumerate(mine):
        if e.kind == "read" and e.detail[0] in right:
            seen.append((e.detail[0], e.detail[2], f"stage {e.stage} reads", place))
    for name, value, who, place in seen:
        if value != right[name]:
            return [
                Violation(
                    "output-changed",
                    f"the output of stage {name} is {right[name]!r} after the redrive as before",
                    f"{who} {value!r}",
                    name,
                    "",
                    {},
                    (mine[place][0],) if mine else (),
                )
            ]
    return []


def _in_one_life(mine: Mine) -> list[Violation]:
    counts = Counter((e.life, e.run, e.stage) for _, e in mine if e.kind == "stage.start")
    for (life, run, stage), count in counts.items():
        if count > 1:
            at = [i for i, e in mine if (e.life, e.run, e.stage) == (life, run, stage)]
            return [
                Violation(
                    "run-twice",
                    f"stage {stage} is run once in a run",
                    f"it was run {count} times in one life of the process",
                    stage,
                    "",
                    {"executions": count},
                    tuple(at[:2]),
                )
            ]
    return []


def _effects_twice(mine: Mine, done: Mapping[str, tuple[int, int]]) -> list[Violation]:
    """Find effects done again although no checkpoint said that they need not be."""
    found = []
    acted: dict[str, int] = {}
    for i, e in mine:
        if e.kind != "effect":
            continue
        if e.stage in acted and not (e.stage in done and e.life >= done[e.stage][0]):
            found.append(
                Violation(
                    "effect-twice",
                    f"what stage {e.stage} does is done once, as nothing else is documented",
                    "it was done again after the process was started anew",
                    e.stage,
                    "",
                    {},
                    (acted[e.stage], i),
                )
            )
        acted.setdefault(e.stage, i)
    return found
