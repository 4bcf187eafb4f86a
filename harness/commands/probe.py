"""`dagstorm probe`: any async function, cancelled at every point."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from harness.commands.progress import Progress
from harness.commands.words import (
    count,
    positive,
    real,
    seconds,
)
from harness.kernel.errors import InputError
from harness.lab.probe import BUDGET_S, HORIZON_S, POINTS_MAX, RUNS, STEPS_MAX, probe

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add this module's commands to the parser."""
    probed = commands.add_parser("probe", help="any async function, cancelled at every point")
    probed.add_argument("target", metavar="MODULE:FUNCTION|FILE.py:FUNCTION")
    probed.add_argument("--args", metavar="JSON", help="an object (by name) or a list")
    probed.add_argument("--runs", type=count, default=RUNS, help="perturbed schedules")
    probed.add_argument("--points-max", type=positive, default=POINTS_MAX, metavar="N")
    probed.add_argument("--horizon", type=seconds, default=HORIZON_S, metavar="TIME")
    probed.add_argument("--steps-max", type=positive, default=STEPS_MAX, metavar="N")
    probed.add_argument("--budget", type=seconds, default=BUDGET_S, metavar="TIME")
    probed.add_argument("--may-raise", action="store_true", help="undisturbed, it raises: right so")
    probed.add_argument("--python", metavar="PATH", help="interpreter to run the function with")
    probed.add_argument("--seed", type=count, help="first perturbed schedule, or that of one run")
    alone = probed.add_argument_group("one run only (as a report's line 'again' says)")
    alone.add_argument("--once", action="store_true", help="no cancel")
    alone.add_argument("--point", type=count, metavar="N", help="the caller cancels there")
    alone.add_argument("--second", type=count, metavar="N", help="and again there")
    alone.add_argument("--timeout", type=real, metavar="SECONDS", help="the caller's timeout")
    alone.add_argument("--wait-for", action="store_true", help="that timeout by asyncio.wait_for")
    probed.add_argument("--json", action="store_true")
    probed.add_argument("--quiet", action="store_true")
    probed.set_defaults(do=_probe)


def _probe(options: argparse.Namespace) -> int:
    only: dict[str, Any] | None = None
    if options.second is not None and options.point is None:
        raise InputError("--second needs --point: the first cancel's")
    if options.wait_for and options.timeout is None:
        raise InputError("--wait-for needs --timeout SECONDS")
    if (options.point is not None) + (options.timeout is not None) + options.once > 1:
        raise InputError("--point, --timeout and --once name different runs; give one of them")
    if options.once or options.point is not None or options.timeout is not None:
        only = {
            "seed": options.seed or 0,
            "point": options.point,
            "second": options.second,
            "timeout_s": options.timeout,
            "wait_for": options.wait_for,
        }
    progress = Progress(options.quiet or not sys.stderr.isatty())
    found = probe(
        options.target,
        args=_arguments(options.args),
        runs=options.runs,
        seed=1 if options.seed is None else options.seed,
        points_max=options.points_max,
        horizon_s=options.horizon,
        steps_max=options.steps_max,
        budget_s=options.budget,
        may_raise=options.may_raise,
        only=only,
        python=options.python,
        progress=lambda p: progress.say(f"{p['runs']} runs, {p['defects']} defects"),
    )
    print(json.dumps(found.answer, indent=1) if options.json else str(found))
    return 1 if found.defects else 0


def _arguments(text: str | None) -> Any:
    try:
        value = json.loads(text) if text else []
    except ValueError as exc:
        raise InputError(f"--args {text!r}: not valid JSON: {exc}") from exc
    if not isinstance(value, (list, dict)):
        raise InputError(f"--args {text!r}: expected a JSON object (by name) or list (in order)")
    return value
