"""What an installed llama-index-workflows offers, found by looking at it.

Names, parameters and docstrings of the package are asked; no version is compared.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.metadata
import inspect
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from harness.kernel.adapter import CAPABILITIES

__all__ = ["FINISH", "Probe", "describe_context", "probe"]

DISTRIBUTION = "llama-index-workflows"
FINISH = "finish"

_MISSING = {
    "stage_timeout": "Workflow(timeout=...) is for the whole run, as its docstring says; neither "
    "run() nor the step decorator takes a timeout for every step",
    "stage_timeout_each": "the step decorator takes no timeout",
    "tool_timeout": "no tools; no name with 'tool' or 'timeout' on Context but wait_for_event's",
    "continue_on_failure": "a step's failure fails the run; where there is catch_error, its "
    "handler puts an event in the failed step's place and knows no branches that go on",
    "worker_thread": "a step that is no coroutine runs in the loop's executor; no Context method "
    "takes a call to a thread or names the threads that are left",
    "heartbeat": "no name with 'heartbeat', 'keepalive' or 'idle_timeout' on Context or step",
    "cancel_branch": "a step can return no event, and then whatever collects it waits for ever",
    "skip": "a step ends with an event, with none or with an exception; nothing says 'skipped'",
    "cleanup_registry": "no Context method registers a cleanup",
    "event_queue": "the stream's queue takes no bound and no policy and gives no account",
    "delivery_count": "the stream's queue gives no account",
    "identity": "Context names neither run nor tenant nor correlation id to a step",
    "log_records": "the package's log records carry no run id for a step's own",
    "trace_context": "spans are left to the separate instrumentation package; a run takes no "
    "traceparent and its result carries no span",
    "tenancy": "no name with 'tenant' in the package",
    "tenant_store": "the state store is one run's; no name with 'tenant' in the package",
    "guard": "no layer that could deny a step; no name with 'guard' or 'auth'",
    "circuit_breaker": "no name with 'circuit' or 'breaker'",
    "rate_limit": "num_workers and num_concurrent_runs limit how many run at once, not how often",
    "idempotency": "no name with 'idempot' on the step decorator or Workflow",
    "checkpoint": "a run's Context can be stored by to_dict() and started again; this adapter "
    "does not drive that yet",
    "compensation": "no name with 'compensat', 'rollback' or 'saga'",
    "interceptors": "neither Workflow nor step takes code to be put around every step",
    "retry": "the step decorator takes no retry_policy",
    "subpipeline": "Workflow.run() gives nothing that a step could await",
    "streaming": "Context has no write_event_to_stream",
    "stream_consumer": "the handler has no stream_events",
    "events": "Context has no write_event_to_stream",
    "cancel_run": "there is no StopEvent",
    "inputs": "Context has no collect_events",
    "run_inputs": "run() takes no keyword arguments for the start event",
    "context": "steps take no Context",
    "concurrent_runs": "run() gives no handler of its own",
}

_SEMANTICS = {
    "GRAPH-1": "a workflow's graph may have cycles (loops are a documented feature), and it is "
    "validated when it is run, or by validate() where there is one; whatever waits for an "
    "event in a cycle that nothing enters waits for ever",
}


def _parameters(function: Any) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return frozenset()


class Probe:
    """The engine's names as the adapter uses them, and what was found out about it."""

    def __init__(self) -> None:
        package = importlib.import_module("workflows")
        self.events = importlib.import_module("workflows.events")
        handler = importlib.import_module("workflows.handler")
        self.Workflow: Any = package.Workflow
        self.Context: Any = package.Context
        self.step: Any = importlib.import_module("workflows.decorators").step
        self.Event: Any = self.events.Event
        self.StartEvent: Any = self.events.StartEvent
        self.StopEvent: Any = self.events.StopEvent
        self.WorkflowFailedEvent: Any = getattr(self.events, "WorkflowFailedEvent", None)
        self.Handler: Any = handler.WorkflowHandler
        self.version = importlib.metadata.version(DISTRIBUTION)
        self.Done = self._class("Done", self.Event, stage=str, value=Any, run=str, given=dict)
        self.Chunk = self._class("Chunk", self.Event, stage=str, value=Any)
        self.Emitted = self._class("Emitted", self.Event, name=str, data=Any)
        self.capabilities, self.missing = self._capabilities()
        self.semantics: Mapping[str, str] = _SEMANTICS

    def _class(self, name: str, base: Any, /, **fields: Any) -> Any:
        return type(name, (base,), {"__annotations__": fields, "__module__": __name__})

    def event(self, name: str) -> Any:
        """Return a new event class for one stage's output."""
        return type(name, (self.Done,), {"__module__": __name__})

    def step_name(self, stage: str) -> str:
        """Return a step's name: the stage's own where that is a name the class has not got."""
        if stage.isidentifier() and not hasattr(self.Workflow, stage) and stage != FINISH:
            return stage
        return "stage_" + re.sub(r"\W", "_", stage)

    def add_step(  # noqa: PLR0917 (the parts of one step)
        self,
        workflow: type,
        function: Callable[..., Any],
        name: str,
        accepts: list[Any],
        returns: list[Any],
        retry: Any,
    ) -> None:
        """Declare a free function as a step, with the annotations that a user would write."""
        function.__name__ = function.__qualname__ = name
        function.__annotations__ = {
            "ctx": self.Context,
            "ev": functools.reduce(operator.or_, accepts),
            "return": functools.reduce(operator.or_, returns),
        }
        options = {"retry_policy": retry} if retry is not None else {}
        self.step(workflow=workflow, **options)(function)

    def _capabilities(self) -> tuple[frozenset[str], dict[str, str]]:
        streams = hasattr(self.Context, "write_event_to_stream")
        step = _parameters(self.step)
        found = {
            "stage_timeout_each": any("timeout" in name for name in step),
            "subpipeline": hasattr(self.Handler, "__await__"),
            "cancel_run": self.StopEvent is not None,
            "inputs": hasattr(self.Context, "collect_events"),
            "run_inputs": "kwargs" in _parameters(self.Workflow.run),
            "events": streams,
            "streaming": streams,
            "stream_consumer": streams and hasattr(self.Handler, "stream_events"),
            "context": True,
            "concurrent_runs": hasattr(self.Handler, "stream_events"),
            "retry": "retry_policy" in step,
        }
        offered = frozenset(name for name, there in found.items() if there)
        return offered, {name: _MISSING[name] for name in CAPABILITIES if name not in offered}

    def facts(self) -> dict[str, Any]:
        cancel = inspect.getdoc(self.Handler.cancel_run) or ""
        return {
            "on_failure": "cancel",
            "takes_grace": False,  # no setting says how long stages may take to end
            "context_attributes": asyncio.run(self._contexts()),
            "cancel_run_documented": cancel.split("\n", 1)[0],
            "run_timeout_default_s": inspect.signature(self.Workflow).parameters["timeout"].default,
        }

    async def _contexts(self) -> dict[str, dict[str, bool]]:
        """Say what a step finds in its context on each of the entry points that there are."""
        found: dict[str, dict[str, bool]] = {}
        entry = ""

        async def look(ctx: Any, ev: Any) -> Any:
            found[entry] = describe_context(ctx)
            return self.StopEvent()

        workflow: Any = type("Looking", (self.Workflow,), {})
        self.add_step(workflow, look, "look", [self.StartEvent], [self.StopEvent], None)
        entry = "Workflow.run"
        await workflow(timeout=None).run()
        try:
            runner = importlib.import_module("workflows.testing").WorkflowTestRunner
        except ImportError:
            runner = None
        if runner is not None:
            entry = "WorkflowTestRunner.run"
            await runner(workflow(timeout=None)).run()
        if "stepwise" in _parameters(self.Workflow.run):
            entry = "Workflow.run(stepwise=True)"
            handler = workflow(timeout=None).run(stepwise=True)
            while not handler.is_done():
                for event in await handler.run_step() or ():
                    handler.ctx.send_event(event)
        return found


def probe() -> Probe:
    """Import the engine and look at it."""
    return Probe()


# What contexts of any engine are compared by -> how this one calls it.
_PARTS = {
    "data": ("store", "get"),
    "inputs": ("collect_events",),
    "event_sink": ("write_event_to_stream",),
    "timer": ("timer", "deadline"),
    "has_run_id": ("run_id",),
}


def describe_context(ctx: Any) -> dict[str, bool]:
    """Say in plain data what a step's context offers."""
    return {part: any(hasattr(ctx, n) for n in names) for part, names in _PARTS.items()}
