"""Filters that make a value safe to print in Markdown, each for one kind of place.

Every text in a report may have come from an engine, so none is trusted: it must not end
a table cell, open HTML, hide behind control or bidirectional characters, or run on for
pages. No filter writes a digit that was not in its input: a report prints no number that
is not in the data, not even in the note on a cut.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

__all__ = [
    "FILTERS",
    "block",
    "cell",
    "code",
    "detail",
    "figures",
    "href",
    "link",
    "prose",
    "shown",
    "value",
    "visible",
    "whole",
]

LIMIT_CELL = 400
LIMIT_PROSE = 4_000
LIMIT_LINE = 200
LIMIT_LINES = 200
LIMIT_SHOWN = 600
CUT = " … [cut]"
NOTHING = "—"

# An underscore inside a word means nothing to Markdown, and escaped it is hard to read.
_MARKDOWN = re.compile(r"[\\`*\[\]|~#$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# A line that begins like a list, or consists of what underlines a heading.
_OPENING = re.compile(r"^(?:[-+](?=\s|$)|(?=[-=]+$)[-=]|[0-9]+(?=[.)](?:\s|$)))")
_NOT_IN_PATHS = re.compile(r"[^A-Za-z0-9._/-]")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def prose(text: object, limit: int = LIMIT_PROSE) -> str:
    """Return one line of Markdown that reads as `text`, wherever it is put."""
    line = _cut(" ".join(visible(str(text)).split()), limit)
    escaped = _MARKDOWN.sub(r"\\\g<0>", "".join(_HTML.get(c, c) for c in line))
    return _OPENING.sub(_guarded, escaped)


def _guarded(match: re.Match[str]) -> str:
    found = match.group(0)
    return found + "\\" if found[0].isdigit() else "\\" + found


def cell(text: object) -> str:
    """Return `text` for a table cell; a dash for nothing."""
    return prose(value(text), LIMIT_CELL) or NOTHING


def code(text: object) -> str:
    """Return `text` as inline code, also inside a table cell."""
    line = _cut(" ".join(visible(str(text)).split()), LIMIT_CELL)
    if not line:
        return NOTHING
    fence = "`" * (_longest_run(line, "`") + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    # In a table a pipe ends the cell even inside code, unless it is escaped.
    return f"{fence}{pad}{line.replace('|', chr(92) + '|')}{pad}{fence}"


def block(text: object, language: str = "") -> str:
    """Return `text` as a fenced block, its lines and their number bounded."""
    lines = [_cut(visible(line), LIMIT_LINE) for line in str(text).splitlines()]
    if len(lines) > LIMIT_LINES:
        lines = [*lines[:LIMIT_LINES], CUT.strip()]
    return _fenced("\n".join(lines), language)


def _fenced(body: str, language: str) -> str:
    fence = "`" * max(3, _longest_run(body, "`") + 1)
    return f"{fence}{language}\n{body}\n{fence}"


def whole(text: object, language: str = "") -> str:
    """Return dagstorm's own pictures and tokens as a block; cut, they would be worth nothing."""
    lines = [visible(line) for line in str(text).splitlines()]
    return _fenced("\n".join(lines), language)


def value(one: Any) -> str:
    """Return a value in words: numbers as JSON writes them, truths as yes and no."""
    if one is None:
        return ""
    if isinstance(one, bool):
        return "yes" if one else "no"
    if isinstance(one, str):
        return one
    if isinstance(one, (list, tuple)):
        return ", ".join(value(item) for item in one)
    if isinstance(one, Mapping):
        return ", ".join(f"{key} = {_nested(item)}" for key, item in one.items())
    return json.dumps(one)


def _nested(one: Any) -> str:
    if one is None:
        return "none"
    return f"({value(one)})" if isinstance(one, (Mapping, list, tuple)) else value(one)


def detail(entry: Sequence[Any]) -> str:
    """Return the detail of a journal entry, a row of five, for a table cell."""
    told = entry[4]
    if entry[3] == "cancel.sent" and isinstance(told, (list, tuple)) and len(told) == 2:
        return cell(f"number {value(told[0])}, {'accepted' if told[1] else 'too late'}")
    return cell(told)


def figures(counted: Mapping[str, Any]) -> str:
    """Return named figures for a table cell: `cleanups_done = 1, cleanups_due = 30`."""
    return cell(dict(sorted(counted.items())))


def link(path: object) -> str:
    """Return a path of a file that dagstorm named, as a link's target in Markdown."""
    return _NOT_IN_PATHS.sub("_", str(path))


def href(path: object) -> str:
    """Return a relative path as the target of a link in HTML."""
    return quote(str(path).encode("utf-8", "replace"), safe="/._-")


def shown(text: object, limit: int = LIMIT_SHOWN) -> str:
    """Return one line of visible text for HTML or SVG, which their templates escape.

    What is too long is cut, with a note of its length.
    """
    whole_text = value(text)
    # A line of a megabyte need not be read to its end to be cut.
    line = " ".join(visible(whole_text[: limit * 2]).split())
    if len(line) <= limit and len(whole_text) <= limit * 2:
        return line
    return f"{line[:limit].rstrip('0123456789.,-+eE')} … [cut; {len(whole_text)} characters]"


def as_json(data: Any) -> str:
    """Return data as indented JSON, to be printed in a block."""
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False)


def visible(text: str) -> str:
    """Replace what is not seen (controls, bidirectional marks, lone surrogates) by a mark."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(c) for c in text)


def _shown(char: str) -> str:
    if char in "\n\t\r":
        return " "
    if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        # The joiner that emoji are made of changes no reading order and hides nothing.
        return char if char == "\u200d" else "\ufffd"
    return char


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    # A number cut in two would be another number, so cut before it.
    return text[:limit].rstrip("0123456789.,-+eE") + CUT


def _longest_run(text: str, char: str) -> int:
    return max((len(run) for run in re.findall(re.escape(char) + "+", text)), default=0)


FILTERS = {
    "as_json": as_json,
    "block": block,
    "cell": cell,
    "code": code,
    "detail": detail,
    "figures": figures,
    "link": link,
    "prose": prose,
    "visible": visible,
    "whole": whole,
}
