"""From findings to what their stand-alone scripts say of them; and files written whole."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.kernel.errors import DagstormError
from harness.kernel.script_tries import with_other_turns, with_tries
from harness.lab.confirm import OVER, Said, Script, Trial, rate_of, try_all
from harness.lab.pool import Pool
from harness.lab.standalone import SHORT_LINES
from harness.lab.subject import Engine
from harness.lab.worker import WorkerDied

__all__ = ["AGAIN_LIMIT_S", "TRIES_LIMIT_S", "confirmations", "write_json"]

Say = Callable[[str], None]

# Seconds after which no script is run once more; each finding's first script, and those of other
# witnesses where it does not show it, are run in any case.
AGAIN_LIMIT_S = 8.0
# Seconds that scripts have which cancel at other turns, then those which try many times, all of
# them together.
TURNS_LIMIT_S, TRIES_LIMIT_S = 20.0, 45.0


def write_json(path: Path, data: Any) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(data, indent=1, default=repr) + "\n", "utf-8")
    draft.replace(path)


@dataclass(slots=True)
class _Case:
    """A finding and the scripts of its witnesses, short ones first, then the clearest.

    Attributes:
        tokens, texts: of the witnesses that have a script.
        why: why the first of the others has none.
        often: scripts that try many times, made of those that did not show it, and their
            witnesses.
        turned: the same, of such as have their cancel some turns of the loop later or sooner.
    """

    bug: Mapping[str, Any]
    tokens: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    pythons: list[str] = field(default_factory=list)
    why: str = ""
    often: dict[str, str] = field(default_factory=dict)
    turned: dict[str, str] = field(default_factory=dict)

    def put_short_first(self) -> None:
        """Put scripts that a maintainer reads in an issue before longer ones, else as they are."""
        rows = list(zip(self.texts, self.tokens, self.pythons, strict=True))
        rows.sort(key=lambda row: len(row[0].splitlines()) > SHORT_LINES)
        self.texts = [text for text, _, _ in rows]
        self.tokens = [token for _, token, _ in rows]
        self.pythons = [python for _, _, python in rows]


def confirmations(
    folder: Path,
    engines: Sequence[Engine],
    bugs: Iterable[Mapping[str, Any]],
    witnesses: Mapping[str, Sequence[Mapping[str, Any]]],
    say: Say,
    *,
    workers: int = 2,
    again_limit_s: float = AGAIN_LIMIT_S,
    deadline: float | None = None,
    pool: Pool | None = None,
    unscripted: Callable[[dict[str, dict[str, Any]]], None] = lambda _answers: None,
) -> dict[str, dict[str, Any]]:
    """Write a stand-alone script for each bug and run it; say what each showed.

    Where a script does not show it, the next clearest witness is tried.

    Args:
        bugs: findings as plain data.
        witnesses: fingerprint -> what scripts can be made from (`findings.witnesses_to_confirm`).
        workers: scripts that may use a processor at the same time; most of them sleep, so that
            twice as many are run.
        again_limit_s: seconds from now after which no script is run once more.
        deadline: on the monotonic clock: scripts are written all the same, but not run after it.
        pool: of workers; without it some are started for this.
        unscripted: called with the answers for what has no script, before any script is run.

    Returns:
        fingerprint -> confirmation, confirmation_note, script, and the witness's token.
    """
    cases = [_Case(bug) for bug in bugs if witnesses.get(bug["fingerprint"])]
    began = time.monotonic()
    with contextlib.nullcontext(pool) if pool else Pool(1) as lending:
        _render(engines, [(c, witnesses[c.bug["fingerprint"]]) for c in cases], lending)
    unscripted({c.bug["fingerprint"]: _answer(folder, c, Trial(())) for c in cases if not c.texts})
    with tempfile.TemporaryDirectory(prefix="dagstorm-") as box:
        trials = [Trial(_scripts(Path(box), case)) for case in cases]
        if count := sum(bool(case.texts) for case in cases):
            say(f"confirming {count} findings by stand-alone scripts")
        try_all(
            trials,
            at_once=2 * max(1, workers),
            again_until=began + again_limit_s,
            deadline=deadline,
        )
        turned = [Trial(_turned(Path(box), *pair)) for pair in zip(cases, trials, strict=True)]
        now = time.monotonic()
        limit = now + TURNS_LIMIT_S if deadline is None else min(now + TURNS_LIMIT_S, deadline)
        again_until = now + again_limit_s
        try_all(turned, at_once=2 * max(1, workers), again_until=again_until, deadline=limit)
        often = [
            Trial(_tries(Path(box), case, trial) if other.shown is None else [])
            for case, trial, other in zip(cases, trials, turned, strict=True)
        ]
        if count := sum(bool(one.scripts) for one in often):
            say(f"trying {count} scripts many times")
        limit = time.monotonic() + TRIES_LIMIT_S
        limit = limit if deadline is None else min(limit, deadline)
        try_all(often, at_once=2 * max(1, workers), again_until=0.0, deadline=limit)
    told = zip(cases, trials, often, turned, strict=True)
    answers = {one[0].bug["fingerprint"]: _answer(folder, *one) for one in told}
    files = [folder / one["script"] for one in answers.values() if one["script"]]
    kept = [file.read_text("utf-8") for file in files]
    if kept:
        say(_length_of(kept))
    return answers


def _length_of(scripts: Sequence[str]) -> str:
    """Say how long scripts are, in lines."""
    lengths = [len(text.splitlines()) for text in scripts]
    short = sum(length <= SHORT_LINES for length in lengths)
    return (
        f"scripts: {short} of {len(lengths)} have at most {SHORT_LINES} lines, "
        f"the longest {max(lengths)}"
    )


def _tries(box: Path, case: _Case, trial: Trial) -> list[Script]:
    """Make of the scripts of a finding that did not show it such as try many times."""
    scripts: list[Script] = []
    for number in _holding(trial):
        text = with_tries(case.texts[number], case.bug["clause"])
        if text is not None:
            case.often[text] = case.tokens[number]
            scripts.append(_other(box, case, number, "tries", text))
    return scripts


def _turned(box: Path, case: _Case, trial: Trial) -> list[Script]:
    """Make of the scripts of a finding that did not show it such as cancel at other turns."""
    scripts: list[Script] = []
    for number in _holding(trial):
        for text in with_other_turns(case.texts[number]):
            case.turned[text] = case.tokens[number]
            scripts.append(_other(box, case, number, f"turned-{len(scripts)}", text))
    return scripts


def _holding(trial: Trial) -> list[int]:
    """Return the numbers of the scripts that ran and did not show it, where none did."""
    if trial.shown is not None:
        return []
    return [i for i, said in enumerate(trial.said) if said and said[0].verdict == "holds"]


def _other(box: Path, case: _Case, number: int, kind: str, text: str) -> Script:
    """Write another script that was made of one of a finding's, and return it."""
    file = box / f"{case.bug['id']}-{number}-{kind}.py"
    file.write_text(text, "utf-8")
    return Script(case.bug["fingerprint"], case.bug["clause"], file, case.pythons[number])


def _scripts(box: Path, case: _Case) -> list[Script]:
    """Write a finding's scripts, each to a file of its own, and return them."""
    scripts = []
    for number, text in enumerate(case.texts):
        file = box / f"{case.bug['id']}-{number}.py"
        file.write_text(text, "utf-8")
        python = case.pythons[number]
        scripts.append(Script(case.bug["fingerprint"], case.bug["clause"], file, python))
    return scripts


def _answer(
    folder: Path,
    case: _Case,
    trial: Trial,
    tries: Trial | None = None,
    turned: Trial | None = None,
) -> dict[str, Any]:
    """Say what came of a finding's scripts: of the one that showed it, else of the first."""
    bug = case.bug
    if not case.texts:
        note = f"no script: {case.why}"
        return {"confirmation": _seen_in(bug), "confirmation_note": note, "script": ""}
    told = trial.shown or 0
    file = folder / "repro" / f"{bug['id']}.py"
    file.parent.mkdir(exist_ok=True)
    if turned is not None and turned.shown is not None:
        text, said = list(case.turned)[turned.shown], turned.said[turned.shown]
        file.write_text(text, "utf-8")
        return {
            "confirmation": "confirmed",
            "confirmation_note": f"{_shown(said)} ({rate_of(said)})",
            "script": f"repro/{bug['id']}.py",
            "token": case.turned[text],
        }
    if tries is not None and tries.shown is not None:
        text = list(case.often)[tries.shown]
        file.write_text(text, "utf-8")
        return {
            "confirmation": "confirmed",
            "confirmation_note": tries.said[tries.shown][0].note,
            "script": f"repro/{bug['id']}.py",
            "token": case.often[text],
        }
    file.write_text(case.texts[told], "utf-8")
    answer = {"script": f"repro/{bug['id']}.py", "token": case.tokens[told]}
    if trial.shown is not None:
        said = trial.said[told]
        return {
            "confirmation": "confirmed",
            "confirmation_note": f"{_shown(said)} ({rate_of(said)})",
            **answer,
        }
    return {
        "confirmation": _seen_in(bug),
        "confirmation_note": _unconfirmed(trial) + _in_vain(tries),
        **answer,
    }


def _shown(said: Sequence[Said]) -> str:
    """Return what a script said when it showed it first."""
    return next(one.note for one in said if one.verdict == "shows")


def _in_vain(tries: Trial | None) -> str:
    """Say of scripts that tried many times how often they did."""
    said = [] if tries is None else [one[0] for one in tries.said if one]
    notes = [one.note for one in said if one.verdict == "holds"]
    return f"; many times with other schedules: {'; '.join(notes)}" if notes else ""


def _unconfirmed(trial: Trial) -> str:
    ran = [said[0].note for said in trial.said if said]
    if not ran:
        return f"not confirmed: {OVER} before its script was run"
    note = ran[0]
    if note.startswith(OVER):
        return f"not confirmed: {note}"
    if others := len(ran) - 1:
        note += f"; nor did the script{'s' * (others > 1)} of {others} other" + (
            " witnesses" if others > 1 else " witness"
        )
    left = len(trial.scripts) - len(ran)
    if trial.late and left:
        note += f"; {OVER} before those of {left} other witness{'es' * (left > 1)} were run"
    return note


def _seen_in(bug: Mapping[str, Any]) -> str:
    """Say where alone it was seen: had any simulated run shown it, the story would be its."""
    told = bug.get("reproduction") or {}
    live = told.get("environment", {}).get("lab") == "live"
    return "live_only" if live else "simulated_only"


def _render(
    engines: Sequence[Engine],
    due: Sequence[tuple[_Case, Sequence[Mapping[str, Any]]]],
    pool: Pool,
) -> None:
    """Have the scripts of all witnesses written, by a worker of each engine."""
    known = {engine.ref.label: engine for engine in engines}
    for case, witnesses in due:
        for witness in witnesses:
            text, why = None, "its engine could not be run"
            engine = known.get(witness["engine"])
            if engine is not None:
                asked = {k: witness[k] for k in ("program", "plan", "clause")}
                told = {k: case.bug[k] for k in ("expected", "actual", "shape")}
                try:
                    with pool.lend(engine) as worker:
                        reply = worker.ask({"op": "render", **asked, **told})
                    text, why = reply["script"], reply["why"]
                except (DagstormError, WorkerDied) as exc:
                    why = str(exc)
            if engine is None or text is None:
                case.why = case.why or why
                continue
            case.texts.append(text)
            case.tokens.append(witness["token"])
            case.pythons.append(engine.python)
        case.put_short_first()
