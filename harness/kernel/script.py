"""Prints a program and a plan as a stand-alone script on plain asyncio.

This is the half that no engine has a say in: what the stages do, the caller that
cancels, the faults, what is noted, how the verdict is told. The engine's half (how a
stage is declared, how a run is started, what a user reaches afterwards) comes as a
`Dialect` of source text from its adapter. A script is written for a maintainer to
read: helpers that its program does not use are left out, and so are notes that its
check does not look at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.kernel.plan import Plan
from harness.kernel.program import Program, Stage
from harness.kernel.script_main import Ending, helpers_of, judge, parameters
from harness.kernel.script_steps import HOWS, StageWriter, Unrenderable, identifier, literal
from harness.kernel.script_texts import (
    HEAD,
    HELPERS,
    RECORDED,
    constants_together,
    few_notes_in_place,
    without_notes,
)

__all__ = ["NOTES", "Dialect", "Unrenderable", "literal", "render", "render_stage"]

# What is noted for some checks only; a script has the notes that its check names.
NOTES = (
    *("run.begin", "run.end", "cancel.sent", "stage.start", "stage.end", "interrupt"),
    *("acquire", "register", "release.begin", "release.end", "release.fail", "release.cut"),
    "release.over",  # the last three in one, in a script only
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
        stage_end: statement for a `finally` around a stage whose chunks are consumed.
        partial: lines that note what is told of chunks, from results and error.
        call: awaitable expression for a tool call, with {tool}, {work} (a function of no
            arguments returning an awaitable) and {timeout}.
        child: awaitable expression for a child run, with {name} and {graph}; gives "ok" or
            another word for how it ended.
        run_of: expression for the name of the run that a context belongs to.
        ends: source of `ending(output) -> str`: ok, fail, skip, cancel_run or cancel_branch.
        build: (program, stage name -> class name) -> body of a function that returns the graph.
        prepare: lines that a run begins with, in which {run} and {tenant} stand for their names.
        run: awaitable expression for the results of a run of `graph`.
        after: lines for a `finally` after that, as `prepare`.
        start: source of what `prepare` and `run` call.
        reach: source of `def reachable(results, error) -> dict`: stage -> value.
        reached: expression for the same in the engine's own terms, from results and error.
        completed: as `reached`, of completed stages only.
        input, identity: expressions, with {key}; what an `identify` step notes.
        log: statement, with {message}.
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
    reach: str
    run_of: str
    start: str = ""
    prepare: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    reached: str | None = None
    completed: str | None = None
    skip: str | None = None
    cancel_run: str | None = None
    cancel_branch: str | None = None
    read: str | None = None
    emit: str | None = None
    chunk: str | None = None
    refused: str | None = None
    stage_end: str | None = None
    partial: tuple[str, ...] = ()
    heartbeat: str | None = None
    cleanup: str | None = None
    context: str | None = None
    call: str = "await ({work})()"
    child: str | None = None
    input: str | None = None
    identity: str | None = None
    log: str | None = None
    account: str | None = None
    plan_words: frozenset[str] = frozenset()
    helpers: Mapping[str, str] = field(default_factory=dict)


def render_stage(
    stage: Stage,
    dialect: Dialect,
    plan: Plan,
    *,
    label: str | None = None,
    many_runs: bool = False,
    notes: Iterable[str] = NOTES,
    ends: Iterable[str] = HOWS,
    once: Iterable[str] = (),
) -> StageWriter:
    """Write one stage's body; see `StageWriter` for what comes out.

    Args:
        label: name of the stage in the notes, if not its own.
        many_runs: whether the name of the run has to be told apart in the notes.
        notes: those of `NOTES` that are wanted.
        ends: those of `HOWS` that are told apart in "stage.end", none if that it ended will do.
        once: tools that are called once in a run.

    Raises:
        Unrenderable: if the dialect has no words for a step.
    """
    writer = StageWriter(
        dialect,
        plan,
        label or stage.name,
        many_runs=many_runs,
        notes=frozenset(notes),
        ends=frozenset(ends),
        once=frozenset(once),
    )
    writer.write(stage.steps)
    return writer


def render(program: Program, plan: Plan, dialect: Dialect, clause: str, check: str) -> str:
    """Return the source of a script that runs `program` under `plan` and judges it by `check`.

    A step that lists several durations takes the first. With several runs, stages are
    noted and their outputs named as `run/stage`, and `error` is the first run's that has one.

    Raises:
        Unrenderable: if the dialect has no words for something in it.
    """
    parts = _Parts(program, plan, dialect, check)
    stages = parts.stages(program, "")
    children = parts.children()
    return parts.assemble(clause, parts.placed([*children, *stages]))


def _beyond(plan: Plan) -> str:
    """Name what of a plan no process can bring about by itself, or return ""."""
    if plan.toxics:
        return "a network with toxics"
    if plan.clock_steps:
        return "a wall clock that is set"
    if any(fault.one_in is not None for fault in plan.faults):
        return "faults that the tape draws"
    return ""


def _surroundings(program: Program, plan: Plan) -> set[str]:
    """Name what a plan, or a stage's declaration, asks for that not every dialect has words for."""
    asked = {
        "layers": plan.layers,
        "sink": plan.sink,
        "consumer": plan.consumer,
        "inputs": any(run.inputs for run in plan.runs),
        "correlation": any(run.correlation for run in plan.runs),
        "traceparent": any(run.traceparent for run in plan.runs),
        "redrives": any(run.redrives for run in plan.runs),
        "retry": any(stage.retry for stage in program.stages),
    }
    return {name for name, wanted in asked.items() if wanted}


# What a child's graph may take, where it is made within a stage.
CHILD_MAX = 83


class _Parts:
    """Collects what a script needs while its stages are being written."""

    def __init__(self, program: Program, plan: Plan, dialect: Dialect, check: str) -> None:
        self.program = program
        self.plan = plan
        self.dialect = dialect
        self.check = check
        self.many = len(plan.runs) > 1
        self.helpers: set[str] = set()
        self.tools: dict[str, str] = {}
        self.classes: dict[int, dict[str, str]] = {}
        self.taken: set[str] = set()
        self.pending: list[Program] = []
        self.notes = frozenset(kind for kind in NOTES if f'"{kind}"' in check)
        self.ends = frozenset(how for how in HOWS if f'"{how}"' in check or f'"{how}:' in check)
        self.once = _called_once(program)
        self.recorded = False
        self.graphs: dict[str, str] = {}
        self.texts: list[str] = []
        wordless = _surroundings(program, plan) - dialect.plan_words
        if wordless:
            raise Unrenderable(", ".join(sorted(wordless)))
        if any(c.at_point is not None and c.at_point < 0 for c in plan.cancels):
            raise Unrenderable("a cancel at a point that the tape draws")
        beyond = _beyond(plan)
        if beyond:
            raise Unrenderable(beyond)

    def stages(self, program: Program, prefix: str) -> list[str]:
        """Return one source text a stage, and note which class each became."""
        classes = self.classes[id(program)] = {}
        texts = []
        for stage in program.stages:
            label = f"{prefix}{stage.name}"
            writer = render_stage(
                stage,
                self.dialect,
                self.plan,
                label=label,
                many_runs=self.many,
                notes=self.notes,
                ends=self.ends,
                once=self.once,
            )
            self.helpers |= writer.helpers
            self.tools.update(writer.tools)
            self.pending += writer.programs
            self.recorded |= writer.recorded
            name = self._class_name(stage.name, prefix)
            classes[stage.name] = name
            recorded = f"@recorded({literal(label)})" if writer.recorded else ""
            head = [
                line.format(cls=name, name=literal(stage.name), recorded=recorded)
                for line in self.dialect.stage_head
                if writer.recorded or line.strip() != "{recorded}"
            ]
            indent = " " * self.dialect.body_indent
            body = [indent + line if line else "" for line in writer.lines]
            texts.append("\n".join([*head, *body]))
        return texts

    def children(self) -> list[str]:
        """Return the stages and graphs of subpipelines, the innermost first."""
        texts: list[str] = []
        done: set[str] = set()
        while self.pending:
            child = self.pending.pop(0)
            if "retry" not in self.dialect.plan_words and any(s.retry for s in child.stages):
                raise Unrenderable("retry")
            name = f"build_{identifier(child.name)}"
            if name in done:
                continue
            done.add(name)
            if any(one.op == "cleanup" for _, one in child.walk()):
                raise Unrenderable("a cleanup registered inside a subpipeline")
            own = self.stages(child, f"{child.name}/")
            self.graphs[name] = self.build(name, child)
            texts = [*own, self.graphs[name], *texts]
        return texts

    def placed(self, bodies: Sequence[str]) -> list[str]:
        """Return the texts with each child's graph that takes one line made where it is run."""
        placed = list(bodies)
        for name, text in self.graphs.items():
            _, _, made = text.partition("\n    return ")
            if "\n" not in text.partition("\n")[2] and len(made) < CHILD_MAX:
                rest = [one for one in placed if one != text]
                placed = [one.replace(f"{name}()", made) for one in rest]
        return placed

    def built(self, program: Program) -> list[str]:
        """Return the lines that make a graph and return it."""
        return self.dialect.build(program, self.classes[id(program)])

    def build(self, name: str, program: Program) -> str:
        lines = (f"    {line}" if line else "" for line in self.built(program))
        return "\n".join([f"def {name}():", *lines])

    def _class_name(self, stage: str, prefix: str) -> str:
        words = re.findall(r"[A-Za-z0-9]+", prefix + stage)
        base = "".join(w[:1].upper() + w[1:] for w in words) or "Stage"
        if not base[0].isalpha() or len(base) == 1:
            base = f"Stage{base}"
        name, number = base, 2
        while name in self.taken:
            name, number = f"{base}{number}", number + 1
        self.taken.add(name)
        return name

    def assemble(self, clause: str, bodies: Sequence[str]) -> str:
        dialect = self.dialect
        built = self.built(self.program)
        shared = any(re.search(r"\bgraph\.", text) for text in bodies)
        ending = Ending(self.plan, dialect, clause, self.check, self.notes, built, shared)
        run, main = ending.caller(), ending.main()
        self.helpers |= helpers_of(self.plan, self.check)
        self.texts = texts = [*bodies, dialect.start, run, main]
        if "reachable(" in main:
            texts.append(dialect.reach)
        if self.recorded:
            self.helpers.add("note")
        engine: list[str] = []
        for name in reversed(list(dialect.helpers)):  # one may call those above it
            text = dialect.helpers[name]
            if text and any(name in one for one in (*texts, *engine, *self._who())):
                engine.insert(0, text)
        engine = [without_notes(text, self.notes) for text in engine]
        if "took" in parameters(self.check):
            self.helpers.add("note")  # it has the time of the start
        closure = self._closure([*engine, *texts])
        own = [self._helper(name) for name in HELPERS if name in closure]
        if "unretrieved" in self.check:
            own.insert(0, "unretrieved = []  # exceptions that nobody fetched")
        pieces = [
            *own,
            *engine,
            *([dialect.ends, self._recorded()] if self.recorded else ()),
            *self.tools.values(),
            *bodies,
            dialect.start,
            run,
            dialect.reach if "reachable(" in main else "",
            judge(self.check),
            main,
        ]
        body = "\n\n\n".join(p.strip("\n") for p in pieces if p.strip())
        body = constants_together(few_notes_in_place(body, self.check))
        first = [one for one in dialect.imports if one.startswith("from __future__")]
        head = HEAD.format(
            clause=clause,
            install=dialect.install,
            imports="\n".join([*(f"{one}\n" for one in first), *_imports(body)]),
            engine="\n".join(_late(one) for one in dialect.imports if one not in first),
        )
        gap = "\n\n" if re.match(r"\w+ = ", body) else "\n\n\n"
        return f"{head}{gap}{body}\n"

    def _recorded(self) -> str:
        text = RECORDED.replace("{WHO}", self._who()[0])
        return without_notes(text, self.notes)

    def _helper(self, name: str) -> str:
        text = HELPERS[name]
        if name == "stages_left":
            mine = "coro.cr_code.co_filename == __file__"
            if self.plan.consumer is not None:  # the user's, and no stage
                mine += ' and coro.__name__ != "consume"'
            nested = self.recorded or any('"own ' in one for one in self.texts)
            # What a stage has started by itself is not the engine's to end.
            more = ' and "<locals>" not in coro.__qualname__' if nested else ""
            return text.replace("{MINE}", mine + more)
        if "interrupt" not in self.notes:
            return without_notes(text.replace("{INTERRUPT}", ""), self.notes)
        if name == "stream":
            text = text.replace("asyncio.sleep(", "sleep(stage, ")
        if name == "release":  # one that the engine runs is not the stage's to be interrupted in
            text = text.replace("fails=False):", "fails=False, registered=False):")
            noted = f"if not registered:\n{' ' * 12}note_interrupt(stage)\n{' ' * 8}"
            return without_notes(text.replace("{INTERRUPT}", noted), self.notes)
        indent = {"join_all": " " * 12, "noted_child": " " * 8}.get(name, "")
        text = text.replace("{INTERRUPT}", f"note_interrupt(stage)\n{indent}")
        return without_notes(text, self.notes)

    def _closure(self, pieces: Iterable[str]) -> set[str]:
        """Return the helpers needed, with those that they call themselves."""
        wanted = set(self.helpers)
        pieces = [*pieces, self._recorded() if self.recorded else ""]
        while True:
            texts = [*self.tools.values(), *pieces]
            texts += [self._helper(n) for n in wanted if n in HELPERS]
            called = {n for text in texts for n in re.findall(r"(?<![\w.])\w+(?=\()", text)}
            called |= {"kept"} if any("kept." in text for text in texts) else set()
            more = (called & HELPERS.keys()) - wanted
            if not more:
                return wanted
            wanted |= more

    def _who(self) -> tuple[str]:
        if self.many:
            return ('f"{' + self.dialect.run_of + '}/{stage}"',)
        return ("stage",)


def _late(line: str) -> str:
    """Mark an import that comes after the hook for those that fail."""
    first, block, rest = line.partition("(")
    return f"{first}{block}  # noqa: E402{rest}" if block else f"{line}  # noqa: E402"


def _imports(body: str) -> list[str]:
    modules = ("asyncio", "contextlib", "functools", "gc", "os", "sys", "threading", "time")
    extra = ("logging", "traceback", "types", "uuid")
    return [
        f"import {m}"
        for m in sorted((*modules, *extra))
        if m in ("os", "sys") or re.search(rf"(?<![\w.]){m}\.", body)
    ]


def _called_once(program: Program) -> frozenset[str]:
    """Return the tools of which a run of the program makes exactly one call."""
    every = list(program.walk())
    if any(one.op in ("subpipeline", "swallow", "flaky") for _, one in every):
        return frozenset()
    calls = [(stage, one.args["tool"]) for stage, one in every if one.op == "call"]
    tools = [tool for _, tool in calls]
    return frozenset(t for stage, t in calls if tools.count(t) == 1 and stage.retry is None)
