"""Writes the end of a script: its caller, the function that runs and judges, the exit codes.

A check is source of `violation(seen, error, outputs, left, took)`. What of this it does not
look at is not collected, and is no parameter of it in the script; `seen` is a global there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.kernel.plan import Cancel, Plan, RunSpec
from harness.kernel.script_steps import literal

if TYPE_CHECKING:
    from harness.kernel.script import Dialect

__all__ = ["Ending", "completed_only", "helpers_of", "judge", "parameters", "reached_whole"]

RUN_LIMIT_S = 10
JUDGED_S = 2  # after the grace: how long a producer ran on takes a moment to tell
WATCHDOG_S = 28

GUARD = f"""\
if __name__ == "__main__":
    threading.Timer({WATCHDOG_S}, os._exit, (2,)).start()
    asyncio.run(main())"""


def parameters(check: str) -> list[str]:
    """Return what a check looks at of error, outputs, left and took, in this order."""
    body = check.partition(":\n")[2]
    names = ("error", "outputs", "left", "took")
    return [name for name in names if re.search(rf"\b{name}\b", body)]


def reached_whole(check: str) -> bool:
    """Say whether a check looks at outputs one by one: else what the engine gave will do."""
    uses = re.findall(r"(in |\{|str\()?\boutputs\b([\w.]*)", check.partition(":\n")[2])
    return any(not before or after for before, after in uses)


def completed_only(check: str) -> bool:
    """Say whether all that a check asks of outputs is which stages have one."""
    uses = re.findall(r"(in )?\boutputs\b([\w.]*)", check.partition(":\n")[2])
    return all(before and not after for before, after in uses)


def judge(check: str) -> str:
    """Return the check with these parameters only."""
    head, _, body = check.partition(":\n")
    # That nothing was found needs no words where something else could have been returned.
    if body.count("return") > 1 and body.rstrip("\n").endswith("\n    return None"):
        body = body.rstrip("\n").removesuffix("    return None")
    return f"{head.partition('(')[0]}({', '.join(parameters(check))}):\n{body}"


def helpers_of(plan: Plan, check: str) -> set[str]:
    """Return the names of the helpers that `Ending.main` calls."""
    wanted = parameters(check)
    found = {"note"} if re.search(r"\bseen\b", check.partition(":\n")[2]) else set()
    if "left" in wanted and "unretrieved" not in check:
        found.add("stages_left")
    if len(plan.runs) > 1 and {"error", "outputs"} & set(wanted):
        found.add("settled")
    return found


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known when the end of a script is written.

    Attributes:
        notes: the kinds that are noted.
        built: the lines that make the graph and return it.
        shared: whether stages use the graph, as a global.
    """

    plan: Plan
    dialect: Dialect
    clause: str
    check: str
    notes: Collection[str]
    built: Sequence[str]
    shared: bool

    @property
    def many(self) -> bool:
        return len(self.plan.runs) > 1

    @property
    def wanted(self) -> list[str]:
        return parameters(self.check)

    @property
    def kept(self) -> set[str]:
        """What is kept of what comes out: `error`, `outputs`, or both."""
        told = {"error", "outputs"} if "partial" in self.notes else set()
        return told | {"error", "outputs"} & set(self.wanted)

    @property
    def in_place(self) -> bool:
        """Whether `main` itself is the caller: of one run that is sure to end, and is cancelled
        once at most. Otherwise the caller is a task of its own."""
        plain = all(one.at_s is not None and one.times == 1 for one in self.plan.cancels)
        few = len(self.plan.runs) == 1 and len(self.plan.cancels) < 2
        return few and plain and "took" not in self.wanted

    def caller(self) -> str:
        """Return the source of `start`: what a user does who wants a run; "" if it is in place."""
        if self.in_place:
            return ""
        prefix = 'f"{run}/"' if self.many else '""'
        body = [] if self.many else self._graph()
        body += self._prepared()
        if "run.begin" in self.notes:
            body.append(f'note({prefix}, "run.begin")')
        after = self._of_run(self.dialect.after)
        inner = [f"return await {self._run()}"]
        if self.many and "run.end" in self.notes and self._told_how:
            inner = [f"results = await {self._run()}", f'note({prefix}, "run.end", "returned")']
            inner = ["try:", *_indented([*inner, "return results"])]
            inner += ["except BaseException as exc:"]
            inner += _indented([f'note({prefix}, "run.end", type(exc).__name__)', "raise"])
        elif "run.end" in self.notes:
            after.append(f'note({prefix}, "run.end")')
        if after:
            inner = ["try:", *_indented(inner), "finally:", *_indented(after)]
        head = f"async def start({', '.join(self._given()) if self.many else ''}):"
        return "\n".join([head, *_indented([*body, *inner])])

    @property
    def _told_how(self) -> bool:
        """Whether the check asks what a run's caller got."""
        return any(word in self.check for word in ('"returned"', '"CancelledError"'))

    @property
    def _named(self) -> bool:
        """Whether the tasks of several runs have to be told apart."""
        return bool(self.plan.cancels) or bool({"error", "outputs"} & set(self.wanted))

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
            body += [
                "asyncio.get_running_loop().set_exception_handler(",
                "    lambda _, said: unretrieved.append("
                "f\"{said['message']}: {said.get('exception')!r}\")",
                ")",
            ]
        if self.in_place:
            body += self._in_place()
        else:
            body += self._started()
            body += [self._cancel(number, one) for number, one in enumerate(self.plan.cancels)]
            body += self._awaited_all() if self.many else self._awaited()
        if "partial" in self.notes:
            body += self._of_run(self.dialect.partial)
        if "took" in self.wanted:
            body.append("took = time.monotonic() - began")
        if fetches:
            body += [
                "await asyncio.sleep(0.01)  # for whatever only needs a turn or two",
                "tasks = asyncio.all_tasks() - {asyncio.current_task()}",
                "left = [task.get_coro().__qualname__ for task in tasks]",
                "del tasks",
                "gc.collect()",
            ]
        given = {
            "outputs": "outputs" if self.many else self._reached(),
            "left": "left" if fetches else "stages_left()",
        }
        told, clause = [given.get(name, name) for name in self.wanted], self.clause
        body += [
            f"found = violation({', '.join(told)})",
            f'print(f"VIOLATION {clause}: {{found}}" if found else "HOLDS {clause}", flush=True)',
            "os._exit(1 if found else 0)  # at once: what is left running must not hold it up",
        ]
        return "\n".join(["async def main():", *_indented(body), "", "", GUARD])

    def _in_place(self) -> list[str]:
        """Return the lines by which `main` calls the engine, and keeps what comes out."""
        lines = [*self._graph(), *self._prepared()]
        awaits = f"await {self._run()}"
        calls = [f"results = {awaits}" if "outputs" in self.kept else awaits]
        if "run.begin" in self.notes:
            # What a check that looks for it is after is that the graph is refused.
            lines, calls = [], [*lines, 'note("", "run.begin")', *calls]
        ends = self._of_run(self.dialect.after)
        fetches = "unretrieved" in self.check
        for cancel in self.plan.cancels:
            if "cancel.sent" in self.notes:
                lines.append("loop, caller = asyncio.get_running_loop(), asyncio.current_task()")
            lines.append(f"{'timer = ' if fetches else ''}{self._cancel(0, cancel)}")
            ends += ["timer.cancel()"] if fetches else []
        if "run.end" in self.notes:
            ends.append('note("", "run.end")')
        if not self.kept:
            suppressed = "with contextlib.suppress(Exception, asyncio.CancelledError):"
            return [*lines, suppressed, *_indented(calls), *ends]
        start = "results = error = None" if "outputs" in self.kept else "error = None"
        caught = "except (Exception, asyncio.CancelledError) as exc:"
        return [*lines, start, "try:", *_indented(calls), caught, "    error = exc", *ends]

    def _reached(self) -> str:
        if completed_only(self.check) and self.dialect.completed is not None:
            return self.dialect.completed
        if not reached_whole(self.check) and self.dialect.reached is not None:
            return self.dialect.reached
        return "reachable(results, error)"

    def _started(self) -> list[str]:
        """Return the lines that start each run as a task."""
        if not self.many:
            return ["run = asyncio.create_task(start())"]
        starts = [
            f"    {literal(one.id)}: asyncio.create_task(start({self._words(one)})),"
            for one in self.plan.runs
        ]
        if not self._named:
            starts = [line.partition(": ")[2] for line in starts]
            return [*self._graph(), "tasks = [", *(f"    {one}" for one in starts), "]"]
        return [*self._graph(), "tasks = {", *starts, "}"]

    def _words(self, run: RunSpec) -> str:
        """Return the arguments with which one of several runs is started."""
        values = {
            "graph": "graph",
            "run": literal(run.id),
            "tenant": literal(run.tenant),
            "seconds": repr(run.start_s),
        }
        return ", ".join(values[name] for name in self._given())

    @property
    def _limit_s(self) -> float:
        """Seconds for which a run is waited for: longer where a producer has to outlast them."""
        if self.plan.consumer is None or "took" not in self.wanted:
            return RUN_LIMIT_S
        return min(max(RUN_LIMIT_S, self.plan.cleanup_grace_s + JUDGED_S), WATCHDOG_S - JUDGED_S)

    def _awaited(self) -> list[str]:
        """Return the lines that wait for a run that may never end, and keep what comes out."""
        ended = f"await asyncio.wait_for(asyncio.shield(run), {self._limit_s:g})"
        if not {"error", "outputs"} & set(self.wanted):
            return [f"await asyncio.wait([run], timeout={self._limit_s:g})"]
        return [
            "results = error = None" if "outputs" in self.wanted else "error = None",
            "try:",
            f"    results = {ended}" if "outputs" in self.wanted else f"    {ended}",
            "except (Exception, asyncio.CancelledError) as exc:",
            "    error = exc",
        ]

    def _awaited_all(self) -> list[str]:
        """As `_awaited`, for several runs."""
        tasks = "tasks.values()" if self._named else "tasks"
        lines = [f"await asyncio.wait({tasks}, timeout={RUN_LIMIT_S})"]
        if {"error", "outputs"} & set(self.wanted):
            lines.append("outcomes = {run: settled(task) for run, task in tasks.items()}")
        if "error" in self.wanted:
            lines.append("error = next((one for _, one in outcomes.values() if one), None)")
        if "outputs" in self.wanted:
            lines += [
                "outputs = {",
                '    f"{run}/{stage}": value',
                "    for run, outcome in outcomes.items()",
                "    for stage, value in reachable(*outcome).items()",
                "}",
            ]
        return lines

    def _cancel(self, number: int, cancel: Cancel) -> str:
        noted = "cancel.sent" in self.notes
        target, loop = "run", "asyncio.get_running_loop()"
        if self.many:
            target = f"tasks[{literal(cancel.run)}]"
        elif self.in_place:
            target, loop = ("caller", "loop") if noted else ("asyncio.current_task()", loop)
        if cancel.at_s is not None and cancel.times == 1:
            cancels = f"{target}.cancel"
            if noted:
                cancels = f'lambda: note("", "cancel.sent", ({number}, {cancels}()))'
            return f"{loop}.call_later({cancel.at_s!r}, {cancels})"
        again = f", times={cancel.times}, gap={cancel.gap_s!r}" if cancel.times > 1 else ""
        if cancel.at_s is not None:
            work = f"cancel_after({target}, {number}, {cancel.at_s!r}{again})"
        else:
            work = f"cancel_after_turns({target}, {number}, {cancel.at_point}{again})"
        return f'kept.append(asyncio.create_task({work}, name="own cancel"))'
