"""The serving process: one engine, in its own environment, behind HTTP.

It is told what to serve by one line of JSON on standard input, says where it listens by one
on what was standard output, and lives no longer than whoever holds the other end of
its standard input.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from harness.kernel.errors import DagstormError, EnvironmentFault
from harness.kernel.interpreter import ToolMock
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.serving import ServingLaboratory
from harness.lab.adapter_loader import info_json, load_adapter
from harness.lab.load.front import Front, FrontLimits
from harness.lab.load.programs import default_programs, serving_plan
from harness.lab.worker_main import limit_memory
from harness.proxy.http1 import HttpServer
from harness.proxy.limits import Limits

__all__ = ["main"]

LEDGER_FLUSH_S = 0.25
BODY_MAX_BYTES = 64 << 10
CONNECTIONS_MAX = 4_000


def main(tool: ToolMock) -> None:
    """Serve until told to stop, until standard input ends, or until the time given is over."""
    limit_memory()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    for number in (signal.SIGINT, signal.SIGTERM):  # the starter says when it is over
        signal.signal(number, signal.SIG_IGN)
    told = json.loads(sys.stdin.readline())
    try:
        with Path(told["ledger"] or os.devnull).open("a", encoding="utf-8") as ledger:
            asyncio.run(_serve(told, tool, channel, ledger))
    except DagstormError as exc:
        _say(channel, {"error": {"kind": type(exc).__name__, "message": str(exc)}})
    except OSError as exc:
        message = f"cannot serve at {told['host']}:{told['port']}: {exc.strerror or exc}"
        _say(channel, {"error": {"kind": EnvironmentFault.__name__, "message": message}})
    except Exception as exc:
        traceback.print_exc()
        message = f"{type(exc).__name__}: {exc}"
        _say(channel, {"error": {"kind": "Crash", "message": message}})


def _say(channel: IO[str], message: Mapping[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


def _watch(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, life_s: float) -> None:
    """End with the starter: at once if it is gone, in good order if it says so.

    In a thread of its own, so that an engine that blocks the loop does not outlive it.
    """

    def read() -> None:
        if sys.stdin.readline():
            loop.call_soon_threadsafe(stop.set)
            sys.stdin.readline()  # its end of the pipe is closed when it has waited enough
        _exit(0)

    threading.Thread(target=read, name="dagstorm-watch", daemon=True).start()
    if life_s:
        end = threading.Timer(life_s, _exit, (3,))
        end.daemon = True
        end.start()


def _exit(code: int) -> None:
    """End at once, with all that the engine has started if this process leads its group."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(code)


async def _serve(
    told: Mapping[str, Any], tool: ToolMock, channel: IO[str], ledger: IO[str]
) -> None:
    stop = asyncio.Event()
    _watch(asyncio.get_running_loop(), stop, float(told["life_s"]))
    # The engine is looked at in a thread: some adapters run loops of their own for that.
    lab = await asyncio.to_thread(lambda: ServingLaboratory(load_adapter(told["adapter"]), tool))
    _build(lab, told["program"])
    front = Front(lab, FrontLimits(runs_at_once_max=told["runs_at_once_max"]), ledger.write)
    limits = Limits(api_connections_max=CONNECTIONS_MAX, request_body_bytes_max=BODY_MAX_BYTES)
    http = HttpServer(front.handle, limits)
    server = await asyncio.start_server(
        http.connected, told["host"], told["port"], backlog=1024, limit=2 * BODY_MAX_BYTES
    )
    gc.collect()
    gc.freeze()  # what there is now stays: collections need not look through it
    flushing = asyncio.create_task(_flush(ledger))
    try:
        host, port = server.sockets[0].getsockname()[:2]
        info = lab.info
        _say(
            channel,
            {
                "ok": {
                    "host": host,
                    "port": port,
                    "pid": os.getpid(),
                    "engine": info.name,
                    "version": info.version,
                    "capabilities": sorted(info.capabilities),
                    "programs": list(lab.names),
                    "about": info_json(info),
                }
            },
        )
        await stop.wait()
    finally:
        flushing.cancel()
        server.close()
        await http.close()
    _say(channel, {"stopped": front.stats()})


def _build(lab: ServingLaboratory, given: Mapping[str, Any] | None) -> None:
    if given is None:
        for name, (program, plan) in default_programs(lab.info.capabilities).items():
            lab.build(name, program, plan)
        return
    program = Program.from_json(given["program"])
    plan = serving_plan(Plan.from_json(given["plan"]), lab.info.capabilities)
    lab.build(program.name, program, plan)


async def _flush(ledger: IO[str]) -> None:
    while True:
        await asyncio.sleep(LEDGER_FLUSH_S)
        ledger.flush()
