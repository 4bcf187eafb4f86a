"""What a script notes, and how: of each note no more than its check looks at.

Texts are written with notes of the form `note(stage, kind, detail)`, and checks look at rows
(seconds, stage, kind, detail) in `seen`. What none of a check's loops looks at is left out of
the rows and of the loops, and few notes are written where they are taken.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

__all__ = ["fields_of", "noted", "of_stages", "stages_of", "without_notes"]

# Up to so many notes of a moment are written where they are taken.
NOTES_IN_PLACE = 6

NOW = "time.monotonic() - began"
FIELDS = ("seconds since the start", "stage", "what happened", "detail")
_LOOP = re.compile(r"for (i, \()?(\w+), (\w+), (\w+), (\w+)\)? in (enumerate\(seen\)|seen)\b")

_HELPER = """\
def note(stage, kind, detail=None):
    seen.append(({FIELDS}))"""


def without_notes(text: str, wanted: Iterable[str]) -> str:
    """Return a source text without the statements that note what nobody wants noted."""
    kept = set(wanted)
    if "cancel.sent" not in kept:  # what is noted there still has to be done
        text = text.replace('note("", "cancel.sent", (number, task.cancel()))', "task.cancel()")
    lines = []
    for line in text.split("\n"):
        noted = re.match(r'\s*note\([^"]*(?:"", )?"([a-z._]+\.?[a-z]*)"', line)
        if noted is None or noted[1] in kept:
            lines.append(line)
    return "\n".join(lines)


def of_stages(kind: str, check: str) -> set[str] | None:
    """Return the stages of which a check looks at notes of a kind: where it names the kind beside
    a stage only, as in ("charge", "stage.end") or, of several runs, (f"{run}/charge", "stage.end");
    None if those of any stage will do."""
    named = re.findall(rf'\((?:f"{{run}}/|")([^"]+)", "{re.escape(kind)}"', check)
    return set(named) if len(named) == check.count(f'"{kind}"') else None


def fields_of(check: str) -> tuple[int, ...]:
    """Return which of the fields of a note a check looks at."""
    body = re.sub(r"  # .*", "", check.partition(":\n")[2])
    loops = list(_LOOP.finditer(body))
    if len(loops) != len(re.findall(r"\bseen\b", body)):
        return (0, 1, 2, 3)  # it takes rows as a whole
    return tuple(n for n in range(4) if any(loop[n + 2] != "_" for loop in loops))


def stages_of(check: str) -> frozenset[str] | None:
    """Return the stages whose notes a check looks at, None for all."""
    body = re.sub(r"  # .*", "", check.partition(":\n")[2])
    named = re.findall(r'\bin seen if stage == "([^"]+)"', body)
    return frozenset(named) if named and len(named) == len(re.findall(r"\bseen\b", body)) else None


def noted(body: str, check: str, head: list[str]) -> tuple[str, list[str]]:
    """Return a script's body with its notes as its check takes them, and the lines that say
    where they are kept."""
    fields = fields_of(check)
    if not fields or not re.search(r"\bseen\b", check.partition(":\n")[2]):
        fields = (2,)
    timed = 0 in fields
    body = _without_copies(_LOOP.sub(lambda found: _loop(found, fields), body))
    pieces = re.split(r"\bnote\(", body)
    lines = [*head]
    if len(pieces) > 1 or re.search(r"\bseen\b", body):
        names = ", ".join(FIELDS[n] for n in fields)
        lines.append(f"seen = []  # {f'({names})' if len(fields) > 1 else names}")
    if timed or re.search(r"\bbegan\b", body):
        lines.append("began = time.monotonic()")
    if timed and len(pieces) > NOTES_IN_PLACE + 1:
        row = _row(NOW, ["stage", "kind", "detail"], fields)
        return f"{_HELPER.replace('({FIELDS})', row)}\n\n\n{body}", lines
    for i, piece in enumerate(pieces[1:], 1):
        words = _to_closing(piece)
        row = _row(NOW, _arguments(words), fields)
        pieces[i] = f"seen.append({row}){piece[len(words) + 1 :]}"
    return "".join(pieces), lines


_COPY = re.compile(r"\n +(\w+) = \[(\(?)([\w, ]+)\)? for \3 in seen\](?=\n)")


def _without_copies(body: str) -> str:
    """Return a body with no list that is as `seen` is once no more than needed is noted."""
    while copy := _COPY.search(body):
        rest = re.sub(rf"\b{copy[1]}\b", "seen", body[copy.end() :])
        body = body[: copy.start()] + rest
    return body


def _loop(found: re.Match[str], fields: tuple[int, ...]) -> str:
    names = ", ".join(found[n + 2] for n in fields)
    if found[1]:
        names = f"i, ({names})" if len(fields) > 1 else f"i, {names}"
    return f"for {names} in {found[6]}"


def _row(now: str, words: list[str], fields: tuple[int, ...]) -> str:
    every = [now, *words, *["None"] * (3 - len(words))]
    row = ", ".join(every[n] for n in fields)
    return f"({row})" if len(fields) > 1 else row


def _to_closing(text: str) -> str:
    """Return what comes before the parenthesis that closes one opened just before `text`."""
    depth = 1
    for i, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if not depth:
            return text[:i]
    raise ValueError(f"no closing parenthesis in {text!r}")


def _arguments(words: str) -> list[str]:
    call = ast.parse(f"note({words})", mode="eval").body
    assert isinstance(call, ast.Call)
    return [ast.get_source_segment(f"note({words})", one) or "" for one in call.args]
