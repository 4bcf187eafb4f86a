"""Plain JSON data out of whatever a worker sent, and one way to write it.

A program may hold NaN on purpose (that an engine refuses it is a clause), and an engine's
texts may hold anything. What is published must be strict JSON that any parser takes, of
bounded size, and the same bytes for the same data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["LIMIT_TEXT", "number", "plain", "text", "to_line", "to_page"]

LIMIT_TEXT = 4_000
LIMIT_DEPTH = 60
CUT = " … [cut; {} characters in all]"


def text(value: object) -> str:
    """Return `value` as a text of bounded length that UTF-8 can encode."""
    out = str(value).encode("utf-8", "replace").decode("utf-8")
    if len(out) <= LIMIT_TEXT:
        return out
    # A number cut in two would be another number, so cut before it.
    return out[:LIMIT_TEXT].rstrip("0123456789.,-+eE") + CUT.format(len(out))


def number(value: float) -> float | int | str:
    """Return a number rounded to microseconds or millionths; "NaN" and the like as texts."""
    if isinstance(value, int):
        return value
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return round(value, 6)


def plain(value: Any, depth: int = 0) -> Any:
    """Return `value` as strict JSON data: texts bounded, numbers rounded, tuples as lists.

    Raises:
        TypeError: if there is something that is no plain data; it never came over a pipe.
    """
    if depth > LIMIT_DEPTH:
        return "[cut: nested too deeply]"
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {text(k): plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item, depth + 1) for item in value), key=repr)
    raise TypeError(f"expected plain data, got {type(value).__name__}")


def to_line(value: Any) -> str:
    """Return one line of JSON with sorted keys."""
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(", ", ": ")
    )


def to_page(value: Any) -> str:
    """Return indented JSON with sorted keys and a newline at its end."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
