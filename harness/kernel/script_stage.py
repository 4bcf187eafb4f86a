"""Writes one stage as the lines of an async function's body.

The code does what the interpreter does when nothing is perturbed; it is shaped as a person
would write it, so a block that can end its stage early becomes a nested function only where
a plain `return` would skip something that still has to happen.

A little over 400 lines: one writer, whose methods share the lines that it has written so far.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script_ends import HOWS, always_ends, can_end, ending_of, may_raise
from harness.kernel.script_literals import Unrenderable, identifier, literal, seconds_of
from harness.kernel.script_streams import chunks_in_a_row
from harness.kernel.steps import OPS, Step, step, walk

if TYPE_CHECKING:
    from harness.kernel.script_dialect import Dialect

__all__ = ["StageWriter", "Writers"]

# What is told of an identity within a note.
IDENTITY_MAX = 12
LOOPED_MIN = 3  # sleeps of one length

Writers = Mapping[str, Callable[["StageWriter", Step], None]]


class StageWriter:
    """Writes one stage.

    Attributes:
        lines: the body of the stage's function, not indented.
        helpers: names of the helpers that it calls.
        tools: function name -> source of each tool that it calls.
        programs: the subpipelines that it runs.
        recorded: whether its start and its end are noted by what is put around it; otherwise
            the body does that itself, where somebody wants to know.
    """

    def __init__(
        self,
        writers: Writers,
        dialect: Dialect,
        plan: Plan,
        label: str,
        *,
        many_runs: bool,
        notes: frozenset[str],
        ends: frozenset[str] = frozenset(HOWS),
        once: frozenset[str] = frozenset(),
        alone: bool = False,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        self.writers = writers
        self.dialect = dialect
        self.plan = plan
        self.label = label
        self.many_runs = many_runs
        self.notes = notes
        self.ends = ends
        self.once = once
        self.alone = alone
        self.values = values or {}
        self.recorded = False
        self.lines: list[str] = []
        self.helpers: set[str] = set()
        self.tools: dict[str, str] = {}
        self.programs: list[Program] = []
        self.depth = 0
        self.names: dict[str, int] = {}
        self.me = "me" if many_runs else literal(label)
        self.keeps_items = False
        self.marked = self.marker = False
        self.told_in_place = self.guarded = self.catches = False
        self.released: frozenset[str] = frozenset()
        self.again: frozenset[str] = frozenset()  # released, and acquired more than once
        self.acquired = 0
        self.releases = False

    def write(self, steps: Sequence[Step]) -> None:
        """Write the whole body of the stage."""
        if self.alone and "flaky" not in self.notes:
            steps = [_settled(one) for one in steps]
        every = list(walk(steps))
        told = ending_of(steps, self.ends) if "stage.end" in self.notes else "nowhere"
        self.recorded = told == "around"
        self.told_in_place = told in ("in place", "guarded")
        self.guarded = told == "guarded"
        self.catches = self.guarded and "raise" in self.ends and may_raise(steps)
        self.keeps_items = any(one.op == "ok" and one.args["value"] == "$items" for one in every)
        self.released = frozenset(one.args["name"] for one in every if one.op == "release")
        acquired = [one.args["name"] for one in every if one.op == "acquire"]
        self.again = frozenset(name for name in self.released if acquired.count(name) > 1)
        named = len(self.lines)
        self._one_release([one for one in every if one.op == "cleanup"])
        if self.keeps_items:
            self.line("items = []")
        self.marked = any(is_marker(one) for one in every)
        self.marker = _marker_first(steps)
        if self.marked and not self.marker:
            self.line("given = {}")
        if any(one.op == "flaky" for one in every):
            self.helpers.add("executions")
            self.line(f"execution = execution_number({self.me})")
        if self.released - self.again:
            self.line("released = set()")
        if self.again:
            self.line("held = []")
        if not self.recorded:
            self.note("stage.start")
        if told == "finally":
            self.line("try:")
            self.inner(lambda: self.whole(steps))
            self.line("finally:")
            self.note("stage.end", deeper=1)
        elif self.guarded:
            self.line("try:")
            self.inner(lambda: self.whole(steps))
            self._caught()
        else:
            self.whole(steps)
        if self.many_runs:
            self._name_itself(named)

    def _one_release(self, cleanups: Sequence[Step]) -> None:
        """Write one function for the cleanups of a stage that differ by name and seconds only."""
        bodies = set()
        for one in cleanups:
            lines = self.written(partial(self.release, one, registered=True))
            waits = f"asyncio.sleep({seconds_of(one.args['cleanup_s'])})"
            body = "\n".join(lines).replace(waits, "asyncio.sleep(seconds)")
            bodies.add(body.replace(literal(one.args["name"]), "name"))
        self.releases = len(cleanups) > 1 and len(bodies) == 1 and "\n" in "".join(bodies)
        self.releases = self.releases and not any(one.args["fails"] for one in cleanups)
        if self.releases:
            self.line("async def clean_up(name, seconds):")
            for line in bodies.pop().split("\n"):
                self.line(f"    {line}")
            self.line("")

    def _name_itself(self, at: int) -> None:
        """Say what `me` is that the lines name; one that names it once says so itself."""
        uses = [i for i, line in enumerate(self.lines) for _ in re.findall(r"\bme\b", line)]
        mine = f'f"{{{self.dialect.run_of}}}/{self.label}"'
        if len(uses) == 1 and self.lines[uses[0]].lstrip().startswith("note(me"):
            self.lines[uses[0]] = self.lines[uses[0]].replace("note(me", f"note({mine}", 1)
        elif uses:
            self.lines.insert(at, f"me = {mine}")

    def _caught(self) -> None:
        """Write what notes how an exception ends the stage."""
        if "cancelled" in self.ends:
            self.line("except asyncio.CancelledError:")
            self.note("stage.end", literal("cancelled"), deeper=1)
            self.line("    raise")
        if self.catches:
            self.line("except Exception as exc:")
            self.note("stage.end", 'f"raise:{type(exc).__name__}"', deeper=1)
            self.line("    raise")

    def told_raised(self, error: str, *, deeper: int = 0) -> None:
        """Note that the stage ends by an exception that it raises next, unless that is caught."""
        if not self.told_in_place or self.catches:
            return
        if not self.ends:
            self.note("stage.end", deeper=deeper)
        elif error == "asyncio.CancelledError":
            if "cancelled" in self.ends and not self.guarded:
                self.note("stage.end", literal("cancelled"), deeper=deeper)
        elif "raise" in self.ends:
            self.note("stage.end", literal(f"raise:{error}"), deeper=deeper)

    def whole(self, steps: Sequence[Step]) -> None:
        before = len(self.lines)
        self.block(steps)
        raises = self.lines[before:] and self.lines[-1].startswith(f"{'    ' * self.depth}raise ")
        if not always_ends(steps) and not raises:
            self.end("ok", value="None")

    # Lines

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text if text else "")

    def inner(self, write: Callable[[], None]) -> None:
        """Write an indented block, with `pass` if nothing comes."""
        self.depth += 1
        before = len(self.lines)
        write()
        if len(self.lines) == before:
            self.line("pass")
        self.depth -= 1

    def written(self, write: Callable[[], None]) -> list[str]:
        """Return the lines that something writes, not indented, instead of writing them."""
        lines, depth, self.lines, self.depth = self.lines, self.depth, [], 0
        write()
        mine, self.lines, self.depth = self.lines, lines, depth
        return mine

    def note(self, kind: str, detail: str = "", *, deeper: int = 0) -> None:
        """Write a note, if this kind is wanted."""
        if kind in self.notes:
            self.helpers.add("note")
            tail = f", {detail})" if detail else ")"
            self.line("    " * deeper + f'note({self.me}, "{kind}"{tail}')

    def name(self, base: str) -> str:
        """Return a name that this stage has not used yet."""
        count = self.names[base] = self.names.get(base, 0) + 1
        return base if count == 1 else f"{base}_{count}"

    def words(self, name: str, /, **values: str) -> str:
        template = getattr(self.dialect, name)
        if template is None:
            raise Unrenderable(name)
        return str(template.format(**values))

    def end(self, kind: str, /, **values: str) -> None:
        if self.told_in_place and not self.ends:
            self.note("stage.end")
        elif self.told_in_place and kind in self.ends:
            self.note("stage.end", literal(kind))
        for line in self.words(kind, stage=literal(self.label), **values).splitlines():
            self.line(line)

    def filled(self, value: Any) -> str:
        """Return source for a value in which `$marker` stands for the run's own marker."""
        text = literal(value)
        if not self.marked or "$marker" not in text:
            return text
        if self.marker:
            return _formatted(value)
        self.helpers.add("filled")
        return f"filled({text}, given)"

    # Blocks

    def block(self, steps: Sequence[Step]) -> None:
        past = 0
        for i, one in enumerate(steps):
            past = max(past, i + self._chunks(steps[i:])) if i >= past else past
            if i < past:
                continue
            if (alike := _alike(steps[i:])) >= LOOPED_MIN:
                past = i + alike
                self.line(f"for _ in range({alike}):")
                self.inner(partial(self.sleep, seconds_of(one.args["seconds"])))
                continue
            if one.op == "acquire":
                self._acquire(one, steps[i + 1 :])
                return
            if one.op == "spawn":
                self._spawn(one, steps[i + 1 :])
                return
            writer = self.writers.get(one.op)
            if writer is None:
                raise Unrenderable(f"step {one.op}")
            writer(self, one)
            if OPS[one.op].ends:
                return

    def function(self, name: str, steps: Sequence[Step]) -> None:
        """Write a nested function for a block; it returns what the block ends the stage with."""
        self.line(f"async def {name}():")
        self.inner(lambda: self.block(steps))
        self.line("")

    def _acquire(self, one: Step, rest: Sequence[Step]) -> None:
        name = one.args["name"]
        self.note("acquire", literal(name))
        self.acquired += 1
        mine = literal(f"{name} {self.acquired}")
        if name in self.again:
            self.line(f"held.append({mine})")
        elif name in self.released:
            self.line(f"released.discard({literal(name)})")
        held = self.written(lambda: self.block(rest))

        def release() -> None:
            if name in self.again:
                self.line(f"if {mine} in held:")
                self.inner(lambda: self.line(f"held.remove({mine})"))
                self.inner(lambda: self.release(one))
            elif name in self.released:
                self.line(f"if {literal(name)} not in released:")
                self.inner(lambda: self.release(one))
            else:
                self.release(one)

        if not held:  # nothing can come between
            release()
            return
        self.line("try:")
        for line in held:
            self.line(f"    {line}" if line else "")
        self.line("finally:")
        self.inner(release)

    def release(self, one: Step, *, registered: bool = False) -> None:
        """Write a cleanup: in place where it has a few lines, else as a call."""
        sync = one.args.get("cleanup") == "sync"
        if self.notes & {"release.cut", "interrupt"}:
            call = self._release_call(one)
            if registered and "interrupt" in self.notes and not sync:
                call = f"{call[:-1]}, registered=True)"
            self.line(call)
            return
        name = one.args["name"]
        self.note("release.begin", literal(name))
        waits = f"await asyncio.sleep({seconds_of(one.args['cleanup_s'])})"
        if "release.over" in self.notes:  # also when it is cut short
            self.line("try:")
            self.line("    pass" if sync else f"    {waits}")
            self.line("finally:")
            self.note("release.over", literal(name), deeper=1)
        elif not sync:
            self.line(waits)
        if one.args["fails"]:
            self.note("release.fail", literal(name))
            self.line(f"raise RuntimeError({literal(f'cleanup of {name} failed')})")
        else:
            self.note("release.end", literal(name))

    def _release_call(self, one: Step) -> str:
        fails = ", fails=True" if one.args["fails"] else ""
        name = literal(one.args["name"])
        if one.args.get("cleanup") == "sync":
            self.helpers.add("release_now")
            return f"release_now({self.me}, {name}{fails})"
        self.helpers.add("release")
        return f"await release({self.me}, {name}, {seconds_of(one.args['cleanup_s'])}{fails})"

    def _spawn(self, one: Step, rest: Sequence[Step]) -> None:
        name = self.name(identifier(one.args["name"]))
        task = f"{name}_task"
        self.function(name, one.args["steps"])
        self.note("spawn", literal(one.args["name"]))
        start = f'asyncio.create_task({name}(), name="own {name}")'
        if not one.args["join"]:
            self.line(f"kept.append({start})")
            self.block(rest)
            return
        # A plain `return` inside the block would leave without awaiting the task.
        tail = rest[-1:] if rest and OPS[rest[-1].op].ends and rest[-1].op != "raise" else ()
        body = rest[: len(rest) - len(tail)]
        nested = can_end(body) or (bool(tail) and any(s.op in ("acquire", "spawn") for s in body))
        if nested:
            work = self.name("work")
            self.function(work, rest)
        self.helpers.add("join_all")
        self.line(f"{task} = {start}")
        self.line("try:")
        if nested:
            self.line(f"    output = await {work}()")
        else:
            self.inner(lambda: self.block(body))
        self.line("except BaseException:")
        self.line(f"    {task}.cancel()")
        self.line(f"    await join_all({self.me}, [{task}])")
        self.line("    raise")
        self.line(f"await join_all({self.me}, [{task}])")
        if "spawn.end" in self.notes:
            self.note("spawn.end", literal(one.args["name"]))
        self.line(f"{task}.result()")
        if nested:
            self._return_if_given("output", always_ends(rest))
        else:
            self.block(tail)

    def _return_if_given(self, variable: str, always: bool) -> None:
        if always:
            self.line(f"return {variable}")
            return
        self.line(f"if {variable} is not None:")
        self.line(f"    return {variable}")

    def _chunks(self, steps: Sequence[Step]) -> int:
        """Write the chunks with which steps begin as a loop; return how many steps that were."""
        row = chunks_in_a_row(steps)
        if row is None or (self.marked and "$marker" in str(row.values)):
            return 0
        variable, value, over = "chunk", "chunk", literal(row.values)
        if (numbered := row.numbered()) is not None:
            text, start, end = numbered
            variable, value = "n", "f" + literal(f"{text}{{n}}")
            over = f"range({start}, {end})" if start else f"range({end})"
        self.line(f"for {variable} in {over}:")

        def each() -> None:
            if row.before is not None:
                self.sleep(seconds_of(row.before))
            self.chunk(value)

        self.inner(each)
        return row.steps

    def chunk(self, value: str) -> None:
        """Write a chunk, and the end of the stage where nobody takes any more."""
        self.note("chunk", value)
        words = {"stage": literal(self.label), "value": value}
        told = "interrupt" in self.notes and "await " in (self.dialect.chunk or "")
        if told:
            self.line("try:")
            self.depth += 1
        stops = self.plan.consumer is not None and self.plan.consumer.stop_after is not None
        if self.dialect.refused is None or not stops:
            self.line(self.words("chunk", **words))
        else:  # nobody takes any more: whoever writes a stage stops there
            self.line(f"if {self.words('refused', **words)}:")
            self.inner(lambda: self.end("ok", value="None"))
        if told:
            self.depth -= 1
            self.helpers.add("note_interrupt")
            self.line("except asyncio.CancelledError:")
            self.line(f"    note_interrupt({self.me})")
            self.line("    raise")

    def sleep(self, seconds: str) -> None:
        if "interrupt" in self.notes:
            self.helpers.add("sleep")
            self.line(f"await sleep({self.me}, {seconds})")
        else:
            self.line(f"await asyncio.sleep({seconds})")

    def identity(self, place: str) -> None:
        told = self.words("identity")
        if "identity" in self.notes and len(told) > IDENTITY_MAX:
            self.line(f"told = {told}")
            told = "told"
        self.note("identity", f"({literal(place)}, {told})")


def _alike(steps: Sequence[Step]) -> int:
    """Return with how many sleeps of one length a block begins."""
    alike = takewhile(lambda one: one.op == "sleep" and one == steps[0], steps)
    return sum(1 for _ in alike)


def _settled(one: Step) -> Step:
    """Return the failure in the place of a step that fails the first time, of a stage that is
    executed once."""
    if one.op != "flaky" or not one.args["times"]:
        return one
    return step("raise", error=one.args["error"], message=one.args["message"])


def is_marker(one: Step) -> bool:
    """Say whether a step reads the marker that the run was given."""
    return bool(one.op == "input" and one.args["key"] == "marker")


def _marker_first(steps: Sequence[Step]) -> bool:
    """Say whether the marker has been read, whatever happens, before it is used."""
    for one in steps:
        if is_marker(one):
            return True
        if "$marker" in repr(one):
            return False
    return False


def _formatted(value: Any) -> str:
    """Return source for a value in which the variable `marker` stands for its name."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(k)}: {_formatted(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_formatted, value)) + "]"
    if not isinstance(value, str) or "$marker" not in value:
        return literal(value)
    if value == "$marker":
        return "marker"
    text = literal(value.replace("{", "{{").replace("}", "}}"))
    return "f" + text.replace("$marker", "{marker}")
