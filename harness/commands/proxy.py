"""`dagstorm proxy`: the embedded fault proxy as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import gc
import signal
import sys
from pathlib import Path
from typing import Any

from harness.commands.words import port, whole
from harness.kernel.errors import EnvironmentFault, InputError
from harness.proxy.errors import ApiError
from harness.proxy.gojson import BodyError, parse
from harness.proxy.loop import new_loop
from harness.proxy.server import ProxyServer

__all__ = ["add"]

# A proxied connection is two descriptors; shells often allow 1024.
_DESCRIPTORS = 65_536


def add(commands: Any) -> None:
    """Add this module's commands to the parser."""
    parser = commands.add_parser("proxy", help="network faults by Toxiproxy's HTTP API")
    parser.add_argument("--host", default="127.0.0.1", help="where the API listens (%(default)s)")
    parser.add_argument("--port", type=port, default=8474, help="its port; 0 takes a free one")
    parser.add_argument("--seed", type=whole, help="repeat toxicity, jitter and other chance")
    parser.add_argument("--config", metavar="FILE", help="proxies to create: a JSON list")
    parser.add_argument("--no-metrics", action="store_true", help="answer /metrics by 404")
    # The Go server's switches; what they switch on is on here.
    for switch in ("--proxy-metrics", "--runtime-metrics"):
        parser.add_argument(switch, action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(do=_proxy)


def _proxy(options: argparse.Namespace) -> int:
    configured = _configuration(options.config) if options.config else None
    _more_descriptors()
    # What the command has imported stays: collections need not look through it again and again.
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=lambda: new_loop(wakeful=True)) as runner:
            runner.run(_serve(options, configured))
    except KeyboardInterrupt:
        pass
    finally:
        gc.unfreeze()
    return 0


async def _serve(options: argparse.Namespace, configured: Any) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    metrics = not options.no_metrics
    async with ProxyServer(
        options.host, options.port, seed=options.seed, metrics=metrics
    ) as server:
        if configured is not None:
            try:
                await server.populate(configured)
            except ApiError as exc:
                fault = InputError if exc.status < 500 else EnvironmentFault
                raise fault(f"--config {options.config}: {exc.text}") from None
        print(f"dagstorm proxy: {server.url} (seed {server.seed})", flush=True)
        await stop.wait()
    print("dagstorm proxy: stopped", file=sys.stderr)


def _configuration(name: str) -> Any:
    try:
        return parse(Path(name).read_bytes())
    except OSError as exc:
        raise InputError(f"--config {name}: cannot be read: {exc.strerror}") from None
    except BodyError as exc:
        raise InputError(f"--config {name}: no JSON: {exc}") from None


def _more_descriptors() -> None:
    """Raise the soft limit of open files to what is allowed; where it cannot be, go on."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            pass
