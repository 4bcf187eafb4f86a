"""What else was measured of an installed Stageflow: facts for claims, scorecards and reports.

Each is asked of the package itself: its README and docstrings are searched, its builders
are given ill-formed graphs, small programs are really run. Its length is the number of
questions: they stand together so that one can see what a statement rests on.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.metadata
import inspect
import logging
import os
import re
import threading
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.adapters.stageflow_hello import hello_source, run_hello
from harness.adapters.stageflow_offers import import_or_none
from harness.adapters.stageflow_probe import DISTRIBUTION, describe_context

if TYPE_CHECKING:
    from harness.adapters.stageflow_probe import Probe

__all__ = ["facts"]

MATCHES_MAX = 5

# How a text would tell a user where the outputs are after a failure.
_PARTIAL = re.compile(
    r"[^.\n]*(?:partial(?:ly)?[ _-](?:results?|outputs?|completed)"
    r"|(?:completed|prior|finished)[ _-](?:results|outputs)[^.\n]*(?:fail|error|cancel)"
    r"|(?:exc|error|err|e)\.(?:results|outputs|partial_results))[^.\n]*",
    re.IGNORECASE,
)


# More turns of the loop than a graph needs to see that a stage has failed and to cancel another.
TURNS = 200


def facts(engine: Probe) -> dict[str, Any]:
    """Return probed facts, all of them plain data."""
    documented = _documented_partial_outputs(engine)
    hello = hello_source(engine)
    public = _public_api(engine)
    interceptors = importlib.import_module("stageflow.pipeline.interceptors")
    default_ms = getattr(
        getattr(interceptors, "TimeoutInterceptor", None), "DEFAULT_TIMEOUT_MS", None
    )
    folder = os.path.dirname(engine.package.__file__ or "")
    return {
        "documented_partial_outputs": bool(documented),
        "documented_partial_outputs_matches": documented,
        "public_api_documented": public[0] / public[1] if public[1] else 0.0,
        "public_api_documented_names": public[0],
        "public_api_names": public[1],
        "typed": os.path.exists(os.path.join(folder, "py.typed")),
        "hello_lines": sum(1 for line in hello.splitlines() if line.strip()),
        "hello_runs": _in_thread(lambda: run_hello(hello)),
        "context_attributes": _in_thread(lambda: asyncio.run(_contexts(engine))),
        "pipeline_context_has_timer": hasattr(engine.PipelineContext, "timer"),
        "contexts_offer_alike": all(
            hasattr(engine.PipelineContext, part) == hasattr(engine.StageContext, part)
            for part in ("timer", "data", "inputs")
        ),
        "validates_graph": _validates_graph(engine),
        "on_failure": _in_thread(lambda: asyncio.run(_on_failure(engine))),
        "default_stage_timeout_s": (
            default_ms / 1000 if default_ms and engine.intercepted else None
        ),
        "accepts_pipeline_context": engine.legacy or engine.pipeline_entry,
        "accepts_async_function_runner": engine.legacy is False or engine.builder_runs,
        "deprecated": "DeprecationWarning" in inspect.getsource(engine.StageGraph.__init__)
        if engine.legacy
        else False,
        "writes_debug_files": "open(" in inspect.getsource(engine.StageGraph.run)
        if engine.legacy
        else False,
        **_code_evidence(engine),
        "register_cleanup_needs_graph_object": hasattr(engine.UnifiedStageGraph, "register_cleanup")
        and not hasattr(engine.StageContext, "register_cleanup"),
    }


def _code_evidence(engine: Probe) -> dict[str, Any]:
    """Answer the questions that earlier reviews of the code answered by reading it."""
    folder = Path(engine.package.__file__ or "").parent
    sources = [path.read_text(encoding="utf-8", errors="replace") for path in folder.rglob("*.py")]
    otel = re.compile(r"^\s*(?:import|from) opentelemetry", re.MULTILINE)
    graph = engine.StageGraph if engine.legacy else engine.UnifiedStageGraph
    return {
        "uses_task_group": "TaskGroup(" in inspect.getsource(graph.run),
        "offers_bounded_sink": "event_queue" in engine.capabilities,
        "emit_leaves_event_to_queue": _leaves_to_queue(engine),
        "imports_opentelemetry": any(otel.search(text) for text in sources),
        "starts_spans_itself": "trace_context" in engine.capabilities,
        "ids_in_contextvars": _in_thread(lambda: asyncio.run(_reads_correlation(engine, True))),
        "ids_in_contextvars_by_itself": _in_thread(
            lambda: asyncio.run(_reads_correlation(engine, False))
        ),
        "snapshot_frozen": _refuses(
            lambda: setattr(engine.ContextSnapshot(), "input_text", "changed"), ()
        ),
        "snapshot_deeply_frozen": _deeply_frozen(engine),
        "auth_before_others": _auth_first(engine),
        "auth_chain_builds": not _refuses(
            lambda: engine.default_interceptors(include_auth=True), ()
        ),
        **_in_thread(lambda: asyncio.run(_guards(engine))),
    }


def _ids() -> dict[str, Any]:
    names = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id")
    return {name: uuid.uuid5(uuid.NAMESPACE_URL, name) for name in names} | {"interaction_id": None}


def _leaves_to_queue(engine: Probe) -> bool:
    """Say whether `try_emit_event` returns before the user's own sink was called."""
    called: list[str] = []

    class Recording:
        async def emit(self, *, type: str, data: Any) -> None:
            called.append(type)

        def try_emit(self, *, type: str, data: Any) -> None:
            called.append(type)

    engine.entry_context(_ids(), Recording(), {}, {}).try_emit_event(type="x", data={})
    return not called


def _deeply_frozen(engine: Probe) -> bool:
    snapshot = engine.ContextSnapshot(metadata={"list": [1], "map": {}})
    for change in (
        lambda: snapshot.metadata.__setitem__("new", 1),
        lambda: snapshot.metadata["list"].append(2),
        lambda: snapshot.metadata["map"].__setitem__("new", 1),
    ):
        _refuses(change, ())
    return bool(snapshot.metadata == {"list": [1], "map": {}})


def _auth_first(engine: Probe) -> bool:
    try:
        chain = sorted(engine.default_interceptors(include_auth=True), key=lambda i: i.priority)
    except ImportError:  # some versions name auth interceptors that they do not have
        return False
    auth = [type(one).__module__.startswith("stageflow.auth") for one in chain]
    return any(auth) and auth == sorted(auth, reverse=True)


async def _reads_correlation(engine: Probe, given: bool) -> bool:
    """Say whether a stage finds a correlation id in the package's context variable."""
    found: list[Any] = []

    class Reading:
        name = "reading"
        kind = engine.StageKind.TRANSFORM

        async def execute(self, ctx: Any) -> Any:
            found.append(engine.tracing and engine.tracing.get_correlation_id())
            return engine.StageOutput.ok()

    if engine.tracing is None:
        return False
    if given:
        engine.tracing.set_correlation_id(uuid.uuid5(uuid.NAMESPACE_URL, "correlation"))
    await _run(engine, Reading)
    return found != [None]


async def _run(engine: Probe, *stages: Any) -> None:
    """Run stages side by side."""
    sink = engine.events.NoOpEventSink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if engine.legacy:
            graph = engine.StageGraph([engine.StageSpec(name=s.name, runner=s) for s in stages])
        else:
            pipeline = engine.Pipeline()
            for stage in stages:
                pipeline = pipeline.with_stage(stage.name, stage, stage.kind)
            graph = pipeline.build()
        await graph.run(engine.entry_context(_ids(), sink, {}, {}))


async def _on_failure(engine: Probe) -> str:
    """Say what becomes of a stage beside one that raises: "cancel" or "continue".

    Neither graph can be told which, so this is what each of them stands for.
    """
    done: list[str] = []

    class Failing:
        name = "failing"
        kind = engine.StageKind.TRANSFORM

        async def execute(self, ctx: Any) -> Any:
            raise ValueError("failed")

    class Beside:
        name = "beside"
        kind = engine.StageKind.TRANSFORM

        async def execute(self, ctx: Any) -> Any:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            done.append(self.name)
            return engine.StageOutput.ok()

    log = logging.getLogger("pipeline_dag")
    before, log.disabled = log.disabled, True  # it tells of the failure that is made here
    with contextlib.suppress(Exception):
        await _run(engine, Beside, Failing)
    log.disabled = before
    return "continue" if done else "cancel"


async def _guards(engine: Probe) -> dict[str, Any]:
    """Put a guard that fails, and one that denies, around a stage: does it run, what is told?"""
    ran: list[str] = []

    class Guard(engine.BaseInterceptor):  # type: ignore[misc, name-defined]
        name = "guard"

        def __init__(self, denies: bool) -> None:
            self.denies = denies

        async def before(self, stage_name: str, ctx: Any) -> Any:
            if self.denies:
                return engine.InterceptorResult(stage_ran=False, error="denied")
            raise RuntimeError("the guard failed")

        async def after(self, stage_name: str, result: Any, ctx: Any) -> None:
            return None

    async def stage() -> Any:
        ran.append("stage")
        started = engine.PipelineContext.now()
        result = importlib.import_module("stageflow.stages.result").StageResult
        return result(name="s", status="completed", started_at=started, ended_at=started, data={})

    run = engine.interceptors.run_with_interceptors
    log = logging.getLogger("interceptors")
    before, log.disabled = log.disabled, True  # it tells of the failure that is made here
    told: dict[str, str] = {}
    for name, denies in (("failing", False), ("denying", True)):
        ctx = engine.PipelineContext(**_ids(), event_sink=engine.events.NoOpEventSink())
        ran.clear()
        told[name] = (await run("s", stage, ctx, [Guard(denies)])).status
        told[f"{name} ran"] = "yes" if ran else "no"
    log.disabled = before
    return {
        "failing_guard_denies": told["failing ran"] == "no",
        "denied_stage_does_not_run": told["denying ran"] == "no",
        "denied_stage_is_told_as": told["denying"],
    }


def _documented_partial_outputs(engine: Probe) -> list[str]:
    """Search README and docstrings for how to reach outputs after a failure."""
    texts = {"README": _readme()}
    for name in ("StageExecutionError", "UnifiedStageExecutionError", "StageError"):
        texts[name] = _docstring(getattr(engine.dag, name, None))
    graph = engine.StageGraph if engine.legacy else engine.UnifiedStageGraph
    texts[graph.__name__] = _docstring(graph)
    texts[f"{graph.__name__}.run"] = _docstring(graph.run)
    return [
        f"{where}: {' '.join(match.group(0).split())}"
        for where, text in texts.items()
        for match in list(_PARTIAL.finditer(text))[:MATCHES_MAX]
    ]


def _public_api(engine: Probe) -> tuple[int, int]:
    """Count public classes and functions with a docstring of their own, and all of them."""
    documented = total = 0
    for name in getattr(engine.package, "__all__", ()):
        value = getattr(engine.package, name, None)
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        total += 1
        documented += bool(_docstring(value))
    return documented, total


def _validates_graph(engine: Probe) -> dict[str, bool]:
    """Say which builders refuse a dependency on a stage that does not exist, and a cycle."""
    builder = importlib.import_module("stageflow.pipeline.builder").PipelineBuilder
    kind = engine.StageKind.TRANSFORM

    class Nothing:
        async def execute(self, ctx: Any) -> None:
            return None

    def pipeline(*edges: tuple[str, tuple[str, ...]]) -> Any:
        made = engine.Pipeline()
        for name, needs in edges:
            made = made.with_stage(name, Nothing, kind, dependencies=needs)
        return made.build()

    def built(*edges: tuple[str, tuple[str, ...]]) -> Any:
        spec = importlib.import_module("stageflow.pipeline.spec").PipelineSpec
        stages = {n: spec(name=n, runner=Nothing, dependencies=d) for n, d in edges}
        return builder(stages=stages).build()

    def graph(*edges: tuple[str, tuple[str, ...]]) -> Any:
        return engine.StageGraph(
            [engine.StageSpec(name=n, runner=Nothing, dependencies=d) for n, d in edges]
        )

    unknown = (("a", ("missing",)),)
    cycle = (("a", ("b",)), ("b", ("a",)))
    out: dict[str, bool] = {}
    for name, make in (
        ("Pipeline.build", pipeline),
        ("PipelineBuilder", built),
        ("StageGraph", graph),
    ):
        out[f"{name} unknown"] = _refuses(make, unknown)
        out[f"{name} cycle"] = _refuses(make, cycle)
    return out


async def _contexts(engine: Probe) -> dict[str, dict[str, Any]]:
    """Run one stage through each entry point, and note what its context offers."""
    seen: dict[str, dict[str, Any]] = {}
    ok = engine.StageOutput.ok

    def stage(entry: str) -> type:
        class Looking:
            name = "looking"
            kind = engine.StageKind.TRANSFORM

            async def execute(self, ctx: Any) -> Any:
                seen[entry] = {
                    k: v for k, v in describe_context(ctx).items() if isinstance(v, bool)
                }
                return ok()

        return Looking

    names = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id")
    ids: dict[str, Any] = {name: uuid.uuid5(uuid.NAMESPACE_URL, name) for name in names}
    ids["interaction_id"] = None
    sink = importlib.import_module("stageflow.events").NoOpEventSink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        unified = engine.Pipeline().with_stage(
            "looking", stage("UnifiedStageGraph.run"), engine.StageKind.TRANSFORM
        )
        # The unified graph's own entry, also where the older one is under test.
        entry = type(engine)(False).entry_context(ids, sink, {}, {})
        await unified.build().run(entry)
        testing = import_or_none("stageflow.testing")
        if testing is not None:
            ctx = testing.create_test_stage_context()
            await stage("stage.execute(create_test_stage_context())")().execute(ctx)
        if engine.legacy:  # the older graph writes files on each run; ask it only if it is ours
            specs = [engine.StageSpec(name="looking", runner=stage("StageGraph.run"))]
            await engine.StageGraph(specs).run(engine.PipelineContext(**ids, event_sink=sink))
    return seen


def _in_thread(function: Callable[[], Any]) -> Any:
    """Call `function` in a thread of its own: this one may have a loop running already."""
    answers: list[Any] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            answers.append(function())
        except Exception as exc:
            failures.append(exc)

    thread = threading.Thread(target=work, name="stageflow-probe")
    thread.start()
    thread.join()
    if failures:
        return f"failed: {type(failures[0]).__name__}: {failures[0]}"
    return answers[0]


def _refuses(make: Callable[..., Any], edges: tuple[Any, ...]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            make(*edges)
        except Exception:
            return True
    return False


def _docstring(value: Any) -> str:
    """Return the docstring that its author wrote, "" for none or one that dataclass made."""
    text = getattr(value, "__doc__", None) or ""
    name = getattr(value, "__name__", "")
    return "" if inspect.isclass(value) and text.startswith(f"{name}(") else text


def _readme() -> str:
    """Return the installed distribution's metadata, which ends with its README."""
    try:
        return importlib.metadata.distribution(DISTRIBUTION).read_text("METADATA") or ""
    except importlib.metadata.PackageNotFoundError:
        return ""
