"""From findings to what their stand-alone scripts say of them; and files written whole."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.kernel.errors import DagstormError
from harness.kernel.script_tries import with_tries
from harness.lab.campaign import Engine
from harness.lab.confirm import Said, Script, rate_of, run_again, run_scripts, run_until
from harness.lab.worker import Worker, WorkerDied

__all__ = ["AGAIN_LIMIT_S", "TRIES_LIMIT_S", "confirmations", "write_json"]

Say = Callable[[str], None]

# Seconds after which no script is run once more; each finding's first script, and those of other
# witnesses where it does not show it, are run in any case.
AGAIN_LIMIT_S = 8.0
# Seconds after which no script begins to try many times.
TRIES_LIMIT_S = 30.0


def write_json(path: Path, data: Any) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(data, indent=1, default=repr) + "\n", "utf-8")
    draft.replace(path)


@dataclass(slots=True)
class _Tried:
    """A witness whose script was asked for.

    Attributes:
        text: the script, or None.
        why: why there is none.
        said: by each run of it.
        tries: it is a script that tries many times, made of one that did not show it.
    """

    token: str
    text: str | None = None
    why: str = ""
    said: list[Said] = field(default_factory=list)
    tries: bool = False

    @property
    def shows(self) -> bool:
        return any(one.verdict == "shows" for one in self.said)


def confirmations(
    folder: Path,
    engines: Sequence[Engine],
    bugs: Iterable[Mapping[str, Any]],
    witnesses: Mapping[str, Sequence[Mapping[str, Any]]],
    say: Say,
    *,
    again_limit_s: float = AGAIN_LIMIT_S,
    tries_limit_s: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Write a stand-alone script for each bug and run it; say what each showed.

    Where a script does not show it, the next clearest witness is tried; where no script does, each
    tries many times, with other schedules, and says how often it showed it.

    Args:
        bugs: findings as plain data.
        witnesses: fingerprint -> what scripts can be made from (`findings.witnesses_to_confirm`).
        again_limit_s: seconds from now after which no script is run once more.
        tries_limit_s: seconds after that after which no script begins to try many times; default:
            `TRIES_LIMIT_S`.

    Returns:
        fingerprint -> confirmation, confirmation_note, script, and the witness's token.
    """
    wanted = {b["fingerprint"]: b for b in bugs if witnesses.get(b["fingerprint"])}
    tried: dict[str, list[_Tried]] = {mark: [] for mark in wanted}
    deadline = time.monotonic() + again_limit_s
    showing: list[Script] = []
    number = 0
    while due := [
        (bug, witnesses[mark][number])
        for mark, bug in wanted.items()
        if len(witnesses[mark]) > number and not any(t.shows for t in tried[mark])
    ]:
        _render(engines, due, tried)
        scripts = []
        for bug, witness in due:
            one = tried[bug["fingerprint"]][-1]
            if one.text is not None:
                python = next(e.python for e in engines if e.ref.label == witness["engine"])
                file = _put(folder, bug, one.text)
                scripts.append(Script(bug["fingerprint"], bug["clause"], file, python))
        if scripts:
            more = "other witnesses of " if number else ""
            say(f"confirming {more}{len(scripts)} findings by stand-alone scripts")
        for script, said in zip(scripts, run_scripts(scripts), strict=True):
            tried[script.fingerprint][-1].said.append(said)
            if said.verdict == "shows":
                showing.append(script)
        number += 1
    for mark, more_said in run_again(showing, deadline=deadline).items():
        tried[mark][-1].said += more_said
    limit = time.monotonic() + (TRIES_LIMIT_S if tries_limit_s is None else tries_limit_s)
    for scripts, made in _tries(folder, engines, wanted, witnesses, tried):
        if time.monotonic() > limit:
            break
        say(f"trying {len(scripts)} scripts many times")
        for script, one, told in zip(scripts, made, run_until(scripts, limit), strict=True):
            if told is not None:
                one.said.append(told)
                tried[script.fingerprint].append(one)
    return {mark: _answer(folder, bug, tried[mark]) for mark, bug in wanted.items()}


def _tries(
    folder: Path,
    engines: Sequence[Engine],
    wanted: Mapping[str, Mapping[str, Any]],
    witnesses: Mapping[str, Sequence[Mapping[str, Any]]],
    tried: Mapping[str, Sequence[_Tried]],
) -> Iterator[tuple[list[Script], list[_Tried]]]:
    """Make of scripts that did not show it such as try many times, those of the clearest
    witnesses first; those of others once it is known that these do not show it, either."""
    held = {
        mark: [n for n, one in enumerate(ones) if [s.verdict for s in one.said] == ["holds"]]
        for mark, ones in tried.items()
        if not any(one.shows for one in ones)
    }
    for number in range(max(map(len, held.values()), default=0)):
        scripts, made = [], []
        for mark, ones in held.items():
            if len(ones) <= number or any(one.shows for one in tried[mark]):
                continue
            bug, before = wanted[mark], tried[mark][ones[number]]
            text = with_tries(before.text or "", bug["clause"])
            if text is not None:
                label = witnesses[mark][ones[number]]["engine"]
                python = next(e.python for e in engines if e.ref.label == label)
                scripts.append(Script(mark, bug["clause"], _put(folder, bug, text), python))
                made.append(_Tried(before.token, text, tries=True))
        if scripts:
            yield scripts, made


def _put(folder: Path, bug: Mapping[str, Any], text: str) -> Path:
    file = folder / "repro" / f"{bug['id']}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, "utf-8")
    return file


def _answer(folder: Path, bug: Mapping[str, Any], tried: Sequence[_Tried]) -> dict[str, Any]:
    """Say what came of a finding's scripts: of the one that showed it, else of the first."""
    written = [t for t in tried if t.text is not None]
    if not written:
        note = f"no script: {tried[0].why}"
        return {"confirmation": _seen_in(bug), "confirmation_note": note, "script": ""}
    told = next((t for t in written if t.shows), written[0])
    often = [t for t in tried if t.tries]
    if told.text is not None and (told is not written[-1] or often):
        _put(folder, bug, told.text)
    script = f"repro/{bug['id']}.py"
    if told.shows:
        shown = next(s.note for s in told.said if s.verdict == "shows")
        return {
            "confirmation": "confirmed",
            "confirmation_note": shown if told.tries else f"{shown} ({rate_of(told.said)})",
            "script": script,
            "token": told.token,
        }
    note = told.said[0].note
    if others := len(written) - len(often) - 1:
        note += f"; nor did the script{'s' * (others > 1)} of {others} other" + (
            " witnesses" if others > 1 else " witness"
        )
    for one in often:
        note += f"; many times with other schedules: {one.said[0].note}"
    return {
        "confirmation": _seen_in(bug),
        "confirmation_note": note,
        "script": script,
        "token": told.token,
    }


def _seen_in(bug: Mapping[str, Any]) -> str:
    """Say where alone it was seen: had any simulated run shown it, the story would be its."""
    told = bug.get("reproduction") or {}
    live = told.get("environment", {}).get("lab") == "live"
    return "live_only" if live else "simulated_only"


def _render(
    engines: Sequence[Engine],
    due: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
    tried: Mapping[str, list[_Tried]],
) -> None:
    """Have the scripts of witnesses written, each by a worker of its engine."""
    for engine in engines:
        mine = [(b, w) for b, w in due if w["engine"] == engine.ref.label]
        if not mine:
            continue
        notes = {b["fingerprint"]: _Tried(w["token"]) for b, w in mine}
        worker = Worker(engine.python, engine.ref.adapter, isolated=engine.ref.isolated)
        try:
            worker.hello()
            for bug, witness in mine:
                asked = {k: witness[k] for k in ("program", "plan", "clause")}
                told = {k: bug[k] for k in ("expected", "actual", "shape")}
                reply = worker.ask({"op": "render", **asked, **told})
                one = notes[bug["fingerprint"]]
                one.text, one.why = reply["script"], reply["why"]
        except (DagstormError, WorkerDied) as exc:
            for one in notes.values():
                one.why = one.why or str(exc)
        finally:
            worker.close()
        for mark, one in notes.items():
            tried[mark].append(one)
    for bug, _ in due:
        if not tried[bug["fingerprint"]]:
            tried[bug["fingerprint"]].append(_Tried("", why="its engine could not be run"))
