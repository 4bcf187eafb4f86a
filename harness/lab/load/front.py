"""The HTTP front of an engine that serves, in the engine's own process and on its own loop.

An engine is used inside a server's loop, so that is where it is measured. What the front
adds is measured by itself: `/echo` goes the same way and runs nothing.

The answer holds what the engine tells its user and nothing of the request: a marker in
it has come through the engine, so that a missing or a foreign one is the engine's doing.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.kernel.errors import HarnessFault
from harness.kernel.plan import RunSpec
from harness.kernel.serving import ServedRun, ServingLaboratory, batch
from harness.proxy.http1 import Request, Response

__all__ = ["Front", "FrontLimits"]

JSON = "application/json"
LINES = "application/x-ndjson"
NAME_MAX = 200
LINES_WAITING_MAX = 1_000
BATCH_RUNS_MAX = 10_000
TIMERS = 2_000


@dataclass(frozen=True, slots=True)
class FrontLimits:
    """Bounds of what is served; what happens at each is named beside it."""

    runs_at_once_max: int = 200  # one more is answered 503 with Retry-After
    ledger_lines_max: int = 2_000_000  # further runs are counted, not written


class Front:
    """Answers requests by runs of a serving laboratory.

    Args:
        ledger: told a line for each run that is over: what it was and what really happened.
    """

    def __init__(
        self, lab: ServingLaboratory, limits: FrontLimits, ledger: Callable[[str], Any]
    ) -> None:
        self.lab = lab
        self.limits = limits
        self._ledger = ledger
        self._lines = 0
        self._number = 0
        self._refused = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def handle(self, request: Request) -> Response:
        """Answer one request; whatever it is, there is an answer."""
        route = (request.method, request.path)
        if route == ("POST", "/runs"):
            return await self._runs(request, stream=False)
        if route == ("POST", "/runs/stream"):
            return await self._runs(request, stream=True)
        if route == ("POST", "/echo"):
            return Response(200, request.body, JSON)
        if route == ("GET", "/health"):
            return _json(200, {"engine": self.lab.info.name, "version": self.lab.info.version})
        if route == ("GET", "/stats"):
            return _json(200, self.stats())
        if route == ("POST", "/batch"):
            return await self._batch(request)
        known = {"/runs", "/runs/stream", "/echo", "/health", "/stats", "/batch"}
        if request.path in known:
            return _json(405, {"error": f"{request.path} does not take {request.method}"})
        return _json(404, {"error": f"no route {request.path[:100]}; known: {sorted(known)}"})

    def stats(self) -> dict[str, Any]:
        """Return counts since the beginning, and what the process holds at this moment."""
        totals = self.lab.totals
        return {
            "runs": totals["runs"],
            "open_runs": self.lab.open_runs,
            "refused": self._refused,
            "strays": self.lab.strays,
            "events": {k: totals[k] for k in ("emitted", "delivered", "dropped")},
            "ledger_lines": self._lines,
            "tasks": len(asyncio.all_tasks()),
            "pid": os.getpid(),
        }

    async def _runs(self, request: Request, *, stream: bool) -> Response:
        try:
            name, spec = self._asked(request)
        except ValueError as exc:
            return _json(400, {"error": str(exc)})
        if self.lab.open_runs >= self.limits.runs_at_once_max:
            self._refused += 1
            response = _json(503, {"error": "as many runs as may be are under way"})
            response.headers["Retry-After"] = "1"
            return response
        if stream:
            return Response(200, b"", LINES, pieces=self._stream(name, spec))
        return _json(200, await self._run(name, spec))

    def _asked(self, request: Request) -> tuple[str, RunSpec]:
        try:
            body = json.loads(request.body or b"{}")
        except (ValueError, RecursionError):
            raise ValueError("the body is not JSON") from None
        if not isinstance(body, dict) or not isinstance(body.get("inputs", {}), dict):
            raise ValueError('expected an object such as {"inputs": {"marker": "…"}}')
        name = body.get("program", self.lab.names[0])
        if name not in self.lab.names:
            raise ValueError(f"no program {str(name)[:50]!r}; known: {', '.join(self.lab.names)}")
        headers = request.headers
        tenant = headers.get("x-tenant", "")
        correlation = headers.get("x-correlation-id", "")
        if not tenant or len(tenant) > NAME_MAX or len(correlation) > NAME_MAX:
            raise ValueError(f"X-Tenant: expected 1 to {NAME_MAX} characters")
        offered = self.lab.info.capabilities
        self._number += 1
        return name, RunSpec(
            id=f"run{self._number}{secrets.token_hex(3)}",
            tenant=tenant,
            inputs=body.get("inputs", {}),
            correlation=correlation if "identity" in offered else "",
            traceparent=headers.get("traceparent", "") if "trace_context" in offered else "",
        )

    async def _run(self, name: str, spec: RunSpec, listener: Any = None) -> dict[str, Any]:
        began_s = time.perf_counter()
        try:
            served = await self.lab.run(name, spec, listener)
        except Exception as exc:
            # An adapter reads every exception of an engine; one that comes out is its own.
            text = f"{type(exc).__name__}: {exc}"[:500]
            self._write(spec, name, {"status": "fault", "fault": text})
            return {"run": spec.id, "status": "fault", "fault": text}
        told = _told(served)
        handled_s = time.perf_counter() - began_s
        self._write(spec, name, _happened(served) | {"handled_s": round(handled_s, 6)})
        return told

    def _write(self, spec: RunSpec, name: str, entry: Mapping[str, Any]) -> None:
        if self._lines >= self.limits.ledger_lines_max:
            return
        self._lines += 1
        marker = str(spec.inputs.get("marker", ""))
        whole = {"marker": marker, "tenant": spec.tenant, "run": spec.id, "program": name, **entry}
        self._ledger(json.dumps(whole, default=repr) + "\n")

    async def _stream(self, name: str, spec: RunSpec) -> AsyncIterator[bytes]:
        """Yield a line for each thing that stages do, then the whole answer.

        The run goes on if nobody reads any more; it is no part of the connection.
        """
        lines: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(LINES_WAITING_MAX)
        left_out = 0

        def tell(stage: str, kind: str, detail: Any) -> None:
            nonlocal left_out
            if lines.full():
                left_out += 1
            else:
                lines.put_nowait({"stage": stage, "kind": kind, "detail": detail})

        task = asyncio.create_task(self._run(name, spec, tell))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        waiting: asyncio.Task[Any] | None = None
        try:
            while not task.done() or not lines.empty():
                waiting = asyncio.create_task(lines.get())
                await asyncio.wait([waiting, task], return_when=asyncio.FIRST_COMPLETED)
                if waiting.done():
                    yield _line(waiting.result())
                else:
                    waiting.cancel()
            yield _line({"answer": task.result(), "lines_left_out": left_out})
        finally:
            if waiting is not None:
                waiting.cancel()

    async def _batch(self, request: Request) -> Response:
        """Run many runs without HTTP around each; say what the process holds afterwards."""
        try:
            asked = json.loads(request.body or b"{}")
            runs, at_once = int(asked.get("runs", 100)), int(asked.get("at_once", 20))
        except (ValueError, TypeError, AttributeError):
            return _json(400, {"error": 'expected {"runs": 100, "at_once": 20}'})
        if not (0 <= runs <= BATCH_RUNS_MAX and 1 <= at_once <= self.limits.runs_at_once_max):
            return _json(400, {"error": f"runs: 0 to {BATCH_RUNS_MAX}; at_once: from 1"})

        async def one(n: int) -> None:
            name = self.lab.names[n % len(self.lab.names)]
            self._number += 1
            # Markers and tenants of the form that users plant: what is kept of these runs and
            # turns up in an answer is then seen there.
            spec = RunSpec(
                f"batch{self._number}",
                tenant=f"dgt{n % 5:016x}",
                inputs={"marker": f"dgm{self._number:016x}"},
            )
            await self.lab.run(name, spec)

        try:
            await batch(one, runs, at_once)
        except HarnessFault as exc:
            return _json(500, {"error": str(exc)})
        await _purge_timers()
        gc.collect()
        return _json(200, self.stats() | {"objects": len(gc.get_objects())})


async def _purge_timers() -> None:
    """Have the loop let go of cancelled timers, and of all that they hold.

    asyncio keeps them until they are due or more than half of more than a hundred; what engines
    set and cancelled would else go up and down in every count of objects.
    """
    loop = asyncio.get_running_loop()
    for handle in [loop.call_later(3_600, _nothing) for _ in range(TIMERS)]:
        handle.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _nothing() -> None:
    pass


def _told(served: ServedRun) -> dict[str, Any]:
    """Return what the engine tells its user, as plain data."""
    outcome = served.outcome.to_json()
    stages = outcome.pop("stages")
    return {
        "run": outcome.pop("run"),
        "status": outcome.pop("status"),
        "outputs": {name: one["value"] for name, one in stages.items()},
        "stages": stages,
        **outcome,
        "took_s": round(served.took_s, 6),
        "measured_s": {name: round(s, 6) for name, s in served.stages.items()},
    }


def _happened(served: ServedRun) -> dict[str, Any]:
    """Return what really happened in a run, for the ledger."""
    return {
        "status": served.outcome.status,
        "took_s": round(served.took_s, 6),
        "stages": {name: round(s, 6) for name, s in served.stages.items()},
        "executions": dict(served.executions),
        "ends": dict(served.ends),
        "completed": [n for n, s in served.outcome.stages.items() if s.status == "completed"],
        "inputs": list(served.inputs),
        "tenants": list(served.tenants),
        "emitted": served.emitted,
        "delivered": served.delivered,
        "dropped": served.dropped,
        "at": round(time.time(), 3),
    }


def _line(data: Any) -> bytes:
    return (json.dumps(data, default=repr) + "\n").encode()


def _json(status: int, data: Any) -> Response:
    return Response(status, json.dumps(data, default=repr).encode(), JSON)
