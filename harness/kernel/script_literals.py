"""Plain values and names as source text."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["Unrenderable", "error_name", "identifier", "literal", "seconds_of"]


class Unrenderable(Exception):
    """The dialect has no words for something in the program; says for what."""


def literal(value: Any) -> str:
    """Return Python source for a plain value, texts in double quotes as in hand-written code."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value.isprintable() else repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(literal, value)) + ("," if len(value) == 1 else "") + ")"
    return repr(value)


def identifier(name: str) -> str:
    """Return a Python name made from a stage's, tool's or program's name."""
    text = re.sub(r"\W+", "_", name).strip("_").lower()
    return text if text and not text[0].isdigit() else f"n_{text}"


def seconds_of(duration: Any) -> str:
    """Return source for a duration; of a list, for its first."""
    return literal(duration[0] if isinstance(duration, tuple) else duration)


def error_name(name: str) -> str:
    """Return source for the class of an error that a program names."""
    return "asyncio.CancelledError" if name == "CancelledError" else name
