"""Breaks the lines of a printed script as `ruff format` would, at 100 columns.

A script is written by an engine's own environment, which has no formatter. What is written
there is one statement a line; this module knows the few ways in which such a line is broken.
A test formats what comes out: nothing may change.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Sequence

__all__ = ["COLUMNS", "laid_out"]

COLUMNS = 100

_OPEN, _CLOSE = "([{", ")]}"


def laid_out(text: str) -> str:
    """Return a source text with its long lines broken, and nested functions set apart."""
    lines: list[str] = []
    for line in text.split("\n"):
        nested = re.match(r"( +)(async def|def|class|@)", line)
        if nested and lines and lines[-1] and not lines[-1].lstrip().startswith("@"):
            opens = re.match(r" *(async def|def|class) .*:$", lines[-1]) is not None
            lines += [] if opens else [""]
        lines += _broken(line)
    return "\n".join(lines)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _broken(line: str) -> list[str]:
    """Return a line in as many as it takes; one that cannot be broken as it is."""
    code = re.sub(r"  # noqa.*$", "", line)
    if len(code) <= COLUMNS:
        return [line]
    pad = " " * _indent(line)
    for start, end in reversed(_pairs(line)):
        head, body, tail = line[: start + 1], line[start + 1 : end].strip(), line[end:]
        if not body or len(head) > COLUMNS or len(pad + tail) > COLUMNS:
            continue
        several = not _called(line, start) and len(_split(body, (",",))) > 1
        several = several and len(_split(body, ("for",))) == 1
        if len(f"{pad}    {body}") <= COLUMNS and not body.endswith(",") and not several:
            # A comma at the end would ask for a line for each.
            comma = "," if re.match(r"\s*from ", line) else ""
            return [head, f"{pad}    {body}{comma}", pad + tail]
        return [head, *_each(body, pad + "    ", tail), pad + tail]
    return [line]


def _called(line: str, start: int) -> bool:
    """Say whether a bracket belongs to a call or a subscript: else it makes a collection."""
    return start > 0 and (line[start - 1].isalnum() or line[start - 1] in "_)]}\"'")


def _each(body: str, pad: str, tail: str) -> list[str]:
    """Return what stands within brackets, each part in a line of its own."""
    parts = _split(body, ("for", "if", "async"))
    if len(parts) > 1:
        return [one for part in parts for line in _conditions(part, pad) for one in _broken(line)]
    parts = _split(body, ("and", "or"))
    if len(parts) > 1 and not _split(body, (",",))[1:]:
        return [one for part in parts for one in _broken(pad + part)]
    # A subscript takes no comma that was not there.
    return [one for part in _split(body, (",",)) for one in _broken(f"{pad}{part},")]


def _conditions(part: str, pad: str) -> list[str]:
    """Return a part of a comprehension; one of several conditions that is too long, a line for
    each that the weakest operator joins."""
    if len(pad + part) <= COLUMNS or not part.startswith("if "):
        return [pad + part]
    either = _split(part, ("or",))
    return [pad + one for one in (either if len(either) > 1 else _split(part, ("and",)))]


def _tokens(text: str) -> list[tokenize.TokenInfo]:
    found = []
    try:
        found += list(tokenize.generate_tokens(io.StringIO(text.lstrip()).readline))
    except (tokenize.TokenError, IndentationError):
        return []
    return found


def _pairs(line: str) -> list[tuple[int, int]]:
    """Return where the brackets are that stand in no others."""
    shift, opened, depth, pairs = _indent(line), 0, 0, []
    for token in _tokens(line):
        if token.type != tokenize.OP:
            continue
        if token.string in _OPEN:
            opened = token.start[1] if not depth else opened
            depth += 1
        elif token.string in _CLOSE:
            depth -= 1
            if not depth:
                pairs.append((opened + shift, token.start[1] + shift))
    return pairs


def _split(body: str, words: Sequence[str]) -> list[str]:
    """Return the parts of a text between words that stand in no brackets.

    A comma is left out, a keyword begins its part. A comprehension has its first `for` before
    any `if`; what comes before that is no part of it.
    """
    depth, cuts, seen_for = 0, [], False
    tokens = _tokens(f"({body})")
    for i, token in enumerate(tokens):
        at = token.start[1] - 1
        if token.type == tokenize.OP and token.string in _OPEN:
            depth += 1
        elif token.type == tokenize.OP and token.string in _CLOSE:
            depth -= 1
        elif depth == 1 and token.string in words and token.type in (tokenize.OP, tokenize.NAME):
            if token.string in ("if", "async") and not seen_for and token.string == "if":
                continue
            if token.string == "for":
                if tokens[i - 1].string == "async":
                    continue
                seen_for = True
            if token.string == "," and "for" not in words:
                cuts.append((at, at + 1))
            elif token.string != ",":
                cuts.append((at, at))
    parts, since = [], 0
    for stop, after in cuts:
        parts.append(body[since:stop].strip())
        since = after
    parts.append(body[since:].strip())
    return [one for one in parts if one]
