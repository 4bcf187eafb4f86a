"""An engine's half of a stand-alone script: its words, as source text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.kernel.program import Program

__all__ = ["NOTES", "Dialect"]

# What is noted for some checks only; a script has the notes that its check names.
NOTES = (
    *("run.begin", "run.end", "cancel.sent", "stage.start", "stage.end", "interrupt"),
    *("acquire", "register", "release.begin", "release.end", "release.fail", "release.cut"),
    # In scripts only: the last three in one, an offer that went well.
    *("release.over", "taken"),
    *("call.begin", "call.end", "fault.fired", "item", "chunk", "emit", "log", "heartbeat"),
    *("offer.begin", "offer.end", "account", "deliver.begin", "deliver.end", "deliver.fail"),
    *("consume", "consume.stop", "partial", "input", "identity", "context"),
    *("read", "mutated", "flaky", "self_cancel", "swallowed", "spawn", "spawn.end"),
    *("scope.enter", "scope.exit", "scope.expired", "scope.leak", "sub.begin", "sub.end"),
    *("thread.begin", "thread.end", "layer.enter", "layer.exit", "layer.raise", "layer.deny"),
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """The engine's half of a script, as source text.

    Statements and expressions are templates for `str.format`; None means that the engine
    has no words for the thing, and a program that needs it cannot be rendered.

    Attributes:
        install: what a script needs and is about, as in "stageflow-core==1.2.0".
        imports: import lines of the engine.
        stage_head: lines that declare a stage and open its body, with {cls}, {name}, {recorded}.
        body_indent: indentation of the body inside them.
        ok, fail, skip, cancel_run, cancel_branch: statements that end a stage, with {stage} and
            {value} or {message}.
        read, context: expressions, with {stage} and {key}.
        emit, chunk, heartbeat, cleanup: statements, with {type} {data}, {stage} {value},
            {callback} {name}.
        refused: expression in place of `chunk`, true where nobody takes chunks any more.
        partial: lines that note what is told of chunks, from `results`, as the engine gives them,
            and `error`.
        call: awaitable expression for a tool call, with {tool}, {work} (a function of no
            arguments returning an awaitable) and {timeout}.
        child: awaitable expression for a child run, with {name} and {graph}; gives "ok" or
            another word for how it ended.
        child_well: the same where only counts whether it ended well: its lines before, and the
            expression of a truth value.
        run_of: expression for the name of the run that a context belongs to.
        own_name: expression for the name of the stage that a body belongs to; None: there is none,
            and stages that do the same are written one by one.
        ends: source of `ending(output) -> str`: ok, fail, skip, cancel_run or cancel_branch.
        build: (program, stage name -> class name) -> body of a function that returns the graph.
        prepare: lines that a run begins with, in which {run} and {tenant} stand for their names.
        run: awaitable expression for the results of a run of `graph`.
        after: lines for a `finally` after that, as `prepare`.
        start: source of what `prepare` and `run` call.
        kept: expression for what of `results` an exception, `error`, still gives the caller.
        value, done: expressions of `one`, what `results` has of a stage: its output, and whether
            it completed ("" if all in it have).
        input, identity: expressions, with {key}; what an `identify` step notes.
        log: statement, with {message}.
        dropped, pending: expressions for how many events the engine says that it has dropped, and
            still has.
        account: expression for the engine's account of events, as the journal notes it.
        plan_words: what of a plan and of stages `build` and `start` render beyond the ids, tenants
            and start times of runs: of layers, sink, inputs, correlation, retry. A plan or
            stage with anything else of that kind cannot be rendered.
        helpers: name -> source of further helpers that the templates above call.
    """

    install: str
    imports: tuple[str, ...]
    stage_head: tuple[str, ...]
    body_indent: int
    ok: str
    fail: str
    ends: str
    build: Callable[[Program, Mapping[str, str]], list[str]]
    run: str
    run_of: str
    value: str
    done: str = ""
    kept: str = "{}"
    start: str = ""
    prepare: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    skip: str | None = None
    cancel_run: str | None = None
    cancel_branch: str | None = None
    read: str | None = None
    emit: str | None = None
    chunk: str | None = None
    refused: str | None = None
    partial: tuple[str, ...] = ()
    heartbeat: str | None = None
    cleanup: str | None = None
    own_name: str | None = None
    context: str | None = None
    call: str = "await ({work})()"
    child: str | None = None
    child_well: tuple[str, ...] = ()
    input: str | None = None
    identity: str | None = None
    log: str | None = None
    account: str | None = None
    dropped: str = "0"
    pending: str = "0"
    plan_words: frozenset[str] = frozenset()
    helpers: Mapping[str, str] = field(default_factory=dict)
