"""Request bodies read as Go's encoding/json reads them, errors in its wording.

Clients are written against the Go server: keys match in any case, the last of equal keys
wins, null leaves the default, unknown keys and whatever follows the first value are ignored,
and an integer must be written as one (5.0 is refused). Python's own leniency (NaN, lone
surrogates) and its limits (digits, depth) are errors or repaired here, never crashes.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = ["BodyError", "Fields", "dump", "fields", "parse"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_INT64 = 1 << 63
_SPACE = " \t\r\n"
_EOF = "unexpected EOF"


class BodyError(ValueError):
    """A request body is not what the route asks for; the text is Go's."""


class Fields(tuple[tuple[str, Any], ...]):
    """A JSON object as it was written: pairs, in order, keys perhaps twice."""

    __slots__ = ()


class _Number(str):
    """A JSON number as it was written; what it may be depends on the field."""

    __slots__ = ()


def _refuse(text: str) -> NoReturn:
    if text.startswith("-"):
        raise BodyError(f"invalid character '{text[1]}' in numeric literal")
    raise BodyError(f"invalid character '{text[0]}' looking for beginning of value")


_DECODER = json.JSONDecoder(
    object_pairs_hook=Fields, parse_float=_Number, parse_int=_Number, parse_constant=_refuse
)


def parse(body: bytes) -> Any:
    """Return the first JSON value of a body, objects as `Fields`, numbers unread.

    Raises:
        BodyError: there is none.
    """
    text = body.decode("utf-8", "replace").lstrip(_SPACE)
    if not text:
        raise BodyError("EOF")
    try:
        return _DECODER.raw_decode(text)[0]
    except json.JSONDecodeError as exc:
        raise BodyError(_wording(exc, text)) from None
    except RecursionError:
        raise BodyError("exceeded max depth") from None


def _wording(exc: json.JSONDecodeError, text: str) -> str:
    message, where = exc.msg, exc.pos
    while where < len(text) and text[where] in _SPACE:
        where += 1
    if where >= len(text) or message.startswith("Unterminated"):
        return _EOF
    what = f"invalid character {_quoted(text[where])} "
    if message.startswith(("Expecting property name", "Illegal trailing")):
        return what + "looking for beginning of object key string"
    if message.startswith("Expecting ':'"):
        return what + "after object key"
    if message.startswith("Expecting ','"):
        inside = _in_object(text[:where])
        return what + ("after object key:value pair" if inside else "after array element")
    if message.startswith("Invalid control"):
        return what + "in string literal"
    if "escape" in message:
        return what + "in string escape code"
    return _broken_literal(text[where:]) or what + "looking for beginning of value"


def _broken_literal(text: str) -> str:
    """Word what is wrong with a null, a boolean or a number that begins well, or return ""."""
    if text.startswith("-"):
        return f"invalid character {_quoted(text[1])} in numeric literal" if text[1:] else _EOF
    for literal in ("null", "true", "false"):
        if not text.startswith(literal[0]):
            continue
        for wanted, one in zip(literal, text, strict=False):
            if one != wanted:
                return (
                    f"invalid character {_quoted(one)} in literal {literal} (expecting '{wanted}')"
                )
        return _EOF
    return ""


def _in_object(text: str) -> bool:
    depth: list[str] = []
    for one in re.sub(r'"(?:\\.|[^"\\])*"', "", text):
        if one in "[{":
            depth.append(one)
        elif one in "]}" and depth:
            depth.pop()
    return bool(depth) and depth[-1] == "{"


def _quoted(character: str) -> str:
    special = {"'": r"'\''", "\n": r"'\n'", "\t": r"'\t'", "\r": r"'\r'", "\\": r"'\\'"}
    return special.get(character, f"'{character}'")


def fields(value: Any, kinds: Mapping[str, str], owner: str, go_type: str) -> dict[str, Any]:
    """Return those fields of an object that are given and not null, as their kinds.

    Args:
        value: what `parse` returned, or a part of it.
        kinds: lower-case name to kind: string, bool, int, float32, float64, object.
        owner, go_type: what Go calls the struct in its errors ("Proxy", "toxiproxy.Proxy").

    Raises:
        BodyError: the value is no object, or a field is of another kind.
    """
    if value is None:
        return {}
    if not isinstance(value, Fields):
        what = "number" if isinstance(value, _Number) else _kind(value)
        raise BodyError(f"json: cannot unmarshal {what} into Go value of type {go_type}")
    found: dict[str, Any] = {}
    for key, one in value:
        name = key.lower()
        if name in kinds and one is not None:
            found[name] = _read(one, kinds[name], f"{owner}.{name}")
    return found


def _read(value: Any, kind: str, where: str) -> Any:
    if kind == "string" and isinstance(value, str) and not isinstance(value, _Number):
        return _SURROGATE.sub("�", value)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "object" and isinstance(value, Fields):
        return value
    if isinstance(value, _Number):
        if kind == "int" and re.fullmatch(r"-?\d{1,19}", value):
            whole = int(value)
            if -_INT64 <= whole < _INT64:
                return whole
        if kind in ("float32", "float64"):
            number = _float(value, kind)
            if math.isfinite(number):
                return number
    go = {"int": "int64", "object": "map[string]interface {}"}.get(kind, kind)
    # Only where a number was wanted does Go say which one it was.
    numeric = kind in ("int", "float32", "float64")
    what = _kind(value) if numeric or not isinstance(value, _Number) else "number"
    raise BodyError(f"json: cannot unmarshal {what} into Go struct field {where} of type {go}")


def _float(text: str, kind: str) -> float:
    number = float(text)
    if kind == "float64":
        return number
    try:
        single: float = struct.unpack("f", struct.pack("f", number))[0]
    except OverflowError:
        return math.inf
    # The shortest text that means the same in 32 bits, as Go prints it.
    for digits in range(1, 10):
        short = float(f"{single:.{digits}g}")
        if struct.unpack("f", struct.pack("f", short))[0] == single:
            return short
    return single


def _kind(value: Any) -> str:
    if isinstance(value, _Number):
        return f"number {value}" if len(value) < 100 else "number"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Fields) else "array"


def dump(value: Any) -> bytes:
    """Return a value as JSON, compact, whole floats without a fraction, as Go writes it."""
    return json.dumps(_plain(value), separators=(",", ":")).encode("ascii")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value
