"""The steps that ask the engine for a service: events, ids, logs, the store, compensations.

As in `interpreter`, each step is compiled into a closure; what the engine answers is
noted in the journal beside what really happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.kernel.steps import Step

if TYPE_CHECKING:
    from harness.kernel.interpreter import Execution

__all__ = ["COMPILERS", "filled", "note_identity"]

Op = Callable[["Execution"], Awaitable[None]]

MARKER = "$marker"
OTHER = "$other"


def filled(value: Any, marker: str | None) -> Any:
    """Return a value of the program with the run's marker in the place of `$marker`."""
    if isinstance(value, str):
        return value if marker is None else value.replace(MARKER, marker)
    if isinstance(value, list):
        return [filled(v, marker) for v in value]
    if isinstance(value, Mapping):
        return {k: filled(v, marker) for k, v in value.items()}
    return value


def note_identity(ex: Execution, place: str) -> None:
    """Note for whom the code at this place works, as far as the engine says."""
    ex.note("identity", (place, dict(ex.port.identity())))


async def _settled(answer: Any) -> Any:
    return await answer if hasattr(answer, "__await__") else answer


def _emit(one: Step) -> Op:
    type_, data = one.args["type"], one.args["data"]

    async def op(ex: Execution) -> None:
        ex.note("emit", type_)
        await _settled(ex.port.emit(type_, filled(data, ex.marker)))

    return op


def _flood(one: Step) -> Op:
    producer, count, every = one.args["producer"], one.args["count"], one.args["every_s"]

    async def op(ex: Execution) -> None:
        # The producer of another run, or of another execution, is another one.
        whole = f"{ex.run}/{ex.stage}/{producer}"
        for n in range(count):
            try:
                await asyncio.sleep(ex.seconds(every))
            except asyncio.CancelledError:
                ex.note("interrupt")
                raise
            ex.note("offer.begin", (whole, n))
            try:
                answer = await _settled(ex.port.emit("flood", {"producer": whole, "n": n}))
            except BaseException as exc:
                ex.note("offer.end", (whole, n, f"raise:{type(exc).__name__}"))
                if isinstance(exc, asyncio.CancelledError):
                    ex.note("interrupt")
                raise
            ex.note("offer.end", (whole, n, "refused" if answer is False else "taken"))
            said = None if ex.port.account is None else ex.port.account()
            if said is not None:
                counts = (said.offered, said.delivered, said.dropped, said.pending, said.queue_max)
                ex.note("account", counts)

    return op


def _input(one: Step) -> Op:
    key = one.args["key"]

    async def op(ex: Execution) -> None:
        value = ex.port.input(key)
        if key == "marker":
            ex.marker = str(value)
        ex.note("input", (key, value))

    return op


def _identify(one: Step) -> Op:
    place = one.args["place"]

    async def op(ex: Execution) -> None:
        note_identity(ex, place)

    return op


def _log(one: Step) -> Op:
    message = one.args["message"]

    async def op(ex: Execution) -> None:
        text = filled(message, ex.marker)
        ex.note("log", text)
        ex.port.log(text)

    return op


def _store(one: Step) -> Op:
    key, value = one.args["key"], one.args["value"]

    async def op(ex: Execution) -> None:
        written = filled(value, ex.marker)
        named = filled(key, ex.marker)
        ex.note("store", (named, written))
        await _settled(ex.port.store(named, written))

    return op


def _victim(ex: Execution, named: str) -> str | None:
    """Return whose rows are to be got at; None if that is the run's own tenant."""
    runs = {run.id: run.tenant for run in ex.world.plan.runs}
    own = runs.get(ex.run, runs.get(ex.run.split("/", 1)[0]))
    if named == OTHER:
        return next((tenant for tenant in runs.values() if tenant != own), None)
    return None if named == own else named


def _trespass(one: Step) -> Op:
    how, named = one.args["how"], one.args["tenant"]

    async def op(ex: Execution) -> None:
        tenant = _victim(ex, named)
        if tenant is not None:
            refused, seen, changed = ex.port.trespass(how, tenant)
            ex.note("trespass", (how, tenant, refused, list(seen), changed))

    return op


def _compensate(one: Step) -> Op:
    name, duration, fails = one.args["name"], one.args["seconds"], one.args["fails"]

    async def op(ex: Execution) -> None:
        seconds = ex.seconds(duration)

        async def undo() -> None:
            ex.note("undo.begin", name)
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                ex.note("undo.cut", name)
                raise
            if fails:
                from harness.kernel.interpreter import StageFault

                ex.note("undo.fail", name)
                raise StageFault(f"compensation {name} failed")
            ex.note("undo.end", name)

        ex.note("compensate", name)
        ex.port.compensation(name, undo)

    return op


def _flaky(one: Step) -> Op:
    times, error, message = one.args["times"], one.args["error"], one.args["message"]

    async def op(ex: Execution) -> None:
        if not ex.counted:  # of several such steps in one execution, all see the same number
            ex.counted.append(ex.world.execution_number(ex.run, ex.stage))
        number = ex.counted[0]
        ex.note("flaky", (number, number <= times))
        if number <= times:
            from harness.kernel.interpreter import ERROR_TYPES

            if error == "CancelledError":
                ex.note("self_cancel")
            raise ERROR_TYPES[error](filled(message, ex.marker))

    return op


COMPILERS: dict[str, Callable[[Step], Op]] = {
    "emit": _emit,
    "flood": _flood,
    "input": _input,
    "identify": _identify,
    "log": _log,
    "store": _store,
    "trespass": _trespass,
    "compensate": _compensate,
    "flaky": _flaky,
}
