"""`stress.toml`: what a project always wants of `dagstorm run`; the command line wins."""

from __future__ import annotations

import argparse
import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from harness.commands.choice import is_named
from harness.commands.words import seconds
from harness.engine.broken import CATALOGUE
from harness.findings.thresholds import FIGURES, METRICS, Threshold
from harness.kernel.errors import InputError
from harness.lab.engines import known_engines, parse_engines
from harness.lab.profiles import PLANS, day_of, seed_of

__all__ = ["FAIL_ON", "FILE", "read_settings", "settle", "today"]

FILE = "stress.toml"
FAIL_ON = ("new", "any", "critical", "high", "never")
KEYS = ("engines", "profile", "seed", "budget", "fail_on", "thresholds")
BOUNDS = ("min", "max", "engine", "scenario", "required")


def today() -> date:
    """Return the date that profiles and waivers go by: UTC's."""
    return datetime.now(UTC).date()


def settle(options: argparse.Namespace) -> None:
    """Fill in what the command line leaves open: from stress.toml, then from the profile."""
    file = Path(options.config) if options.config else Path(FILE)
    found: dict[str, Any] = {"thresholds": []}
    if options.config or file.is_file():
        found = read_settings(file, options.engine or ())
    options.profile = options.profile or found.get("profile", "default")
    plan = PLANS[options.profile]
    options.engine = options.engine or found.get("engines")
    if options.seed is None:
        options.seed = found.get("seed", seed_of(options.profile, today()))
    options.day = day_of(options.day, today())
    if options.budget is None:
        options.budget = found.get("budget")
    limited = not (is_named(options) or options.search or options.runs or options.resume)
    if options.budget is None and limited:
        options.budget = plan.budget_s
    options.fail_on = options.fail_on or found.get("fail_on", plan.fail_on)
    options.thresholds = found["thresholds"]


def read_settings(file: Path, named: Iterable[str] = ()) -> dict[str, Any]:
    """Return what a file says, checked: the keys that it has, `thresholds` always.

    Args:
        named: engines of the command line, which a threshold may be about.

    Raises:
        InputError: naming file, key and value.
    """
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except OSError as exc:
        raise InputError(f"--config {file}: cannot be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InputError(f"{file}: not valid TOML: {exc}") from exc
    for key in data:
        if key not in KEYS:
            raise InputError(f"{file}: {key}: no such key; {_near(key, KEYS)}")
    out = {key: _checked(file, key, value) for key, value in data.items() if key != "thresholds"}
    engines = [*out.get("engines", ()), *named]
    return {**out, "thresholds": _thresholds(file, data.get("thresholds", {}), engines)}


def _checked(file: Path, key: str, value: Any) -> Any:
    where = f"{file}: {key}: {value!r}"
    match key:
        case "engines":
            if not isinstance(value, list) or not value or not all(_is_text(v) for v in value):
                raise InputError(f'{where}: expected a list of engines such as ["reference"]')
            for one in value:
                _engine(file, key, one)
        case "profile":
            if not _is_text(value) or value not in PLANS:
                raise InputError(f"{where}: no such profile; {_near(str(value), PLANS)}")
        case "seed":
            if not isinstance(value, int) or isinstance(value, bool):
                raise InputError(f"{where}: expected a whole number")
        case "budget":
            try:
                return seconds(value)
            except (argparse.ArgumentTypeError, TypeError):
                raise InputError(f'{where}: expected a time such as "60s" or "10m"') from None
        case "fail_on":
            if value not in FAIL_ON:
                raise InputError(f"{where}: expected one of {', '.join(FAIL_ON)}")
    return value


def _engine(file: Path, key: str, name: str) -> None:
    try:
        parse_engines(name, CATALOGUE)
    except InputError as exc:
        raise InputError(f"{file}: {key}: {str(exc).removeprefix('--engine ')}") from exc


def _thresholds(file: Path, data: Any, engines: Sequence[str]) -> list[Threshold]:
    if not isinstance(data, Mapping):
        raise InputError(f"{file}: thresholds: {data!r}: expected a table [thresholds]")
    out = []
    for figure, bounds in data.items():
        where = f"{file}: thresholds.{figure}"
        if figure not in FIGURES and not (figure.startswith(METRICS) and figure != METRICS):
            raise InputError(
                f"{where}: no such figure; {_near(figure, FIGURES)}, or 'metrics.COLUMN'"
            )
        for one in bounds if isinstance(bounds, list) else [bounds]:
            out.append(_threshold(where, figure, one, engines))
    return out


def _threshold(where: str, figure: str, bounds: Any, engines: Sequence[str]) -> Threshold:
    if not isinstance(bounds, Mapping):
        raise InputError(f"{where}: {bounds!r}: expected a table such as {{ max = 0.01 }}")
    for key, value in bounds.items():
        at = f"{where}.{key}: {value!r}"
        if key not in BOUNDS:
            raise InputError(f"{at}: no such key; {_near(key, BOUNDS)}")
        if key in ("min", "max") and not _is_number(value):
            raise InputError(f"{at}: expected a number")
        if key in ("engine", "scenario") and not _is_text(value):
            raise InputError(f"{at}: expected a text")
        if key == "required" and not isinstance(value, bool):
            raise InputError(f"{at}: expected true or false")
    low, high = bounds.get("min"), bounds.get("max")
    if low is None and high is None:
        raise InputError(f"{where}: it has neither min nor max; give one, or both")
    if low is not None and high is not None and low > high:
        raise InputError(f"{where}: min {low} is above max {high}")
    _subject(where, bounds.get("engine", ""), engines)
    return Threshold(
        figure,
        low,
        high,
        bounds.get("engine", ""),
        bounds.get("scenario", ""),
        bounds.get("required", False),
    )


def _subject(where: str, named: str, engines: Iterable[str]) -> None:
    """Refuse a threshold on an engine that there is not, so that it cannot be kept by a typo."""
    name = named.partition("@")[0]
    known = [*known_engines(CATALOGUE), *(Path(e.partition(".py")[0]).name for e in engines)]
    if name and name not in known:
        raise InputError(f"{where}.engine: {named!r}: no such engine; {_near(name, known)}")


def _is_number(value: Any) -> bool:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return plain and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _near(wanted: str, known: Any) -> str:
    near = difflib.get_close_matches(wanted, list(known), n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
