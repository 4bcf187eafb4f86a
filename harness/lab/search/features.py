"""What a generated scenario may hold, and which of it one seed switches on.

Swarm testing (Groce and others, "Swarm testing", ISSTA 2012): a feature that is always on
hides what happens without it, and rare ones need each other's company. So each seed draws a
configuration of its own: one theme whose features belong together, some others by chance,
wildly different rates, one grid of durations with the timeouts themselves on it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from harness.kernel.adapter import CAPABILITIES

__all__ = ["FEATURES", "THEMES", "Swarm", "draw_swarm", "offered"]

# Feature -> engine capabilities that it needs.
FEATURES: Mapping[str, tuple[str, ...]] = {
    # what stages do
    "yield": (),
    "acquire": (),
    "using": (),
    "generate": (),
    "failing_cleanup": (),
    "cleanup": ("cleanup_registry",),
    "chunk": ("streaming",),
    "emit": ("events",),
    "flood": ("events",),
    "read": ("inputs",),
    "mutate": ("inputs",),
    "call": (),
    "tool_timeout": ("tool_timeout",),
    "parallel": (),
    "spawn": (),
    "thread": (),
    "heartbeat": ("heartbeat",),
    "scope": (),
    "sub": ("subpipeline",),
    "swallow": (),
    "context": ("context",),
    "input": ("run_inputs",),
    "identify": ("identity",),
    "log": ("log_records",),
    "store": ("tenant_store",),
    "compensate": ("compensation",),
    "flaky": (),
    # how stages end
    "fail": (),
    "raise": (),
    "self_cancel": (),
    "cancel_run": ("cancel_run",),
    "cancel_branch": ("cancel_branch",),
    "skip": ("skip",),
    "never": (),
    # what is declared of stages
    "stage_timeout": ("stage_timeout",),
    "each_timeout": ("stage_timeout_each",),
    "odd_timeout": ("stage_timeout_each",),
    "idle": ("heartbeat",),
    "retry": ("retry",),
    "ill_formed": (),
    "large": (),
    "ties": (),
    # what goes on around them
    "continue": ("continue_on_failure",),
    "grace": (),
    "cancel": (),
    "cancel_again": (),
    "cancel_point": (),
    "tool_faults": (),
    "runs": ("concurrent_runs",),
    "tenants": ("concurrent_runs",),
    "correlation": ("identity",),
    "trace": ("trace_context",),
    "sink": ("events",),
    "queue": ("events", "event_queue"),
    "consumer": ("streaming", "stream_consumer"),
    "layers": ("interceptors",),
    "guard": ("guard",),
    "breaker": ("circuit_breaker",),
    "rate": ("rate_limit",),
    "idempotent": ("idempotency",),
    "redrive": ("checkpoint",),
}

# Features that make sense in each other's company -> how often such a theme is drawn.
THEMES: Mapping[tuple[str, ...], float] = {
    ("stage_timeout", "each_timeout", "acquire", "ties"): 2.0,
    ("each_timeout", "odd_timeout"): 0.7,
    ("stage_timeout", "thread", "sub"): 1.0,
    ("scope", "raise", "each_timeout", "generate"): 1.0,
    ("idle", "heartbeat"): 0.8,
    ("call", "tool_timeout", "tool_faults"): 1.0,
    ("cleanup", "acquire", "using", "failing_cleanup"): 1.5,
    ("cleanup", "runs"): 1.0,
    ("cleanup", "grace"): 0.8,
    ("cancel", "cancel_point", "acquire", "cleanup"): 1.5,
    ("cancel", "cancel_point", "cancel_again", "acquire", "using", "cleanup"): 1.5,
    ("cancel", "cancel_point", "sub", "thread"): 1.0,
    ("swallow", "grace", "cancel", "cancel_run", "stage_timeout"): 1.0,
    ("cancel_run", "acquire", "chunk"): 1.2,
    ("cancel_branch", "skip", "continue"): 1.0,
    ("self_cancel", "raise"): 0.7,
    ("sub", "raise"): 1.0,
    ("fail", "raise", "ties", "read"): 2.0,
    ("fail", "continue", "ties"): 1.0,
    ("read", "mutate"): 0.7,
    ("context",): 0.3,
    ("ill_formed",): 0.5,
    ("large",): 0.15,
    ("chunk", "fail", "stage_timeout"): 1.0,
    ("chunk", "consumer"): 1.2,
    ("flood", "sink", "queue"): 3.0,
    ("flood", "sink"): 1.5,
    ("retry", "flaky"): 1.5,
    ("retry", "flaky", "cancel", "cancel_run", "raise"): 1.2,
    ("redrive", "flaky"): 1.8,
    ("redrive", "flaky", "skip", "ties"): 0.8,
    ("compensate", "fail", "raise"): 1.5,
    ("compensate", "retry", "flaky", "fail"): 1.2,
    ("compensate", "cancel", "cancel_again", "raise", "stage_timeout"): 1.2,
    ("layers", "guard", "runs"): 1.5,
    ("breaker", "runs", "call", "tool_faults", "tenants"): 1.5,
    ("breaker", "guard", "layers", "runs", "cancel"): 1.2,
    ("rate", "runs", "tenants"): 1.2,
    ("idempotent", "runs", "guard", "layers", "breaker"): 1.5,
    ("idempotent", "runs", "raise", "cancel"): 1.2,
    ("runs", "input", "tenants", "read", "log", "emit", "chunk"): 1.5,
    ("runs", "input", "tenants", "raise", "cancel_run"): 1.2,
    ("runs", "cancel", "cancel_run", "raise"): 1.2,
    ("runs", "input", "tenants", "read"): 1.0,
    ("runs", "input", "tenants", "store"): 0.6,
    ("runs", "correlation", "identify", "log", "emit", "spawn", "thread", "cleanup"): 1.5,
    ("runs", "correlation", "identify", "cleanup", "cancel", "raise"): 1.0,
    ("runs", "correlation", "trace", "identify", "sub", "raise"): 1.5,
}

# Not drawn by chance beside a theme: what they bring about drowns all else, or costs much.
ALONE = frozenset({"ill_formed", "large", "odd_timeout", "store", "flood", "queue", "sink"})

# Not on together. The clauses' accounts of events know those of `flood` alone, run by run; how
# an engine shares a short grace with its subpipelines is for it to say.
APART = (("flood", "emit"), ("flood", "redrive"), ("sub", "grace"))

# Powers of two add up exactly, tenths do not: both kinds of ties are wanted.
GRIDS = ((0.0, 0.25, 0.5, 1.0), (0.0, 0.1, 0.2, 0.3), (0.0, 0.5, 1.0, 2.0), (0.25, 0.5, 0.75))
CHANCE = 0.08


@dataclass(frozen=True, slots=True)
class Swarm:
    """The configuration of one seed.

    Attributes:
        on: the features that are switched on.
        rate: how often a step or ending of a feature is taken where it could be.
        grid: seconds that durations and timeouts are taken from.
        stages_max, steps_max: how large a program may become.
        listed: share of durations that the tape is left to choose.
    """

    on: frozenset[str]
    rate: float
    grid: tuple[float, ...]
    stages_max: int
    steps_max: int
    listed: float


def offered(capabilities: frozenset[str]) -> frozenset[str]:
    """Return the features that an engine with these capabilities can be given."""
    unknown = capabilities - CAPABILITIES.keys()
    known = capabilities - unknown
    return frozenset(name for name, needs in FEATURES.items() if known.issuperset(needs))


_NAMES = tuple(FEATURES)
_BY_CHANCE = tuple(name for name in FEATURES if name not in ALONE)


def draw_swarm(
    rng: random.Random, possible: frozenset[str], aim: frozenset[str] = frozenset()
) -> Swarm:
    """Draw a configuration.

    Args:
        possible: features that may be on (see `offered`).
        aim: features that are to be on, if they are possible: what a situation that has not
            been seen yet asks for.
    """
    chance = rng.random
    on = dict.fromkeys(sorted(aim) if aim else _theme(rng))
    # Half of the seeds keep to their theme; the others mix in what may disturb it.
    if chance() < 0.5:
        mixed = CHANCE * (1 + 3 * chance())
        on |= dict.fromkeys([name for name in _BY_CHANCE if chance() < mixed])
    if not aim and chance() < 0.3:
        on = dict.fromkeys([name for name in on if chance() < 0.7])
    for keeps, goes in APART:
        if keeps in on:
            on.pop(goes, None)
    grid = GRIDS[int(chance() * len(GRIDS))]
    if "ties" in on:
        # One length and its double: what is side by side is due in the same instants.
        grid = (grid[1], grid[1], grid[1] * 2)
    return Swarm(
        on=possible.intersection(on),
        rate=(0.15, 0.3, 0.5, 0.8)[int(chance() * 4)],
        grid=grid,
        stages_max=(1, 2, 3, 4, 6, 9)[int(chance() * 6)],
        steps_max=(1, 2, 3, 5)[int(chance() * 4)],
        listed=(0.0, 0.2, 0.5)[int(chance() * 3)],
    )


_WEIGHTS = tuple(THEMES.values())
_TOTAL = sum(_WEIGHTS)


def _theme(rng: random.Random) -> tuple[str, ...]:
    at = rng.random() * _TOTAL
    for theme, weight in THEMES.items():
        at -= weight
        if at < 0:
            return theme
    return ()
