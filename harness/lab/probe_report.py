"""What a probe found, in words: one block a defect, and the line that shows it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

__all__ = ["FAMILIES", "KINDS", "text_of"]

KINDS = {
    "task": "orphaned task",
    "swallowed": "swallowed cancel",
    "cut-off": "cleanup that can be cut off",
    "asyncgen": "unclosed async generator",
    "lock": "lock held for ever",
    "stuck": "it never ends",
    "again": "a later run no longer works",
    "unretrieved": "exception that nobody fetched",
    "timer": "timer left behind",
    "thread": "thread left behind",
    "blocked": "blocked event loop",
    "unawaited": "coroutine never awaited",
    "died": "the process ended",
}

FAMILIES = {
    "clean": ("undisturbed run", "undisturbed runs"),
    "cancel": ("cancel point", "cancel points"),
    "timeout": ("caller's timeout", "caller's timeouts"),
    "twice": ("second cancel", "second cancels"),
    "seed": ("perturbed run", "perturbed runs"),
}


def text_of(answer: Mapping[str, Any]) -> str:
    """Return the whole answer as text, ending without a line break."""
    lines: list[str] = []
    for number, defect in enumerate(answer["defects"], 1):
        lines += [*_block(number, defect, answer), ""]
    for note in answer["notes"]:
        lines.append(f"note: {note['says']}" + _times(note["times"]))
    lines += [f"note: {text}" for text in answer["limits"]]
    if "one" in answer:
        lines += _one(answer["one"])
    clean, count = answer["clean"], len(answer["defects"])
    outcome = clean["outcome"]
    how = {"raised": f"raised {outcome['type']}", "unfinished": "had not ended"}.get(
        outcome["how"], outcome["how"]
    )
    families = ", ".join(
        _count(answer["families"][f], FAMILIES[f]) for f in FAMILIES if f in answer["families"]
    )
    counted = _count(count, ("defect", "defects")) if count else "no defect"
    lines.append(
        f"{answer['target']}: {counted} in {answer['runs']} runs"
        f"{f' ({families})' if families else ''}; undisturbed it {how} after "
        f"{clean['took_s']:g} virtual seconds and {clean['points']} points"
    )
    return "\n".join(lines)


def _block(number: int, defect: Mapping[str, Any], answer: Mapping[str, Any]) -> list[str]:
    where = defect["place"] or "no line of yours"
    hits = ", ".join(
        f"{defect['hits'][f]} of {_count(answer['families'][f], FAMILIES[f])}"
        for f in FAMILIES
        if f in defect["hits"]
    )
    out = [f"{number}. {KINDS[defect['kind']]}: {where}", f"   {defect['says']}"]
    out += [f"   {text}" for text in defect["waits"]]
    if defect["landed"]:
        out.append(f"   first seen when cancelled while it stood at {defect['landed']}")
    out.append(f"   seen in {hits}")
    target = shlex.quote(answer["target"]) + answer["options"]
    out.append(f"   again: dagstorm probe {target} {defect['first']}")
    return out


def _one(run: Mapping[str, Any]) -> list[str]:
    """Say how the one run went that was asked for."""
    outcome = run["outcome"]
    how = {
        "returned": "the function returned",
        "cancelled": "the function was cancelled",
        "timeout": "the caller saw TimeoutError",
        "unfinished": f"the function did not end ({run['ended']})",
    }.get(outcome["how"], f"the function raised {outcome['type']}: {outcome['says']}".rstrip(": "))
    if run["landed"]:
        how = f"cancelled while it stood at {run['landed']}; {how}"
    elif run["sent"] == 0 and not run["accepted"]:
        how = f"no cancel was sent (or it was over before); {how}"
    return [f"run: {how} after {run['took_s']:g} virtual seconds"]


def _count(number: int, words: tuple[str, str]) -> str:
    return f"{number} {words[number != 1]}"


def _times(number: int) -> str:
    return "" if number == 1 else f" ({number} times)"
