"""Puts a script together: its stages, helpers, engine half and end."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from harness.kernel.plan import Plan
from harness.kernel.program import Program, Stage
from harness.kernel.script_dialect import NOTES, Dialect
from harness.kernel.script_ends import HOWS
from harness.kernel.script_layout import laid_out
from harness.kernel.script_literals import Unrenderable, identifier, literal
from harness.kernel.script_main import Ending
from harness.kernel.script_notes import noted, of_stages, stages_of, without_notes
from harness.kernel.script_stage import StageWriter
from harness.kernel.script_steps import WRITERS
from harness.kernel.script_texts import HEAD, HELPERS, RECORDED, STREAM

__all__ = ["Parts"]


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


# Variables that stand together at a script's head.
_PLAIN = r"(\w+ = (\{|\[|\(|set\(\)|time\.|contextvars\.)[^\n]*\n?)+"

# Stands for the name of whichever stage it is, in the body of a class of several.
OWN_LABEL, SHARED = "<own name>", "work"

# What a child's graph may take, where it is made within a stage.
CHILD_MAX = 83


class Parts:
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
        self.only = stages_of(check)
        self.once = _called_once(program)
        self.recorded = False
        self.graphs: dict[str, str] = {}
        wordless = _surroundings(program, plan) - dialect.plan_words
        if wordless:
            raise Unrenderable(", ".join(sorted(wordless)))
        if any(c.at_point is not None and c.at_point < 0 for c in plan.cancels):
            raise Unrenderable("a cancel at a point that the tape draws")
        beyond = _beyond(plan)
        if beyond:
            raise Unrenderable(beyond)

    def stages(self, program: Program, prefix: str) -> list[str]:
        """Return one source text a stage, and note which class each became.

        Stages that do the same are of one class, where a stage can say its own name.
        """
        classes = self.classes[id(program)] = {}
        texts = []
        alike = Counter(self._alike(program, stage, prefix) for stage in program.stages)
        shared: dict[str, str] = {}
        for stage in program.stages:
            same = self._alike(program, stage, prefix)
            if same in shared:
                classes[stage.name] = shared[same]
                continue
            label = f"{prefix}{stage.name}"
            several = bool(same) and alike[same] > 1
            writer = self._written(program, stage, prefix, OWN_LABEL if several else label)
            self.helpers |= writer.helpers
            self.tools.update(writer.tools)
            self.pending += writer.programs
            self.recorded |= writer.recorded
            name = self._class_name(SHARED if several else stage.name, prefix)
            classes[stage.name] = name
            if several:
                shared[same] = name
            recorded = f"@recorded({literal(label)})" if writer.recorded else ""
            head = [
                line.format(cls=name, name=literal(stage.name), recorded=recorded)
                for line in self.dialect.stage_head
                if writer.recorded or line.strip() != "{recorded}"
            ]
            indent = " " * self.dialect.body_indent
            body = [indent + self._named(line) if line else "" for line in writer.lines]
            texts.append("\n".join([*head, *body]))
        return texts

    def _alike(self, program: Program, stage: Stage, prefix: str) -> str:
        """Return what stages that do the same have in common, "" where each needs its own text."""
        if self.dialect.own_name is None or prefix:
            return ""
        writer = self._written(program, stage, prefix, OWN_LABEL)
        own = writer.recorded or writer.tools or writer.programs
        return "" if own else "\n".join(writer.lines)

    def _named(self, line: str) -> str:
        """Return a line in which a stage of a shared class says its name."""
        own = self.dialect.own_name or ""
        return line.replace(literal(OWN_LABEL), own).replace(OWN_LABEL, f"{{{own}}}")

    def _written(self, program: Program, stage: Stage, prefix: str, label: str) -> StageWriter:
        writer = StageWriter(
            WRITERS,
            self.dialect,
            self.plan,
            label,
            many_runs=self.many,
            notes=self._notes_of(f"{prefix}{stage.name}"),
            ends=self.ends,
            once=self.once,
            alone=not self.many and not stage.retry and not prefix,
            values=_values(program),
        )
        writer.write(stage.steps)
        return writer

    def _notes_of(self, label: str) -> frozenset[str]:
        """Return the kinds of notes of a stage that are looked at."""
        if self.only is not None and label not in self.only:
            return frozenset()
        of = {kind: of_stages(kind, self.check) for kind in self.notes}
        return frozenset(kind for kind, stages in of.items() if stages is None or label in stages)

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
            own = self.stages(child, f"{child.name}/")
            self.graphs[name] = self.build(name, child)
            if any(one.op == "cleanup" for _, one in child.walk()):
                own, self.graphs[name] = self._known(child, own, self.graphs[name])
            texts = [*own, self.graphs[name], *texts]
        return texts

    def _known(self, child: Program, stages: list[str], build: str) -> tuple[list[str], str]:
        """Return the stages of a subpipeline and what builds its graph, which they register
        cleanups with: it has a name of its own, where it is run once.

        Raises:
            Unrenderable: if there may be several of them at a time.
        """
        if self.many or _times_run(self.program, child.name) > 1:
            raise Unrenderable("a cleanup registered inside a subpipeline that runs several times")
        graph = f"{identifier(child.name)}_graph"
        head, _, made = build.partition("\n    return ")
        build = f"{head}\n    global {graph}\n    {graph} = {made}\n    return {graph}"
        return [re.sub(r"\bgraph\.", f"{graph}.", text) for text in stages], build

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
        if not base[0].isalpha() or len(base) == 1 or keyword.iskeyword(base):
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
        nested = self.recorded or any('"own ' in text for text in bodies)
        safe = _nothing_goes_wrong(self.program, self.plan)
        ending = Ending(
            self.plan, dialect, clause, self.check, self.notes, built, shared, nested, safe
        )
        run, main = ending.caller(), ending.main()
        texts = [*bodies, dialect.start, run, main]
        engine: list[str] = []
        for name in reversed(list(dialect.helpers)):  # one may call those above it
            text = dialect.helpers[name]
            if text and any(name in one for one in (*texts, *engine, *self._who())):
                engine.insert(0, text)
        engine = [without_notes(text, self.notes) for text in engine]
        closure = self._closure([*engine, *texts])
        own = [self._helper(name) for name in HELPERS if name in closure]
        pieces = [
            *own,
            *engine,
            *([dialect.ends, self._recorded()] if self.recorded else ()),
            *self.tools.values(),
            *bodies,
            dialect.start,
            run,
            main,
        ]
        pieces = [one.strip("\n") for p in pieces for one in p.split("\n\n\n") if one.strip()]
        plain = [one for one in pieces if re.fullmatch(_PLAIN, one)]
        body = "\n\n\n".join(one for one in pieces if one not in plain)
        body, variables = noted(body, self.check, [])
        plain = [*variables, *plain, *ending.shown]
        if "unretrieved" in self.check:
            plain.insert(0, "unretrieved = []  # exceptions that nobody fetched")
        if plain:
            body = "\n\n\n".join(["\n".join(plain), body])
        first = [one for one in dialect.imports if one.startswith("from __future__")]
        head = HEAD.format(
            clause=clause,
            install=dialect.install,
            imports="\n".join([*(f"{one}\n" for one in first), *_imports(body)]),
            engine="\n".join(_late(one) for one in dialect.imports if one not in first),
        )
        gap = "\n\n" if plain else "\n\n\n"
        return laid_out(f"{head}{gap}{body}\n")

    def _recorded(self) -> str:
        text = RECORDED.replace("{WHO}", self._who()[0])
        return without_notes(text, self.notes)

    def _helper(self, name: str) -> str:
        text = HELPERS[name]
        if name == "stream" and not self.notes & {"release.begin", "release.over", "release.end"}:
            text = STREAM
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
    modules = ("asyncio", "contextlib", "functools", "gc", "itertools", "os", "sys", "threading")
    extra = ("logging", "time", "traceback", "types", "uuid")
    return [
        f"import {m}"
        for m in sorted((*modules, *extra))
        if m in ("asyncio", "os", "sys", "threading") or re.search(rf"(?<![\w.]){m}\.", body)
    ]


def _nothing_goes_wrong(program: Program, plan: Plan) -> bool:
    """Say whether no stage, layer or caller of a program means to end a run early."""
    fails = any(one.kind in ("raise", "deny") for one in plan.layers)
    limits = plan.stage_timeout_s is not None or any(s.timeout_s for s in program.stages)
    if plan.cancels or plan.faults or plan.sink or fails or limits:
        return False
    calm = ("sleep", "yield", "acquire", "cleanup", "input", "identify", "emit", "log", "ok")
    return all(one.op in calm and not one.args.get("fails") for _, one in program.walk())


def _values(program: Program) -> dict[str, Any]:
    """Return what each stage gives that gives one value."""
    given: dict[str, Any] = {}
    for stage in program.stages:
        values = [one.args["value"] for one in stage.steps if one.op == "ok"]
        if len(values) == 1:
            given[stage.name] = values[0]
    return given


def _times_run(program: Program, child: str) -> int:
    """Return how often a run of a program runs a subpipeline, at most."""
    times = 0
    for stage, one in program.walk():
        if one.op == "subpipeline":
            inner = one.args["program"]
            own = int(inner.name == child) + _times_run(inner, child)
            times += own * (stage.retry.attempts if stage.retry else 1)
    return times


def _called_once(program: Program) -> frozenset[str]:
    """Return the tools of which a run of the program makes exactly one call."""
    every = list(program.walk())
    if any(one.op in ("subpipeline", "swallow", "flaky") for _, one in every):
        return frozenset()
    calls = [(stage, one.args["tool"]) for stage, one in every if one.op == "call"]
    tools = [tool for _, tool in calls]
    return frozenset(t for stage, t in calls if tools.count(t) == 1 and stage.retry is None)
