"""The knee: the highest rate of requests at which an objective is still kept, by search."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Knee", "Objective", "Step", "find_knee", "objective"]

# So close to each other are the highest rate that keeps it and the lowest that does not.
CLOSE = 1.15
FACTOR = 2.0
STEPS_MAX = 14
ARRIVED = 0.9

_PART = re.compile(r"(p50|p90|p95|p99)<(\d+(?:\.\d+)?)(ms|s)|(errors)<(\d+(?:\.\d+)?)%")


@dataclass(frozen=True, slots=True)
class Objective:
    """What is to be kept: percentile -> milliseconds, and the greatest share of errors."""

    text: str
    limits_ms: Mapping[str, float]
    errors: float


@dataclass(frozen=True, slots=True)
class Step:
    """One short load at a rate.

    Attributes:
        arrived: requests a second that were really sent.
        latencies: as `judge.percentiles` gives them.
        errors: the share of requests that went wrong.
        why: what of the objective was not kept, or "".
    """

    rate: float
    arrived: float
    latencies: Mapping[str, Any]
    errors: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Knee:
    """What a search found.

    Attributes:
        rate: the highest that kept the objective, or None if none did.
        said: in words.
    """

    rate: float | None
    said: str
    steps: tuple[Step, ...]


def objective(text: str) -> Objective:
    """Read `p95<500ms,errors<1%`; fit for argparse.

    Raises:
        argparse.ArgumentTypeError: if it is none.
    """
    limits: dict[str, float] = {}
    errors = 1.0
    for part in text.replace(" ", "").split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise argparse.ArgumentTypeError(
                f"expected an objective such as p95<500ms,errors<1%, got {part!r}"
            )
        if match[1]:
            limits[f"{match[1]}_ms"] = float(match[2]) * (1000 if match[3] == "s" else 1)
        else:
            errors = float(match[5]) / 100
    return Objective(text, limits, errors)


def judged(step: Step, wanted: Objective) -> str:
    """Return what of the objective a step did not keep, or ""."""
    if not step.latencies.get("count"):
        return "nothing was answered"
    for name, limit_ms in wanted.limits_ms.items():
        if step.latencies[name] >= limit_ms:
            return f"{name.removesuffix('_ms')} {step.latencies[name]:g} ms"
    if step.errors >= wanted.errors:
        return f"errors {step.errors:.2%}"
    if step.arrived < ARRIVED * step.rate:
        return f"only {step.arrived:.1f} requests a second came about"
    return ""


def find_knee(
    measure: Callable[[float], Step | None],
    *,
    first: float,
    highest: float,
    steps_max: int = STEPS_MAX,
) -> Knee:
    """Double the rate until the objective is not kept any more, then halve the gap.

    Args:
        measure: runs a short load at a rate; `Step.why` says whether it kept the objective. None
            ends the search.
        first: the first rate, in requests a second.
        highest: the rate beyond which nobody looks.
    """
    steps: list[Step] = []
    good: float | None = None
    bad: float | None = None
    why = ""
    rate = min(first, highest)
    while len(steps) < steps_max:
        step = measure(rate)
        if step is None:
            return Knee(good, "interrupted before it was found", tuple(steps))
        steps.append(step)
        if step.why:
            bad, why = rate, step.why
        else:
            good = rate
        if bad is None:
            if rate >= highest:
                break
            rate = min(rate * FACTOR, highest)
        elif good is None:
            rate /= FACTOR
            if rate < first / 8:
                break
        elif bad / good <= CLOSE:
            break
        else:
            rate = (good * bad) ** 0.5
    return Knee(good, _said(good, bad, highest, steps[-1].rate, why), tuple(steps))


def _said(good: float | None, bad: float | None, highest: float, last: float, why: str) -> str:
    if good is None:
        return f"none: not even {last:g} requests a second keep it ({why})"
    if bad is None:
        beyond = "" if good >= highest else ", after as many steps as may be"
        return f"not reached: {good:g} requests a second still keep it{beyond}"
    return f"{good:.1f} requests a second keep it, {bad:.1f} do not ({why})"
