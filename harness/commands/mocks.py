"""`dagstorm mocks`: the mock services by themselves, for an engine of the user's own to call."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from typing import Any

from harness.commands.words import port, share, short, stopping, whole
from harness.kernel.errors import InputError
from mocks.services import Knobs, services

__all__ = ["add"]

PORTS = {"tools": "tool", "tokens": "tokens", "kv": "kv", "events": "events"}
ENDS = ("answered", "error", "malformed", "cut", "left")


def add(commands: Any) -> None:
    """Add this module's command to the parser."""
    parser = commands.add_parser("mocks", help="mock services with faults, for an engine to call")
    parser.add_argument("--host", default="127.0.0.1", help="where they listen (%(default)s)")
    for name in PORTS:
        parser.add_argument(
            f"--{name}-port", type=port, default=0, metavar="PORT", help="default: a free one"
        )
    parser.add_argument("--delay", type=short, default=0.0, metavar="50ms", help="of each answer")
    parser.add_argument("--jitter", type=short, default=0.0, metavar="20ms", help="more or less")
    for name, what in (
        ("error-rate", "answered by an error"),
        ("malformed", "answered by what is no JSON"),
        ("cut", "cut off in the midst of the answer"),
    ):
        parser.add_argument(f"--{name}", type=share, default=0.0, metavar="5%", help=what)
    parser.add_argument("--seed", type=whole, default=0, help="repeats what is drawn (%(default)s)")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(do=_mocks)


def _mocks(options: argparse.Namespace) -> int:
    try:
        knobs = Knobs(
            options.delay, options.jitter, options.error_rate, options.malformed, options.cut
        )
    except ValueError as exc:
        raise InputError(f"--error-rate, --malformed, --cut: {exc}") from None
    ports = {service: getattr(options, f"{name}_port") for name, service in PORTS.items()}
    stop = threading.Event()
    with (
        stopping(stop),
        services(
            seed=options.seed, knobs=knobs, host=options.host, ports=ports, counted=True
        ) as hosted,
    ):
        if options.json:
            print(json.dumps(hosted.as_json()), flush=True)
        else:
            where = {name: f"{host}:{port}" for name, (host, port) in hosted.addresses.items()}
            print(
                f"dagstorm mocks: POST http://{where['tool']}/tool/NAME, http://{where['tokens']}"
                f"/tokens, http://{where['events']}/events; store tcp://{where['kv']} "
                f"(seed {options.seed})",
                flush=True,
            )
        while not stop.wait(0.5):
            pass
    for service in PORTS.values():
        counted = [f"{hosted.ended[service, how]} {how}" for how in ENDS]
        print(f"dagstorm mocks: {service}: {', '.join(counted)}", file=sys.stderr)
    return 0
