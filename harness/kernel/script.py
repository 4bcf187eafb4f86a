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

from harness.kernel.plan import Cancel, Plan
from harness.kernel.program import Program, Stage
from harness.kernel.script_steps import StageWriter, Unrenderable, identifier, literal
from harness.kernel.script_texts import ENDING, HEAD, HELPERS, MAIN, RECORDED, UNRETRIEVED

__all__ = ["Dialect", "Unrenderable", "literal", "render", "render_stage"]

RUN_LIMIT_S = 10
WATCHDOG_S = 28

# Notes that only some checks look at; left out of scripts whose check does not name them.
OPTIONAL_NOTES = ("interrupt", "scope.exit", "thread.end", "spawn.end")


@dataclass(frozen=True, slots=True)
class Dialect:
    """The engine's half of a script, as source text.

    Statements and expressions are templates for `str.format`; None means that the engine
    has no words for the thing, and a program that needs it cannot be rendered.

    Attributes:
        title: name and version, as in "stageflow-core 1.2.0".
        install: what to install to run the script.
        imports: import lines of the engine.
        stage_head: lines that declare a stage and open its body, with {cls}, {name}, {recorded}.
        body_indent: indentation of the body inside them.
        ok, fail, skip, cancel_run, cancel_branch: statements that end a stage, with {stage} and
            {value} or {message}.
        read, context: expressions, with {stage} and {key}.
        emit, chunk, heartbeat, cleanup: statements, with {type} {data}, {value}, {callback} {name}.
        call: awaitable expression for a tool call, with {tool}, {work} (a function of no
            arguments returning an awaitable) and {timeout}.
        child: awaitable expression for a child run, with {name} and {graph}; gives "ok" or
            another word for how it ended.
        run_of: expression for the name of the run that a context belongs to.
        ends: source of `ending(output) -> str`: ok, fail, skip, cancel_run or cancel_branch.
        build: (program, stage name -> class name) -> body of a function that returns the graph.
        start: source of `async def start(graph, run, tenant)`, which returns the results.
        reach: source of `def reachable(results, error) -> dict`: stage -> value.
        input, identity: expressions, with {key}; what an `identify` step notes.
        log: statement, with {message}.
        account: expression for the engine's account of events, as the journal notes it.
        plan_words: what of a plan and of stages `build` and `start` render beyond the ids, tenants
            and start times of runs: of layers, sink, inputs, correlation, retry. A plan or
            stage with anything else of that kind cannot be rendered.
        helpers: name -> source of further helpers that the templates above call.
    """

    title: str
    install: str
    imports: tuple[str, ...]
    stage_head: tuple[str, ...]
    body_indent: int
    ok: str
    fail: str
    ends: str
    build: Callable[[Program, Mapping[str, str]], list[str]]
    start: str
    reach: str
    run_of: str
    skip: str | None = None
    cancel_run: str | None = None
    cancel_branch: str | None = None
    read: str | None = None
    emit: str | None = None
    chunk: str | None = None
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
    notes: Iterable[str] = OPTIONAL_NOTES,
) -> StageWriter:
    """Write one stage's body; see `StageWriter` for what comes out.

    Args:
        label: name of the stage in the notes, if not its own.
        many_runs: whether the name of the run has to be told apart in the notes.
        notes: those of `OPTIONAL_NOTES` that are wanted.

    Raises:
        Unrenderable: if the dialect has no words for a step.
    """
    writer = StageWriter(dialect, plan, label or stage.name, many_runs, frozenset(notes))
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
    build = parts.build("build", program)
    children = parts.children()
    return parts.assemble(clause, [*children, *stages, build])


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


class _Parts:
    """Collects what a script needs while its stages are being written."""

    def __init__(self, program: Program, plan: Plan, dialect: Dialect, check: str) -> None:
        self.program = program
        self.plan = plan
        self.dialect = dialect
        self.check = check
        self.many = len(plan.runs) > 1
        self.helpers: set[str] = {"note"}
        self.tools: dict[str, str] = {}
        self.classes: dict[int, dict[str, str]] = {}
        self.taken: set[str] = set()
        self.pending: list[Program] = []
        self.notes = frozenset(n for n in OPTIONAL_NOTES if n in check)
        wordless = _surroundings(program, plan) - dialect.plan_words
        if wordless:
            raise Unrenderable(", ".join(sorted(wordless)))
        if any(c.at_point is not None and c.at_point < 0 for c in plan.cancels):
            raise Unrenderable("a cancel at a point that the tape draws")
        for cancel in plan.cancels:
            self.helpers.add("cancel_after" if cancel.at_s is not None else "cancel_after_turns")

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
            )
            self.helpers |= writer.helpers
            self.tools.update(writer.tools)
            self.pending += writer.programs
            name = self._class_name(stage.name, prefix)
            classes[stage.name] = name
            head = [
                line.format(
                    cls=name, name=literal(stage.name), recorded=f"@recorded({literal(label)})"
                )
                for line in self.dialect.stage_head
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
            texts = [*self.stages(child, f"{child.name}/"), self.build(name, child), *texts]
        return texts

    def build(self, name: str, program: Program) -> str:
        lines = self.dialect.build(program, self.classes[id(program)])
        return "\n".join([f"def {name}():", *(f"    {line}" if line else "" for line in lines)])

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
        start = dialect.start.strip("\n")
        engine = [
            dialect.helpers[n]
            for n in dialect.helpers
            if any(n in text for text in (*bodies, start)) or n in self.helpers
        ]
        own = [self._helper(name) for name in HELPERS if name in self._closure()]
        recorded = RECORDED.replace("{WHO}", self._who())
        pieces = [
            *own,
            *engine,
            dialect.ends,
            recorded,
            *self.tools.values(),
            *bodies,
            start,
            dialect.reach,
            self.check,
            self._main(clause),
        ]
        body = "\n\n\n".join(p.strip("\n") for p in pieces if p.strip())
        head = HEAD.format(
            clause=clause,
            title=dialect.title,
            install=dialect.install,
            imports="\n".join(self._imports(body)),
            engine="\n    ".join(dialect.imports),
        )
        return f"{head}\n\n{body}\n"

    def _helper(self, name: str) -> str:
        text = HELPERS[name]
        if "interrupt" not in self.notes:
            return text.replace("{INTERRUPT}", "")
        if name == "stream":
            text = text.replace("asyncio.sleep(", "sleep(stage, ")
        if name == "release":  # one that the engine runs is not the stage's to be interrupted in
            text = text.replace("fails=False):", "fails=False, registered=False):")
            noted = f"if not registered:\n{' ' * 12}note_interrupt(stage)\n{' ' * 8}"
            return text.replace("{INTERRUPT}", noted)
        indent = {"join_all": " " * 12, "noted_child": " " * 8}.get(name, "")
        return text.replace("{INTERRUPT}", f"note_interrupt(stage)\n{indent}")

    def _closure(self) -> set[str]:
        """Return the helpers needed, with those that they call themselves."""
        wanted = set(self.helpers)
        while True:
            texts = [*self.tools.values(), *(self._helper(n) for n in wanted if n in HELPERS)]
            called = {name for text in texts for name in re.findall(r"(?<![\w.])\w+(?=\()", text)}
            more = (called & HELPERS.keys()) - wanted
            if not more:
                return wanted
            wanted |= more

    def _who(self) -> str:
        if self.many:
            return 'f"{' + self.dialect.run_of + '}/{stage}"'
        return "stage"

    def _imports(self, body: str) -> list[str]:
        modules = ("asyncio", "contextlib", "functools", "os", "sys", "threading", "time", "uuid")
        extra = ("dataclasses", "gc", "traceback")
        return [
            f"import {m}"
            for m in sorted((*modules, *extra))
            if m == "sys" or re.search(rf"\b{m}\.", body)
        ]

    def _main(self, clause: str) -> str:
        runs = [
            f"({literal(run.id)}, {literal(run.tenant)}, {run.start_s!r}),"
            for run in self.plan.runs
        ]
        cancels = [self._cancel(i, c) for i, c in enumerate(self.plan.cancels)]
        text = MAIN.replace("{RUNS}", "\n".join(f"    {line}" for line in runs))
        text = text.replace("{CANCELS}", "".join(f"    {line}\n" for line in cancels))
        text = text.replace("{WATCHDOG}", str(WATCHDOG_S)).replace("{LIMIT}", str(RUN_LIMIT_S))
        told = "unretrieved" in self.check
        for mark, lines in UNRETRIEVED.items():
            text = text.replace(mark, lines if told else "")
        if told:
            text = f"unretrieved = []  # exceptions that nobody fetched\n\n\n{text}"
        text = text.replace("{ENDING}", ENDING["many" if self.many else "one"])
        text = text.replace("{PREFIX}", 'f"{run}/"' if self.many else '""')
        return text.replace("{CLAUSE}", clause)

    def _cancel(self, number: int, cancel: Cancel) -> str:
        target = f"tasks[{literal(cancel.run)}]"
        again = f", times={cancel.times}, gap={cancel.gap_s!r}" if cancel.times > 1 else ""
        if cancel.at_s is not None:
            work = f"cancel_after({target}, {number}, {cancel.at_s!r}{again})"
        else:
            work = f"cancel_after_turns({target}, {number}, {cancel.at_point}{again})"
        return f'kept.append(asyncio.create_task({work}, name="own cancel"))'
