"""Writes a stage's steps as the lines of an async function's body.

Every operation of `harness.kernel.steps.OPS` has a writer of its own here. The code
does what the interpreter does when nothing is perturbed; it is shaped as a person would
write it, so a block that can end its stage early becomes a nested function only where
a plain `return` would skip something that still has to happen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.steps import OPS, Step, walk

if TYPE_CHECKING:
    from harness.kernel.script import Dialect

__all__ = ["StageWriter", "Unrenderable", "identifier", "literal"]

# A task that waits for ever on a bare future can be collected as garbage; a timer keeps it.
NEVER_S = 86_400


class Unrenderable(Exception):
    """The dialect has no words for something in the program; says for what."""


def literal(value: Any) -> str:
    """Return Python source for a plain value, texts in double quotes as in hand-written code."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value.isprintable() else repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(literal, value)) + ("," if len(value) == 1 else "") + ")"
    return repr(value)


def identifier(name: str) -> str:
    """Return a Python name made from a stage's, tool's or program's name."""
    text = re.sub(r"\W+", "_", name).strip("_").lower()
    return text if text and not text[0].isdigit() else f"n_{text}"


class StageWriter:
    """Writes one stage.

    Attributes:
        lines: the body of the stage's function, not indented.
        helpers: names of the helpers that it calls.
        tools: function name -> source of each tool that it calls.
        programs: the subpipelines that it runs.
    """

    def __init__(
        self, dialect: Dialect, plan: Plan, label: str, many_runs: bool, notes: frozenset[str]
    ) -> None:
        self.dialect = dialect
        self.plan = plan
        self.label = label
        self.many_runs = many_runs
        self.notes = notes
        self.lines: list[str] = []
        self.helpers: set[str] = {"note"}
        self.tools: dict[str, str] = {}
        self.programs: list[Program] = []
        self._depth = 0
        self._names: dict[str, int] = {}
        self._me = "me" if many_runs else literal(label)
        self._items = False
        self._marked = False
        self._released: frozenset[str] = frozenset()

    def write(self, steps: Sequence[Step]) -> None:
        """Write the whole body of the stage."""
        every = list(walk(steps))
        self._items = any(one.op == "ok" and one.args["value"] == "$items" for one in every)
        self._released = frozenset(one.args["name"] for one in every if one.op == "release")
        if self.many_runs:
            self._line(f'me = f"{{{self.dialect.run_of}}}/{self.label}"')
        if self._items:
            self._line("items = []")
        self._marked = any(one.op == "input" and one.args["key"] == "marker" for one in every)
        if self._marked:
            self._line("given = {}")
        if any(one.op == "flaky" for one in every):
            self.helpers.add("executions")
            self._line(f"execution = execution_number({self._me})")
        if self._released:
            self._line("released = set()")
        self._block(steps)
        if not _always_ends(steps):
            self._end("ok", value="None")

    # Lines

    def _line(self, text: str) -> None:
        self.lines.append("    " * self._depth + text if text else "")

    def _inner(self, write: Callable[[], None]) -> None:
        """Write an indented block, with `pass` if nothing comes."""
        self._depth += 1
        before = len(self.lines)
        write()
        if len(self.lines) == before:
            self._line("pass")
        self._depth -= 1

    def _note(self, kind: str, detail: str = "") -> None:
        self._line(f'note({self._me}, "{kind}"' + (f", {detail})" if detail else ")"))

    def _name(self, base: str) -> str:
        """Return a name that this stage has not used yet."""
        count = self._names[base] = self._names.get(base, 0) + 1
        return base if count == 1 else f"{base}_{count}"

    def _words(self, name: str, /, **values: str) -> str:
        template = getattr(self.dialect, name)
        if template is None:
            raise Unrenderable(name)
        return str(template.format(**values))

    def _end(self, kind: str, /, **values: str) -> None:
        for line in self._words(kind, stage=literal(self.label), **values).splitlines():
            self._line(line)

    def _filled(self, value: Any) -> str:
        """Return source for a value in which `$marker` stands for the run's own marker."""
        text = literal(value)
        if not self._marked or "$marker" not in text:
            return text
        self.helpers.add("filled")
        return f"filled({text}, given)"

    @staticmethod
    def _seconds(duration: Any) -> str:
        return literal(duration[0] if isinstance(duration, tuple) else duration)

    # Blocks

    def _block(self, steps: Sequence[Step]) -> None:
        for i, one in enumerate(steps):
            if one.op == "acquire":
                self._acquire(one, steps[i + 1 :])
                return
            if one.op == "spawn":
                self._spawn(one, steps[i + 1 :])
                return
            writer = getattr(self, f"_op_{one.op}", None)
            if writer is None:
                raise Unrenderable(f"step {one.op}")
            writer(one)
            if OPS[one.op].ends:
                return

    def _function(self, name: str, steps: Sequence[Step]) -> None:
        """Write a nested function for a block; it returns what the block ends the stage with."""
        self._line(f"async def {name}():")
        self._inner(lambda: self._block(steps))
        self._line("")

    def _acquire(self, one: Step, rest: Sequence[Step]) -> None:
        name = one.args["name"]
        self._note("acquire", literal(name))
        if name in self._released:
            self._line(f"released.discard({literal(name)})")
        self._line("try:")
        self._inner(lambda: self._block(rest))
        self._line("finally:")

        def release() -> None:
            if name in self._released:
                self._line(f"if {literal(name)} not in released:")
                self._depth += 1
            self._line(self._release_call(one))
            if name in self._released:
                self._depth -= 1

        self._inner(release)

    def _release_call(self, one: Step) -> str:
        fails = ", fails=True" if one.args["fails"] else ""
        name = literal(one.args["name"])
        if one.args.get("cleanup") == "sync":
            self.helpers.add("release_now")
            return f"release_now({self._me}, {name}{fails})"
        self.helpers.add("release")
        return f"await release({self._me}, {name}, {self._seconds(one.args['cleanup_s'])}{fails})"

    def _spawn(self, one: Step, rest: Sequence[Step]) -> None:
        name = self._name(identifier(one.args["name"]))
        task = f"{name}_task"
        self._function(name, one.args["steps"])
        self._note("spawn", literal(one.args["name"]))
        start = f'asyncio.create_task({name}(), name="own {name}")'
        if not one.args["join"]:
            self._line(f"kept.append({start})")
            self._block(rest)
            return
        # A plain `return` inside the block would leave without awaiting the task.
        tail = rest[-1:] if rest and OPS[rest[-1].op].ends and rest[-1].op != "raise" else ()
        body = rest[: len(rest) - len(tail)]
        nested = _can_end(body) or (bool(tail) and any(s.op in ("acquire", "spawn") for s in body))
        if nested:
            work = self._name("work")
            self._function(work, rest)
        self.helpers.add("join_all")
        self._line(f"{task} = {start}")
        self._line("try:")
        if nested:
            self._line(f"    output = await {work}()")
        else:
            self._inner(lambda: self._block(body))
        self._line("except BaseException:")
        self._line(f"    {task}.cancel()")
        self._line(f"    await join_all({self._me}, [{task}])")
        self._line("    raise")
        self._line(f"await join_all({self._me}, [{task}])")
        if "spawn.end" in self.notes:
            self._note("spawn.end", literal(one.args["name"]))
        self._line(f"{task}.result()")
        if nested:
            self._return_if_given("output", _always_ends(rest))
        else:
            self._block(tail)

    def _return_if_given(self, variable: str, always: bool) -> None:
        if always:
            self._line(f"return {variable}")
            return
        self._line(f"if {variable} is not None:")
        self._line(f"    return {variable}")

    # Operations

    def _op_sleep(self, one: Step) -> None:
        self._sleep(self._seconds(one.args["seconds"]))

    def _sleep(self, seconds: str) -> None:
        if "interrupt" in self.notes:
            self.helpers.add("sleep")
            self._line(f"await sleep({self._me}, {seconds})")
        else:
            self._line(f"await asyncio.sleep({seconds})")

    def _op_yield(self, one: Step) -> None:
        if one.args["times"] == 1:
            self._sleep("0")
            return
        self._line(f"for _ in range({one.args['times']}):")
        self._inner(lambda: self._sleep("0"))

    def _op_release(self, one: Step) -> None:
        self.helpers.add("release_now")
        self._line(f"released.add({literal(one.args['name'])})")
        self._line(f"release_now({self._me}, {literal(one.args['name'])})")

    def _op_using(self, one: Step) -> None:
        self.helpers.add("held")
        fails = ", fails=True" if one.args["fails"] else ""
        seconds = self._seconds(one.args["cleanup_s"])
        self._line(f"async with held({self._me}, {literal(one.args['name'])}, {seconds}{fails}):")
        self._inner(lambda: self._block(one.args["steps"]))

    def _op_cleanup(self, one: Step) -> None:
        callback = self._name(f"release_{identifier(one.args['name'])}")
        self._line(f"async def {callback}():")

        def body() -> None:
            if one.args["identify"]:
                self._identity("cleanup")
            call = self._release_call(one)
            if "interrupt" in self.notes and call.startswith("await release("):
                call = f"{call[:-1]}, registered=True)"
            self._line(call)

        self._inner(body)
        self._line("")
        self._note("register", literal(one.args["name"]))
        self._line(self._words("cleanup", callback=callback, name=literal(one.args["name"])))

    def _op_generate(self, one: Step) -> None:
        self.helpers.add("stream")
        name, every = one.args["name"], self._seconds(one.args["every_s"])
        source = f"stream({self._me}, {literal(name)}, {one.args['items']}, {every})"
        variable = self._name(f"{identifier(name)}_stream")
        self._line(f"async with contextlib.aclosing({source}) as {variable}:")

        def loop() -> None:
            self._line(f"async for item in {variable}:")
            if self._items:
                self._line("    items.append(item)")
            self._line(f'    note({self._me}, "item", item)')

        self._inner(loop)

    def _op_chunk(self, one: Step) -> None:
        value = self._filled(one.args["value"])
        self._note("chunk", value)
        self._line(self._words("chunk", value=value))

    def _op_emit(self, one: Step) -> None:
        self._note("emit", literal(one.args["type"]))
        data = one.args["data"]
        if not isinstance(data, dict):
            data = {"data": data}
        self._line(self._words("emit", type=literal(one.args["type"]), data=self._filled(data)))

    def _op_flood(self, one: Step) -> None:
        self.helpers.add("noted_offer")
        producer, count = one.args["producer"], one.args["count"]
        # The producer of another run, or of another stage, is another one.
        whole = f'f"{{me}}/{producer}"' if self.many_runs else literal(f"{self.label}/{producer}")
        self._line(f"for n in range({count}):")

        def offer() -> None:
            self._sleep(self._seconds(one.args["every_s"]))
            self._line(f"with noted_offer({self._me}, {whole}, n):")
            data = f'{{"producer": {whole}, "n": n}}'
            self._line("    " + self._words("emit", type='"flood"', data=data))
            if self.dialect.account is not None:
                self._note("account", self.dialect.account)

        self._inner(offer)

    def _op_input(self, one: Step) -> None:
        key = literal(one.args["key"])
        value = self._words("input", key=key)
        if one.args["key"] == "marker":
            self._line(f'given["marker"] = {value}')
            value = 'given["marker"]'
        self._note("input", f"({key}, {value})")

    def _op_identify(self, one: Step) -> None:
        self._identity(one.args["place"])

    def _identity(self, place: str) -> None:
        self._note("identity", f"({literal(place)}, {self._words('identity')})")

    def _op_log(self, one: Step) -> None:
        message = self._filled(one.args["message"])
        self._note("log", message)
        self._line(self._words("log", message=message))

    def _op_flaky(self, one: Step) -> None:
        times, error = one.args["times"], _error(one.args["error"])
        self._note("flaky", f"(execution, execution <= {times})")
        self._line(f"if execution <= {times}:")
        if error == "asyncio.CancelledError":
            self._line(f'    note({self._me}, "self_cancel")')
        self._line(f"    raise {error}({self._filled(one.args['message'])})")

    def _read(self, one: Step) -> str:
        return self._words("read", stage=literal(one.args["stage"]), key=literal(one.args["key"]))

    def _op_read(self, one: Step) -> None:
        stage, key = one.args["stage"], one.args["key"]
        self._note("read", f"({literal(stage)}, {literal(key)}, {self._read(one)})")

    def _op_mutate(self, one: Step) -> None:
        stage, key = one.args["stage"], one.args["key"]
        self._line(f"value = {self._read(one)}")
        self._line("try:")
        self._line("    if isinstance(value, list):")
        self._line('        value.append("changed")')
        self._line("    else:")
        self._line('        value["changed"] = True')
        self._line("    changed = True")
        self._line("except (TypeError, AttributeError):")
        self._line("    changed = False")
        self._note("mutated", f"({literal(stage)}, {literal(key)}, changed)")

    def _op_call(self, one: Step) -> None:
        self.helpers |= {"calls", "timed_out"}
        tool = one.args["tool"]
        function, keeps = self._tool(one)
        number = self._name("number")
        work = f"lambda: {function}({self._me}, {number}{', items' if keeps else ''})"
        timeout = one.args["timeout_s"]
        limit = "None" if timeout is None else self._seconds(timeout)
        expression = self._words("call", tool=literal(tool), work=work, timeout=limit)
        if timeout is not None and "{timeout}" not in self.dialect.call:
            raise Unrenderable("call with a timeout of the engine's")
        self._line(f"{number} = call_number({self._me}, {literal(tool)})")
        self._line(f"with noted_call({self._me}, {literal(tool)}, {number}):")
        self._line(f"    {expression}")

    def _tool(self, one: Step) -> tuple[str, bool]:
        """Write the tool as a function of its own; return its name, and whether it keeps items."""
        keeps = bool(one.args["chunks"]) and self._items
        lines = _tool_lines(one, self.plan, keeps, self._seconds, self.helpers)
        if "interrupt" in self.notes:
            lines = [line.replace("asyncio.sleep(", "sleep(stage, ") for line in lines]
        parameters = f"stage, number{', items' if keeps else ''}"
        body = "\n".join(f"    {line}" for line in lines)
        # Other stages may call the same tool with other arguments: one function each.
        base = name = f"{identifier(one.args['tool'])}_for_{identifier(self.label)}"
        number = 1
        while self.tools.get(name, text := f"async def {name}({parameters}):\n{body}") != text:
            number += 1
            name = f"{base}_{number}"
        self.tools[name] = text
        return name, keeps

    def _op_parallel(self, one: Step) -> None:
        names = []
        for branch in one.args["branches"]:
            name = self._name("branch")
            self._function(name, branch)
            names.append(name)
        if not names:
            return
        self.helpers.add("join_all")
        tasks = self._name("tasks")
        self._line(f"{tasks} = [")
        for name in names:
            self._line(f'    asyncio.create_task({name}(), name="own {name}"),')
        self._line("]")
        self._line(f"await join_all({self._me}, {tasks}, until=asyncio.FIRST_EXCEPTION)")
        self.helpers.add("results_of")
        if not any(_can_end(branch) for branch in one.args["branches"]):
            self._line(f"results_of({tasks})")
            return
        self._line(f"for output in results_of({tasks}):")
        self._line("    if output is not None:")
        self._line("        return output")

    def _op_thread(self, one: Step) -> None:
        self.helpers.add("block_thread")
        seconds = self._seconds(one.args["seconds"])
        work = "block_thread"
        if one.args["identify"]:
            work = self._name("in_thread")
            self._line(f"def {work}(stage, seconds):")

            def body() -> None:
                self._identity("thread")
                self._line("block_thread(stage, seconds)")

            self._inner(body)
            self._line("")
        self._note("thread.begin", seconds)
        waits = f"await asyncio.to_thread({work}, {self._me}, {seconds})"
        if "interrupt" not in self.notes:
            self._line(waits)
            return
        self._line("try:")
        self._line(f"    {waits}")
        self._line("except asyncio.CancelledError:")
        self.helpers.add("note_interrupt")
        self._line(f"    note_interrupt({self._me})")
        self._line("    raise")

    def _op_heartbeat(self, _one: Step) -> None:
        self._note("heartbeat")
        self._line(self._words("heartbeat"))

    def _op_timeout(self, one: Step) -> None:
        label, seconds = one.args["label"], self._seconds(one.args["seconds"])
        detail = f"({literal(label)}, {seconds})"
        scope = self._name(f"{identifier(label)}_scope")
        self._note("scope.enter", detail)
        self._line("try:")
        deep = 1
        if "scope.exit" in self.notes:
            self.helpers.add("noted_exit")
            self._line(f"    with noted_exit({self._me}, {literal(label)}):")
            deep = 2
        self._depth += deep
        self._line(f"async with asyncio.timeout({seconds}) as {scope}:")
        self._inner(lambda: self._block(one.args["steps"]))
        self._depth -= deep
        self._line("except TimeoutError:")

        def expired() -> None:
            self._line(f"if not {scope}.expired():")
            leak = f'({literal(label)}, "TimeoutError")'
            self._line(f'    note({self._me}, "scope.leak", {leak})')
            self._line("    raise")
            self._note("scope.expired", detail)
            self._block(one.args["otherwise"])

        self._inner(expired)

    def _op_subpipeline(self, one: Step) -> None:
        self.helpers.add("noted_child")
        program: Program = one.args["program"]
        self.programs.append(program)
        name = program.name
        graph = f"build_{identifier(name)}()"
        self._note("sub.begin", literal(name))
        how = self._name("how")
        expression = self._words(
            "child", name=literal(name), graph=graph, stage=literal(self.label)
        )
        self._line(f"{how} = None")
        self._line(f"with noted_child({self._me}, {literal(name)}, keep={one.args['keep']}):")
        self._line(f"    {how} = {expression}")
        self._line(f'    note({self._me}, "sub.end", ({literal(name)}, {how}))')
        if not one.args["keep"]:
            self._line(f'if {how} != "ok":')
            self._line(f'    raise RuntimeError(f"subpipeline {name} ended {{{how}}}")')

    def _op_context(self, _one: Step) -> None:
        self._note("context", self._words("context"))

    def _op_ok(self, one: Step) -> None:
        value = one.args["value"]
        self._end("ok", value="items" if value == "$items" else self._filled(value))

    def _op_fail(self, one: Step) -> None:
        self._end("fail", message=literal(one.args["message"]))

    def _op_raise(self, one: Step) -> None:
        error = one.args["error"]
        if error == "CancelledError":
            self._note("self_cancel")
            error = "asyncio.CancelledError"
        self._line(f"raise {error}({literal(one.args['message'])})")

    def _op_cancel_run(self, one: Step) -> None:
        self._end("cancel_run", message=literal(one.args["reason"]))

    def _op_cancel_branch(self, one: Step) -> None:
        self._end("cancel_branch", message=literal(one.args["reason"]))

    def _op_skip(self, one: Step) -> None:
        self._end("skip", message=literal(one.args["reason"]))

    def _op_swallow(self, one: Step) -> None:
        times = one.args["times"]
        count = self._name("swallowed")
        self._line(f"for {count} in range(1, {times + 2}):")
        self._line("    try:")
        self._depth += 1
        self._inner(lambda: self._block(one.args["steps"]))
        self._depth -= 1
        if not _always_ends(one.args["steps"]):
            self._line("        break")
        self._line("    except asyncio.CancelledError:")
        self._line(f"        if {count} > {times}:")
        self._line("            raise")
        self._line(f'        note({self._me}, "swallowed", {count})')

    def _op_never(self, _one: Step) -> None:
        self._sleep(f"{NEVER_S}")  # never, as far as a script of seconds goes


def _tool_lines(
    one: Step, plan: Plan, keeps: bool, seconds_of: Callable[[Any], str], helpers: set[str]
) -> list[str]:
    """Write the body of a tool: a careful mock that works, gives items and may fail."""
    args, tool = one.args, one.args["tool"]
    chunks = args["chunks"]
    wait = float(seconds_of(args["seconds"])) / (chunks + 1)
    work: list[str] = []
    faults = [f for f in plan.faults if f.tool == tool]
    if faults:
        # As in the simulation: a fault is noted when the call begins and fires at its end.
        table = ", ".join(f"({f.nth}, {f.onwards}): {_error(f.error)}" for f in faults)
        work.append(f"faults = {{{table}}}  # (call, and all after it) -> error")
        work.append("fault = next((e for (nth, onwards), e in faults.items()")
        work.append("              if number == nth or (onwards and number > nth)), None)")
        work.append("if fault is not None:")
        work.append(f'    note(stage, "fault.fired", ({literal(tool)}, number))')
    if chunks:
        work.append(f"for i in range({chunks}):")
        work.append(f"    await asyncio.sleep({wait!r})")
        work.append(f'    item = f"{tool}#{{number}}.{{i}}"')
        if keeps:
            work.append("    items.append(item)")
        work.append('    note(stage, "item", item)')
    work.append(f"await asyncio.sleep({wait!r})")
    failure = f'(f"{tool} call {{number}} failed")'
    if faults:
        work.append("if fault is not None:")
        work.append(f"    raise fault{failure}")
    if args["error"] is not None:
        work.append(f"raise {_error(args['error'])}{failure}")
    if not args["holds"]:
        return work
    helpers.add("release")
    resource = f'f"{tool}#{{number}}"'
    return [
        f'note(stage, "acquire", {resource})',
        "try:",
        *(f"    {line}" for line in work),
        "finally:",
        f"    await release(stage, {resource}, {seconds_of(args['cleanup_s'])})",
    ]


def _error(name: str) -> str:
    return "asyncio.CancelledError" if name == "CancelledError" else name


def _can_end(steps: Sequence[Step]) -> bool:
    """Say whether a block can end its stage by a verdict (raising is no verdict)."""
    for one in steps:
        if OPS[one.op].ends and one.op != "raise":
            return True
        # What a spawned task or a subpipeline ends with is no verdict of this stage.
        if one.op in ("spawn", "subpipeline"):
            continue
        for name, field in OPS[one.op].fields.items():
            if field.shape == "block" and _can_end(one.args[name]):
                return True
            if field.shape == "blocks" and any(_can_end(b) for b in one.args[name]):
                return True
    return False


def _always_ends(steps: Sequence[Step]) -> bool:
    """Say whether a block never runs off its end."""
    for one in steps:
        if OPS[one.op].ends:
            return True
        if one.op == "using" and _always_ends(one.args["steps"]):
            return True
    return False
