"""The replay token: a short text that says which run of which scenario to do again."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.kernel.errors import InputError

__all__ = ["Token", "decode", "encode", "scenario_digest"]

PREFIX = "ds1."


@dataclass(frozen=True, slots=True)
class Token:
    """One run: engine and version, scenario (and its digest), seed, choices, cancels.

    Attributes:
        cancels: the plan's cancels where they differ from the scenario's, else None.
    """

    engine: str
    version: str
    scenario: str
    seed: int
    digest: str
    tape: Mapping[str, list[int]] = field(default_factory=dict)
    cancels: list[dict[str, Any]] | None = None
    python: str = f"{sys.version_info[0]}.{sys.version_info[1]}"


def scenario_digest(program: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """Return 8 hex digits that change when the scenario's program or plan does."""
    text = json.dumps([program, plan], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def encode(token: Token) -> str:
    data: dict[str, Any] = {
        "e": token.engine,
        "v": token.version,
        "s": token.scenario,
        "n": token.seed,
        "d": token.digest,
        "p": token.python,
        "h": 0,
    }
    if token.tape:
        data["t"] = dict(token.tape)
    if token.cancels is not None:
        data["c"] = token.cancels
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return PREFIX + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(text: str) -> Token:
    """Read a token; raises `InputError` if it is none."""
    if not text.startswith(PREFIX):
        raise InputError(f"token {text[:40]!r}: expected it to begin with {PREFIX!r}")
    body = text.removeprefix(PREFIX)
    try:
        data = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return Token(
            engine=data["e"],
            version=data["v"],
            scenario=data["s"],
            seed=int(data["n"]),
            digest=data["d"],
            tape=data.get("t", {}),
            cancels=data.get("c"),
            python=data["p"],
        )
    except (ValueError, KeyError, TypeError, binascii.Error) as exc:
        raise InputError(f"token {text[:40]!r}: it is damaged; copy it again, whole") from exc
