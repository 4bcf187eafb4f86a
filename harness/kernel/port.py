"""The port: what a stage body may ask of the engine that runs it.

An adapter makes one port a stage execution, out of whatever context its engine hands to
a stage. It fills in what the engine has; what is left out raises `NotOffered`, which no
checked program ever meets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from harness.kernel.errors import NotOffered
from harness.kernel.outcome import SinkReport
from harness.kernel.program import Program

__all__ = ["StageBody", "StagePort", "Verdict"]


def _absent(what: str) -> Callable[..., NoReturn]:
    def call(*_args: object, **_kwargs: object) -> NoReturn:
        raise NotOffered(f"the adapter offers no {what}; check required_capabilities first")

    return call


@dataclass(slots=True)  # not frozen: one is made a stage, and that costs thrice as much
class StagePort:
    """The engine's services for one execution of one stage.

    Attributes:
        run: id of the run that this execution belongs to, from the engine's own context.
        read: (stage, key) -> value of that stage's output under that key.
        emit: (type, data) -> what the engine's own call returns, or an awaitable of it; emits an
            event through the engine. A call that returns False says that it was not taken.
        account: () -> the engine's account of the run's events at this moment, as a
            `SinkReport`, or None where it keeps none.
        input: (key) -> value of the run's own input, from what the engine hands the stage.
        identity: () -> {"run", "tenant", "correlation", "trace", "span", "parent"} -> text, as
            far as the engine tells code at the place where it is called: in the stage, in a
            task that it started, in a worker thread, in a cleanup.
        log: (message) -> None; writes a log record as the engine has its users do it.
        store: (key, value) -> None; writes into the engine's store.
        trespass: (how, tenant) -> (refused, values seen, rows changed): an attempt at another
            tenant's rows, in the stage's own session with the engine's store.
        compensation: (name, async callback) -> None; declares what undoes this stage.
        chunk: (value) -> None or awaitable; hands on a partial result. An answer of False says
            that nobody takes any more of them, and the stage ends there.
        heartbeat: () -> None; the stage is alive.
        cleanup: (name, async callback) -> None; registers with the engine's cleanup registry.
        call: (tool name, async callable, timeout in seconds or None) -> awaitable result; the
            engine's own way to call a tool. Its timeout must surface as `TimeoutError`
            somewhere in the raised exception's chain.
        thread: (callable) -> awaitable result; the engine's own way into a worker thread, or
            None, and stages use `asyncio.to_thread` as they would without an engine.
        subpipeline: (program, bodies prefix) -> awaitable `Outcome` of the child run.
        context: () -> plain data on what the stage's context offers.
    """

    run: str
    read: Callable[[str, str], Any] = field(default=_absent("inputs"))
    emit: Callable[[str, Any], Any] = field(default=_absent("events"))
    account: Callable[[], SinkReport | None] | None = None
    input: Callable[[str], Any] = field(default=_absent("run inputs"))
    identity: Callable[[], Mapping[str, str]] = field(default=_absent("identity"))
    log: Callable[[str], Any] = field(default=_absent("log records"))
    store: Callable[[str, Any], Any] = field(default=_absent("store"))
    trespass: Callable[[str, str], tuple[bool, list[Any], int]] = field(default=_absent("store"))
    compensation: Callable[[str, Callable[[], Awaitable[None]]], None] = field(
        default=_absent("compensation")
    )
    chunk: Callable[[Any], Any] = field(default=_absent("streaming"))
    heartbeat: Callable[[], Any] = field(default=_absent("heartbeat"))
    cleanup: Callable[[str, Callable[[], Awaitable[None]]], None] = field(
        default=_absent("cleanup registry")
    )
    call: Callable[[str, Callable[[], Awaitable[Any]], float | None], Awaitable[Any]] | None = None
    thread: Callable[[Callable[[], Any]], Awaitable[Any]] | None = None
    subpipeline: Callable[[Program], Awaitable[Any]] = field(default=_absent("subpipeline"))
    context: Callable[[], dict[str, Any]] = field(default=_absent("context"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a stage body wants to end; the adapter says it in the engine's own terms.

    Attributes:
        kind: ok, fail, skip, cancel_run or cancel_branch.
        value: the output of an ok stage; a plain JSON value. An adapter stores it under the
            key "value" where its engine wants a mapping.
        message: the failure's message or the cancellation's or skip's reason.
    """

    kind: str
    value: Any = None
    message: str = ""


class StageBody(Protocol):
    """The async callable that an adapter puts inside its engine's stage."""

    async def __call__(self, port: StagePort) -> Verdict: ...
