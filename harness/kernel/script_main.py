"""Writes the end of a script: its caller, the function that runs and judges, the exit codes.

A check is source of `violation(seen, error, outputs, left, took)`; its body ends the script's
`main`, which returns what it returns. What of this it does not look at is not collected.
It may also look at `results`, of one run what the engine gives, as the engine gives it, and at
`strays`: the functions of whatever tasks there are a moment after a run, and at `dropped` and
`pending`: by the engine's account of events.

A little over 400 lines: what is collected for a check and what it looks at are decided together.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from harness.kernel.plan import Cancel, Plan, RunSpec
from harness.kernel.script_layout import COLUMNS
from harness.kernel.script_literals import literal
from harness.kernel.script_notes import fields_of

if TYPE_CHECKING:
    from harness.kernel.script import Dialect

__all__ = ["Ending", "body_of", "completed_only", "in_place", "parameters"]

RUN_LIMIT_S = 10
RUN_LIMIT_MAX_S = 24
GIVEN_MAX = 96  # within `main`
SENT_HERE_MAX = 3  # cancels, one statement for each

END = """\
with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION {CLAUSE}: {found}" if found else "HOLDS {CLAUSE}", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up"""

CAUGHT = "except (Exception, asyncio.CancelledError)"


def in_place(plan: Plan) -> bool:
    """Say whether a plan lets a script's `main` be the caller of its one run, which is cancelled
    once at most, and not before it begins."""
    if len(plan.runs) > 1 or len(plan.cancels) > 1:
        return False
    start_s = plan.runs[0].start_s
    return all(
        one.at_s is not None and one.times == 1 and one.at_s >= start_s for one in plan.cancels
    )


def body_of(check: str) -> str:
    """Return the statements of a check; that nothing was found needs no words at their end."""
    body = check.partition(":\n")[2]
    lines = [line for line in body.rstrip("\n").split("\n") if line.startswith(" ")]
    if len(lines) > 1 and lines[-1] == "    return None":
        lines.pop()
    return "\n".join(lines)


def parameters(check: str) -> list[str]:
    """Return what a check looks at of what `main` can tell it, in this order."""
    body = check.partition(":\n")[2]
    names = ("error", "outputs", "results", "left", "strays", "took", "dropped", "pending")
    return [name for name in names if re.search(rf"\b{name}\b", body)]


def completed_only(check: str) -> bool:
    """Say whether all that a check asks of outputs is which stages have one."""
    uses = re.findall(r"(in )?\boutputs\b([\w.\[]*)", check.partition(":\n")[2])
    return all(before and not after for before, after in uses)


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]


def _in_place_of_names(lines: Sequence[str]) -> list[str]:
    """Return lines with what is named in one, for a call in the next one only, put there."""
    out: list[str] = []
    for line in lines:
        named = re.fullmatch(r" *(\w+) = (.+)", out[-1]) if out else None
        if named is not None and line.endswith(f"({named[1]})") and "\n" not in line:
            whole = f"{line.removesuffix(f'({named[1]})')}({named[2]})"
            once = sum(len(re.findall(rf"\b{named[1]}\b", one)) for one in lines) == 2
            if once and len(whole) <= COLUMNS and "await " not in named[2]:
                out[-1] = whole
                continue
        out.append(line)
    return out


def _waits(seconds: float) -> str:
    """Return the statement that waits for a task `run`, for so long at most."""
    return (
        f"await asyncio.wait([run], timeout={seconds!r})" if seconds else "await asyncio.sleep(0)"
    )


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known when the end of a script is written.

    Attributes:
        notes: the kinds that are noted.
        built: the lines that make the graph and return it.
        shared: whether stages use the graph, as a global.
        nested: whether stages start functions of their own as tasks.
        safe: whether nothing is meant to go wrong in a run.
    """

    plan: Plan
    dialect: Dialect
    clause: str
    check: str
    notes: Collection[str]
    built: Sequence[str]
    shared: bool
    nested: bool
    safe: bool

    @property
    def many(self) -> bool:
        return len(self.plan.runs) > 1

    @property
    def wanted(self) -> list[str]:
        return parameters(self.check)

    @property
    def in_place(self) -> bool:
        """Whether `main` itself is the caller: of one run that is sure to end, and is cancelled
        once at most. Otherwise the caller is a task of its own."""
        return in_place(self.plan) and "took" not in self.wanted

    @property
    def shown(self) -> list[str]:
        """The plain variables of several runs, as lines."""
        if not self.many:
            return []
        kept = "[]  # stages" if completed_only(self.check) else "{}  # of stages"
        lines = [f"outputs = {kept} that completed"] if "outputs" in self.wanted else []
        return lines + (["errors = {}  # run -> its exception"] if "error" in self.wanted else [])

    def caller(self) -> str:
        """Return the source of `start`: what a user does who wants a run; "" if it is in place."""
        if self.in_place or self._bare:
            return ""
        prefix = 'f"{run}/"' if self.many else '""'
        body = [] if self.many else self._graph()
        body += self._prepared()
        if "run.begin" in self.notes:
            body.append(f'note({prefix}, "run.begin")')
        after = self._of_run(self.dialect.after)
        inner = [f"return await {self._run()}"]
        if self.many:
            body += self._collected(prefix, after)
        else:
            if "run.end" in self.notes:
                after.append(f'note({prefix}, "run.end")')
            if after:
                inner = ["try:", *_indented(inner), "finally:", *_indented(after)]
            body += inner
        head = f"async def start({', '.join(self._given()) if self.many else ''}):"
        return "\n".join([head, *_in_place_of_names(_indented(body))])

    def _collected(self, prefix: str, after: list[str]) -> list[str]:
        """Return the lines by which one of several runs is made and keeps what comes out."""
        outputs = "outputs" in self.wanted
        call = f"results = await {self._run()}" if outputs else f"await {self._run()}"
        told = "run.end" in self.notes and self._told_how
        if "run.end" in self.notes and not told:
            after = [*after, f'note({prefix}, "run.end")']
        caught = [f"results = {self.dialect.kept}"] if outputs and not self.safe else []
        caught += ["errors[run] = error"] if "error" in self.wanted else []
        well = []
        if told:
            well = [f'note({prefix}, "run.end", "returned")']
            caught.append(f'note({prefix}, "run.end", type(error).__name__)')
        lines = [call, *well]
        if caught:
            named = " as error" if any("error" in line for line in caught) else ""
            lines = ["try:", *_indented(lines), f"{CAUGHT}{named}:", *_indented(caught), *after]
        elif after:
            lines = ["try:", *_indented(lines), "finally:", *_indented(after)]
        if outputs:
            value, done = self.dialect.value, self.dialect.done
            key, when = 'f"{run}/{name}"', f" if {done}" if done else ""
            if completed_only(self.check):
                return [*lines, f"outputs.extend({key} for name, one in results.items(){when})"]
            lines.append("for name, one in results.items():")
            keeps = f"outputs[{key}] = {value}"
            lines += [f"    if {done}:", f"        {keeps}"] if done else [f"    {keeps}"]
        return lines

    def _values(self, key: str = "name") -> str:
        """Return the expression for the outputs of a run's completed stages, from `results`."""
        value, done = self.dialect.value, self.dialect.done
        when = f" if {done}" if done else ""
        if (key, value, when) == ("name", "one", ""):
            return "outputs"  # as they are
        return f"{{{key}: {value} for name, one in results.items(){when}}}"

    @property
    def _bare(self) -> bool:
        """Whether one run is a task that needs no function of its own."""
        noted = {"run.begin", "run.end"} & set(self.notes)
        waits = self.plan.runs[0].start_s
        return not (self.in_place or self.many or noted or self.dialect.after or waits)

    @property
    def _told_how(self) -> bool:
        """Whether the check asks what a run's caller got."""
        return any(word in self.check for word in ('"returned"', '"CancelledError"'))

    def _given(self) -> list[str]:
        """Return what `start` is given for one of several runs."""
        text = "\n".join((*self.dialect.prepare, self.dialect.run))
        given = ["graph", "run"]
        given += ["tenant"] if "{tenant}" in text else []
        return given + (["seconds"] if any(one.start_s for one in self.plan.runs) else [])

    def _graph(self) -> list[str]:
        """Return the lines that make the graph."""
        lines = [re.sub(r"^return ", "graph = ", line) for line in self.built]
        return ["global graph", *lines] if self.shared else lines

    def _of_run(self, lines: Iterable[str]) -> list[str]:
        """Put the names of run and tenant into lines of the dialect's."""
        first = self.plan.runs[0]
        run, tenant = literal(first.id), literal(first.tenant)
        if self.many:
            run, tenant = "run", "tenant"
        return [line.replace("{run}", run).replace("{tenant}", tenant) for line in lines]

    def _prepared(self) -> list[str]:
        lines = []
        if any(one.start_s for one in self.plan.runs):
            seconds = "seconds" if self.many else repr(self.plan.runs[0].start_s)
            lines.append(f"await asyncio.sleep({seconds})")
        return lines + self._of_run(self.dialect.prepare)

    def _run(self) -> str:
        return self._of_run([self.dialect.run])[0]

    def main(self) -> str:
        """Return the source of `main`, and of what starts it."""
        fetches = "unretrieved" in self.check
        body: list[str] = []
        if fetches:
            said = "f\"{said['message']}: {said.get('exception')!r}\""
            body += [
                "asyncio.get_running_loop().set_exception_handler(",
                f"    lambda _, said: unretrieved.append({said})",
                ")",
            ]
        if self.in_place:
            body += self._in_place()
        else:
            body += self._started()
            body += self._cancels()
            body += self._awaited_all() if self.many else self._awaited()
        if self._tells_partial:
            body += self._of_run(self.dialect.partial)
        check = body_of(self.check)
        now = "time.monotonic() - began"
        if len(re.findall(r"\btook\b", check)) == 1 and ", took)" in check:
            check = check.replace(", took)", f", {now})")
        elif "took" in self.wanted:
            body.append(f"took = {now}")
        if fetches or "strays" in self.wanted:
            # A stage that is let go may have something to say yet.
            waits = "1)  # for whatever is let go"
            if "stubborn" not in self.check:
                waits = "0.01)  # for whatever only needs a turn or two"
            body.append(f"await asyncio.sleep({waits}")
            body += [*self._let_go(), "gc.collect()"] if fetches else []
        if "strays" in self.wanted:
            tasks = "asyncio.all_tasks() - {asyncio.current_task()}"
            body.append(f"strays = [task.get_coro().__qualname__ for task in {tasks}]")
        if "left" in self.wanted:
            body += self._left()
        for name in ("dropped", "pending"):
            if name in self.wanted:
                body.append(f"{name} = {getattr(self.dialect, name)}")
        if "outputs" in self.wanted and not self.many and self._reached() != "outputs":
            body.append(f"outputs = {self._reached()}")
        said = END.replace("{CLAUSE}", self.clause)
        return "\n".join(["async def main():", *_indented(body), check, "", "", said])

    def _let_go(self) -> list[str]:
        """Return the lines that forget a run's task, whose exception holds what led to it."""
        if self.in_place or self.many:
            return []
        return ["if run.done() and not run.cancelled():", "    run.exception()", "del run"]

    def _left(self) -> list[str]:
        """Return the lines that find the functions of this file in which tasks still are."""
        others = "asyncio.all_tasks() - {asyncio.current_task()}"
        mine = "coro.cr_code.co_filename == __file__"
        if self.nested:  # what a stage has started by itself is not the engine's to end
            mine += ' and "<locals>" not in coro.__qualname__'
        if self.plan.consumer is not None:  # that is the user's, and no stage
            mine += ' and coro.__name__ != "consume"'
        return [
            f"coros = [task.get_coro() for task in {others}]",
            "for coro in coros:  # each is followed by the one that it awaits",
            '    coros += [coro.cr_await] if hasattr(coro.cr_await, "cr_code") else []',
            f"left = [coro.__qualname__ for coro in coros if {mine}]",
        ]

    def _in_place(self) -> list[str]:
        """Return the lines by which `main` calls the engine, and keeps what comes out."""
        lines = [*self._graph(), *self._prepared()]
        calls = [self._call(f"await {self._run()}")]
        if "run.begin" in self.notes:
            # What a check that looks for it is after is that the graph is refused.
            lines, calls = [], [*lines, 'note("", "run.begin")', *calls]
        ends = self._of_run(self.dialect.after)
        fetches = "unretrieved" in self.check or "strays" in self.wanted
        for cancel in self.plan.cancels:
            if "cancel.sent" in self.notes:
                lines.append("loop, caller = asyncio.get_running_loop(), asyncio.current_task()")
            lines.append(f"{'timer = ' if fetches else ''}{self._cancel(0, cancel)}")
            ends += ["timer.cancel()"] if fetches else []
        if "run.end" in self.notes:
            ends.append('note("", "run.end")')
        return [*lines, *self._kept(calls), *ends]

    def _call(self, awaits: str) -> str:
        return f"{self._results} = {awaits}" if self._keeps else awaits

    @property
    def _keeps(self) -> bool:
        return self._tells_partial or bool({"outputs", "results"} & set(self.wanted))

    @property
    def _tells_partial(self) -> bool:
        """Whether it is noted what is told of the chunks that can be read."""
        return "partial" in self.notes and self.in_place and bool(self.dialect.partial)

    @property
    def _results(self) -> str:
        only = "outputs" in self.wanted and "results" not in self.wanted
        return "outputs" if only and self._reached() == "outputs" else "results"

    def _kept(self, calls: list[str]) -> list[str]:
        """Return calls with what keeps their results, their error, or neither."""
        outputs = self._keeps
        error = self._tells_partial or "error" in self.wanted
        results, kept = self._results, self.dialect.kept
        if not outputs and not error:
            if len(calls) == 1 and not self.plan.cancels:
                call = calls[0].removeprefix("await ")
                line = f"await asyncio.gather({call}, return_exceptions=True)"
                if len(line) + 4 <= COLUMNS:
                    return [line]
            return [
                "with contextlib.suppress(Exception, asyncio.CancelledError):",
                *_indented(calls),
            ]
        if not error:
            named = " as error" if "error" in kept else ""
            return ["try:", *_indented(calls), f"{CAUGHT}{named}:", f"    {results} = {kept}"]
        start, caught = "error = None", "error = exc"
        if outputs:
            start = f"{results}, error = {{}}, None"
            if kept != "{}":
                caught = f"{results}, error = {kept.replace('error', 'exc')}, exc"
        return [start, "try:", *_indented(calls), f"{CAUGHT} as exc:", f"    {caught}"]

    def _reached(self) -> str:
        """Return the expression for a run's outputs, from `results`; "outputs" if it is itself."""
        done = self.dialect.done
        if done and completed_only(self.check):
            return f"[name for name, one in results.items() if {done}]"
        return self._values() if "results" not in self.wanted or done else "results"

    def _started(self) -> list[str]:
        """Return the lines that start each run as a task."""
        if not self.many:
            if not self._bare:
                return ["run = asyncio.create_task(start())"]
            lines = [*self._graph(), *self._prepared()]
            return [*lines, f"run = asyncio.create_task({self._run()})"]
        return [*self._graph(), *self._grouped()]

    def _grouped(self) -> list[str]:
        """Return the lines that start several runs, those together that differ by name only."""
        named = bool(self.plan.cancels)
        words = [w for w in self._given() if w not in ("graph", "run")]
        if words and not named and len({self._words(r, words) for r in self.plan.runs}) > 1:
            each = ", ".join(f"({self._words(run, ('run', *words))})" for run in self.plan.runs)
            line = f"tasks = [asyncio.create_task(start(graph, *one)) for one in [{each}]]"
            if len(line) < GIVEN_MAX:
                return [line]
            if len(f"runs = [{each}]") < GIVEN_MAX:
                return [f"runs = [{each}]", line.replace(f"[{each}]", "runs")]
        lines = []
        for i, (rest, group) in enumerate(
            groupby(self.plan.runs, lambda run: self._words(run, words) if words else "")
        ):
            runs = list(group)
            ids = literal([run.id for run in runs])
            more = f", {rest}" if rest else ""
            task = f"asyncio.create_task(start(graph, run{more}))"
            one = f"asyncio.create_task(start(graph, {literal(runs[0].id)}{more}))"
            if named and len(runs) == 1 and i:
                lines.append(f"tasks[{literal(runs[0].id)}] = {one}")
            elif named:
                lines.append(f"tasks {'|=' if i else '='} {{run: {task} for run in {ids}}}")
            elif len(runs) == 1:
                lines.append(f"tasks.append({one})" if i else f"tasks = [{one}]")
            else:
                lines.append(f"tasks {'+=' if i else '='} [{task} for run in {ids}]")
        return lines

    def _words(self, run: RunSpec, names: Sequence[str] = ()) -> str:
        """Return the arguments with which one of several runs is started."""
        values = {
            "graph": "graph",
            "run": literal(run.id),
            "tenant": literal(run.tenant),
            "seconds": repr(run.start_s),
        }
        return ", ".join(values[name] for name in names or self._given())

    def _awaited(self) -> list[str]:
        """Return the lines that wait for a run that may never end, and keep what comes out."""
        if not self._keeps and "error" not in self.wanted:
            return [f"await asyncio.wait([run], timeout={self._limit_s})"]
        ended = f"await asyncio.wait_for(asyncio.shield(run), {self._limit_s})"
        return self._kept([self._call(ended)])

    @property
    def _limit_s(self) -> int:
        """Seconds after which nobody waits for a run any more: not before its grace is up."""
        if "took" not in self.wanted:
            return RUN_LIMIT_S
        return min(RUN_LIMIT_MAX_S, max(RUN_LIMIT_S, round(self.plan.cleanup_grace_s) + 4))

    def _awaited_all(self) -> list[str]:
        """As `_awaited`, for several runs."""
        tasks = "tasks.values()" if self.plan.cancels else "tasks"
        lines = [f"await asyncio.wait({tasks}, timeout={RUN_LIMIT_S})"]
        if "error" in self.wanted:
            ids = literal([one.id for one in self.plan.runs])
            lines.append(f"error = next((errors[run] for run in {ids} if run in errors), None)")
        return lines

    def _cancels(self) -> list[str]:
        """Return the lines that see to the cancels of runs that are tasks."""
        cancels = self.plan.cancels
        if self.many or len(cancels) != 1 or cancels[0].times > SENT_HERE_MAX:
            return [self._cancel(number, one) for number, one in enumerate(cancels)]
        (cancel,) = cancels
        if cancel.at_s is not None and cancel.times == 1:
            return [self._cancel(0, cancel)]
        # Of one run `main` itself sends them: while it waits, that is over or it is not.
        sends = ["run.cancel()"]
        if "cancel.sent" in self.notes:
            sends = ['note("", "cancel.sent", (0, run.cancel()))']
            if 3 not in fields_of(self.check):
                sends = ['note("", "cancel.sent")', "run.cancel()"]
        if cancel.at_s is not None:
            lines = [_waits(cancel.at_s), *sends]
        else:
            # The first turn is the run's, which a task beside it would have let it have.
            turns = (cancel.at_point or 0) + 1
            lines = [
                f"for _ in range({turns}):  # a number of turns of the event loop, not of seconds",
                "    await asyncio.sleep(0)",
                *sends,
            ]
        return lines + [_waits(cancel.gap_s), *sends] * (cancel.times - 1)

    def _cancel(self, number: int, cancel: Cancel) -> str:
        noted = "cancel.sent" in self.notes
        target, loop = "run", "asyncio.get_running_loop()"
        if self.many:
            target = f"tasks[{literal(cancel.run)}]"
        elif self.in_place:
            target, loop = ("caller", "loop") if noted else ("asyncio.current_task()", loop)
        if cancel.at_s is not None and cancel.times == 1:
            cancels = f"{target}.cancel"
            if noted and 3 in fields_of(self.check):
                cancels = f'lambda: note("", "cancel.sent", ({number}, {cancels}()))'
            elif noted:  # what it said is of no interest
                cancels = f'lambda: (note("", "cancel.sent"), {cancels}())'
            # In place it is put after the wait for the run's start.
            since_s = self.plan.runs[0].start_s if self.in_place else 0.0
            return f"{loop}.call_later({round(cancel.at_s - since_s, 6)!r}, {cancels})"
        again = f", times={cancel.times}, gap={cancel.gap_s!r}" if cancel.times > 1 else ""
        if cancel.at_s is not None:
            work = f"cancel_after({target}, {number}, {cancel.at_s!r}{again})"
        else:
            work = f"cancel_after_turns({target}, {number}, {cancel.at_point}{again})"
        return f'kept.append(asyncio.create_task({work}, name="own cancel"))'
