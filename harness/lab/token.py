"""The replay token: which run to do again, as a short text, or as a file where that is long.

A token names an engine and version, a seed, the choices of the tape, the Python and hash seed
that it was made with, and a case: a scenario of the catalogue by its id and digest, or a
program and plan of its own. It may say what the run shows (clause, shape, component) and the
run's digest, so that a replay knows what to look for.

Texts that begin with `ds1.` carry plain JSON and name scenarios; those with `ds2.` are
compressed and may carry programs. Both stay valid for good. A `*.token.json` file holds the
same fields under their full names.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.kernel.errors import InputError
from harness.kernel.plan import Plan
from harness.kernel.program import Program

__all__ = [
    "FILE_SUFFIX",
    "TEXT_MAX",
    "Token",
    "decode",
    "encode",
    "is_token",
    "read",
    "scenario_digest",
    "write",
]

PLAIN, PACKED = "ds1.", "ds2."
FILE_SUFFIX = ".token.json"
FILE_VERSION = 2
# What still fits into a line of a terminal's history; longer ones belong in a file.
TEXT_MAX = 2_000
UNPACKED_MAX = 4_000_000
# The words that tokens are full of. Part of the format: it must never change.
WORDS = (
    b'"otherwise":"branches":"delivery_s":"queue_max":"policy":"sink":{"consumer":{"layers":[{"kind":'
    b'"idle_timeout_s":"retry":{"attempts":"on_failure":"continue","cleanup_grace_s":"horizon_s":'
    b'"stage_timeout_s":"faults":[{"tool":"nth":"onwards":true"cancels":[{"at_point":"gap_s":"times":'
    b'"at_s":"run":"r1""runs":[{"id":"r0"},{"id":"tenant":"t0""start_s":"inputs":{"marker":"'
    b'{"op":"swallow",{"op":"never"}{"op":"raise","error":"ValueError","message":"'
    b'{"op":"subpipeline","program":{"version":1,"name":"{"op":"parallel","branches":[['
    b'{"op":"spawn","name":"{"op":"timeout","label":"{"op":"generate","items":"every_s":'
    b'{"op":"call","tool":"{"op":"chunk","value":{"op":"emit","type":"{"op":"read","stage":"'
    b'{"op":"cleanup","name":"{"op":"using","{"op":"acquire","cleanup_s":"fails":true'
    b'{"op":"sleep","seconds":0.1}]},{"op":"ok"}],"steps":[],"timeout_s":"needs":["'
    b'"t":{"durations":["late":["ties":["yields":["jobs":["tasks":["points":['
    b'{"c":null,"d":"","e":"reference","g":"","h":0,"k":["CLEAN-1","n":0,"p":"3.11","s":"search/",'
    b'"stageflow@1.2.0","v":"1.2.0","plan":{"version":1},"program":{"version":1,"name":"program",'
    b'"stages":[{"name":"a","steps":[{"op":"'
)

_LETTERS = {
    "engine": "e",
    "version": "v",
    "scenario": "s",
    "seed": "n",
    "digest": "d",
    "python": "p",
    "hash_seed": "h",
    "tape": "t",
    "cancels": "c",
    "program": "program",
    "plan": "plan",
    "shows": "k",
    "run_digest": "g",
    "order": "o",
    "lab": "l",
}


@dataclass(frozen=True, slots=True)
class Token:
    """One run: engine and version, case, seed, choices, and what it shows.

    Attributes:
        scenario: id in the catalogue, or any name if `program` is given.
        digest: of the scenario's program and plan, so that a change of them is seen.
        tape: choices by stream; with a program they are the whole run, else they are told by
            the seed already.
        cancels: the plan's cancels where they differ from the scenario's, else None.
        program, plan: the case itself where it is not in the catalogue, else None.
        shows: clause, shape and component of what the run violates, or ().
        run_digest: of the run itself, or "".
        order: how the ready queue was put out of order (`kernel/order.py`), or "": a legal run.
        lab: the laboratory; what ran live cannot be replayed, only run again.
    """

    engine: str
    version: str
    scenario: str
    seed: int
    digest: str
    tape: Mapping[str, list[int]] = field(default_factory=dict)
    cancels: list[dict[str, Any]] | None = None
    python: str = f"{sys.version_info[0]}.{sys.version_info[1]}"
    program: Mapping[str, Any] | None = None
    plan: Mapping[str, Any] | None = None
    hash_seed: int = 0
    shows: tuple[str, ...] = ()
    run_digest: str = ""
    order: str = ""
    lab: str = "sim"


def scenario_digest(program: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """Return 8 hex digits that change when the scenario's program or plan does."""
    text = json.dumps([program, plan], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def is_token(text: str) -> bool:
    """Say whether a text means to be a token."""
    return text.startswith((PLAIN, PACKED))


def encode(token: Token) -> str:
    """Return the token as a text; the length is the caller's to judge (`TEXT_MAX`)."""
    data = {_LETTERS[k]: v for k, v in _said(token).items()}
    text = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    if token.program is None and not token.shows:
        return PLAIN + _base64(text)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=WORDS)
    packed = zlib.crc32(text).to_bytes(4, "big") + packer.compress(text) + packer.flush()
    return PACKED + _base64(packed)


def _said(token: Token) -> dict[str, Any]:
    """Return the fields that a token has something to say in."""
    out: dict[str, Any] = {
        "engine": token.engine,
        "version": token.version,
        "scenario": token.scenario,
        "seed": token.seed,
        "digest": token.digest,
        "python": token.python,
        "hash_seed": token.hash_seed,
    }
    if token.tape:
        out["tape"] = dict(token.tape)
    if token.cancels is not None:
        out["cancels"] = token.cancels
    if token.program is not None:
        out |= {"program": token.program, "plan": token.plan or {}}
    if token.shows:
        out["shows"] = list(token.shows)
    if token.run_digest:
        out["run_digest"] = token.run_digest
    if token.order:
        out["order"] = token.order
    if token.lab != "sim":
        out["lab"] = token.lab
    return out


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode(text: str) -> Token:
    """Read a token; raises `InputError` if it is none."""
    text = text.strip()
    if not is_token(text):
        raise InputError(f"token {text[:40]!r}: expected it to begin with {PLAIN!r} or {PACKED!r}")
    try:
        body = text[len(PLAIN) :]
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        if text.startswith(PACKED):
            raw = _unpacked(raw)
        data = json.loads(raw)
    except (ValueError, RecursionError, binascii.Error, zlib.error) as exc:
        raise InputError(f"token {text[:40]!r}: it is damaged; copy it again, whole") from exc
    if not isinstance(data, dict):
        raise InputError(f"token {text[:40]!r}: it is damaged; copy it again, whole")
    return _token({k: data[v] for k, v in _LETTERS.items() if v in data}, f"token {text[:40]!r}")


def _unpacked(raw: bytes) -> bytes:
    unpacker = zlib.decompressobj(-15, zdict=WORDS)
    text = unpacker.decompress(raw[4:], UNPACKED_MAX)
    if not unpacker.eof or zlib.crc32(text).to_bytes(4, "big") != raw[:4]:
        raise ValueError("cut short, changed, or too large")
    return text


def write(token: Token, path: Path) -> None:
    """Write a token as a file that a person can read."""
    data = {"token": FILE_VERSION, **_said(token)}
    path.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


def read(path: Path) -> Token:
    """Read a token's file; raises `InputError` if it is none."""
    try:
        if path.stat().st_size > UNPACKED_MAX:
            raise InputError(f"{path}: a token of at most {UNPACKED_MAX} bytes was expected")
        data = json.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise InputError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{path}: not valid JSON, so no token") from exc
    if not isinstance(data, dict) or data.get("token") != FILE_VERSION:
        raise InputError(f"{path}: no token: expected an object with 'token': {FILE_VERSION}")
    known = {k: v for k, v in data.items() if k != "token"}
    unknown = sorted(set(known) - set(_LETTERS))
    if unknown:
        raise InputError(f"{path}: unknown field {unknown[0]!r}; known: {', '.join(_LETTERS)}")
    return _token(known, str(path))


def _token(data: Mapping[str, Any], where: str) -> Token:
    """Check every field, so that what is built can be run without another look."""

    def take(name: str, kind: type, default: Any = None) -> Any:
        value = data.get(name, default)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(
                f"{where}: field {name!r}: expected {kind.__name__}, got {value!r:.40}"
            )
        return value

    seed, tape, cancels = take("seed", int), take("tape", dict, {}), data.get("cancels")
    shows = take("shows", list, [])
    choices = [c for values in tape.values() for c in (values if _is_list(values) else [None])]
    if not all(isinstance(c, int) and not isinstance(c, bool) and c >= 0 for c in choices):
        raise InputError(f"{where}: field 'tape': expected lists of whole numbers by stream")
    if cancels is not None and not (
        _is_list(cancels) and all(isinstance(c, dict) for c in cancels)
    ):
        raise InputError(f"{where}: field 'cancels': expected a list of objects")
    if len(shows) not in (0, 3) or not all(isinstance(s, str) for s in shows):
        raise InputError(f"{where}: field 'shows': expected clause, shape and component")
    python = take("python", str)
    if not re.fullmatch(r"\d\.\d{1,3}", python):
        raise InputError(
            f"{where}: field 'python': expected a version such as 3.11, got {python!r}"
        )
    program = plan = None
    if data.get("program") is not None:
        program, plan = take("program", dict), take("plan", dict, {})
        try:
            Program.from_json(program)
            Plan.from_json(plan)
        except InputError as exc:
            raise InputError(f"{where}: {exc}") from exc
    return Token(
        engine=take("engine", str),
        version=take("version", str),
        scenario=take("scenario", str),
        seed=seed,
        digest=take("digest", str),
        tape=tape,
        cancels=cancels,
        python=python,
        program=program,
        plan=plan,
        hash_seed=take("hash_seed", int, 0),
        shows=tuple(shows),
        run_digest=take("run_digest", str, ""),
        order=take("order", str, ""),
        lab=take("lab", str, "sim"),
    )


def _is_list(value: object) -> bool:
    return isinstance(value, list)
