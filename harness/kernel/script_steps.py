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
from harness.kernel.script_streams import chunks_in_a_row
from harness.kernel.steps import OPS, Step, walk

if TYPE_CHECKING:
    from harness.kernel.script import Dialect

__all__ = ["HOWS", "StageWriter", "Unrenderable", "identifier", "literal"]

# A task that waits for ever on a bare future can be collected as garbage; a timer keeps it.
NEVER_S = 86_400

# How a stage can end; `raise` stands for whatever it may raise.
HOWS = ("ok", "fail", "skip", "cancelled", "cancel_run", "cancel_branch", "raise")


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
        recorded: whether its start and its end are noted by what is put around it; otherwise
            the body does that itself, where somebody wants to know.
    """

    def __init__(
        self,
        dialect: Dialect,
        plan: Plan,
        label: str,
        *,
        many_runs: bool,
        notes: frozenset[str],
        ends: frozenset[str] = frozenset(HOWS),
        once: frozenset[str] = frozenset(),
    ) -> None:
        self.dialect = dialect
        self.plan = plan
        self.label = label
        self.many_runs = many_runs
        self.notes = notes
        self.ends = ends
        self.once = once
        self.recorded = False
        self.lines: list[str] = []
        self.helpers: set[str] = set()
        self.tools: dict[str, str] = {}
        self.programs: list[Program] = []
        self._depth = 0
        self._names: dict[str, int] = {}
        self._me = "me" if many_runs else literal(label)
        self._items = False
        self._marked = False
        self._told_in_place = False
        self._released: frozenset[str] = frozenset()

    def write(self, steps: Sequence[Step]) -> None:
        """Write the whole body of the stage."""
        every = list(walk(steps))
        told = _ending(steps, self.ends) if "stage.end" in self.notes else "nowhere"
        self.recorded = told == "around"
        self._told_in_place = told == "in place"
        self._items = any(one.op == "ok" and one.args["value"] == "$items" for one in every)
        self._released = frozenset(one.args["name"] for one in every if one.op == "release")
        named = len(self.lines)
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
        if not self.recorded:
            self._note("stage.start")
        last = self._last()
        if told == "finally" or last:
            self._line("try:")
            self._inner(lambda: self._whole(steps))
            self._line("finally:")
            if told == "finally":
                self._note("stage.end", deeper=1)
            for line in last:
                self._line(f"    {line}")
        else:
            self._whole(steps)
        if self.many_runs and any(re.search(r"\bme\b", line) for line in self.lines):
            self.lines.insert(named, f'me = f"{{{self.dialect.run_of}}}/{self.label}"')

    def _last(self) -> list[str]:
        """Return what a stage whose chunks are consumed does at its end."""
        spec = self.plan.consumer
        if spec is None or spec.stage != self.label or self.dialect.stage_end is None:
            return []
        return [self._words("stage_end", stage=literal(self.label))]

    def _whole(self, steps: Sequence[Step]) -> None:
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

    def _note(self, kind: str, detail: str = "", *, deeper: int = 0) -> None:
        """Write a note, if this kind is wanted."""
        if kind in self.notes:
            self.helpers.add("note")
            tail = f", {detail})" if detail else ")"
            self._line("    " * deeper + f'note({self._me}, "{kind}"{tail}')

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
        if self._told_in_place and kind in self.ends:
            self._note("stage.end", literal(kind))
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
        past = 0
        for i, one in enumerate(steps):
            past = max(past, i + self._chunks(steps[i:])) if i >= past else past
            if i < past:
                continue
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
                self._inner(lambda: self._release(one))
            else:
                self._release(one)

        self._inner(release)

    def _release(self, one: Step, *, registered: bool = False) -> None:
        """Write a cleanup: in place where it has a few lines, else as a call."""
        sync = one.args.get("cleanup") == "sync"
        if self.notes & {"release.cut", "interrupt"}:
            call = self._release_call(one)
            if registered and "interrupt" in self.notes and not sync:
                call = f"{call[:-1]}, registered=True)"
            self._line(call)
            return
        name = one.args["name"]
        self._note("release.begin", literal(name))
        waits = f"await asyncio.sleep({self._seconds(one.args['cleanup_s'])})"
        if "release.over" in self.notes:  # also when it is cut short
            self._line("try:")
            self._line("    pass" if sync else f"    {waits}")
            self._line("finally:")
            self._note("release.over", literal(name), deeper=1)
        elif not sync:
            self._line(waits)
        if one.args["fails"]:
            self._note("release.fail", literal(name))
            self._line(f"raise RuntimeError({literal(f'cleanup of {name} failed')})")
        else:
            self._note("release.end", literal(name))

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
        name = literal(one.args["name"])
        self._line(f"released.add({name})")
        self._note("release.begin", name)
        self._note("release.end", name)

    def _op_using(self, one: Step) -> None:
        self._note("acquire", literal(one.args["name"]))
        self._line("try:")
        self._inner(lambda: self._block(one.args["steps"]))
        self._line("finally:")
        self._inner(lambda: self._release(one))

    def _op_cleanup(self, one: Step) -> None:
        callback = self._name(f"release_{identifier(one.args['name'])}")
        self._line(f"async def {callback}():")

        def body() -> None:
            if one.args["identify"]:
                self._identity("cleanup")
            self._release(one, registered=True)

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
            before = len(self.lines)
            if self._items:
                self._line("    items.append(item)")
            self._note("item", "item", deeper=1)
            if len(self.lines) == before:
                self._line("    pass")

        self._inner(loop)

    def _chunks(self, steps: Sequence[Step]) -> int:
        """Write the chunks with which steps begin as a loop; return how many steps that were."""
        row = chunks_in_a_row(steps)
        if row is None or (self._marked and "$marker" in str(row.values)):
            return 0
        variable, value, over = "chunk", "chunk", literal(row.values)
        if (numbered := row.numbered()) is not None:
            text, start, end = numbered
            variable, value = "n", "f" + literal(f"{text}{{n}}")
            over = f"range({start}, {end})" if start else f"range({end})"
        self._line(f"for {variable} in {over}:")

        def each() -> None:
            if row.before is not None:
                self._sleep(self._seconds(row.before))
            self._chunk(value)

        self._inner(each)
        return row.steps

    def _op_chunk(self, one: Step) -> None:
        self._chunk(self._filled(one.args["value"]))

    def _chunk(self, value: str) -> None:
        self._note("chunk", value)
        words = {"stage": literal(self.label), "value": value}
        told = "interrupt" in self.notes and "await " in (self.dialect.chunk or "")
        if told:
            self._line("try:")
            self._depth += 1
        stops = self.plan.consumer is not None and self.plan.consumer.stop_after is not None
        if self.dialect.refused is None or not stops:
            self._line(self._words("chunk", **words))
        else:  # nobody takes any more: whoever writes a stage stops there
            self._line(f"if {self._words('refused', **words)}:")
            self._inner(lambda: self._end("ok", value="None"))
        if told:
            self._depth -= 1
            self.helpers.add("note_interrupt")
            self._line("except asyncio.CancelledError:")
            self._line(f"    note_interrupt({self._me})")
            self._line("    raise")

    def _op_emit(self, one: Step) -> None:
        self._note("emit", literal(one.args["type"]))
        data = one.args["data"]
        if not isinstance(data, dict):
            data = {"data": data}
        self._line(self._words("emit", type=literal(one.args["type"]), data=self._filled(data)))

    def _op_flood(self, one: Step) -> None:
        producer, count = one.args["producer"], one.args["count"]
        # The producer of another run, or of another stage, is another one.
        whole = f'f"{{me}}/{producer}"' if self.many_runs else literal(f"{self.label}/{producer}")
        self._line(f"for n in range({count}):")

        def offer() -> None:
            self._sleep(self._seconds(one.args["every_s"]))
            data = f'{{"producer": {whole}, "n": n}}'
            emission = self._words("emit", type='"flood"', data=data)
            if self.notes & {"offer.begin", "offer.end"}:
                self.helpers.add("noted_offer")
                self._line(f"with noted_offer({self._me}, {whole}, n):")
                self._line(f"    {emission}")
            else:
                self._line(emission)
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
            self._note("self_cancel", deeper=1)
        if self._told_in_place and "raise" in self.ends:
            self._note("stage.end", literal(f"raise:{error}"), deeper=1)
        self._line(f"    raise {error}({self._filled(one.args['message'])})")

    def _read(self, one: Step) -> str:
        return self._words("read", stage=literal(one.args["stage"]), key=literal(one.args["key"]))

    def _op_read(self, one: Step) -> None:
        stage, key = one.args["stage"], one.args["key"]
        if "read" in self.notes:
            self._note("read", f"({literal(stage)}, {literal(key)}, {self._read(one)})")
        else:
            self._line(self._read(one))

    def _op_mutate(self, one: Step) -> None:
        stage, key = one.args["stage"], one.args["key"]
        told = "mutated" in self.notes
        self._line(f"value = {self._read(one)}")
        self._line("try:")
        self._line("    if isinstance(value, list):")
        self._line('        value.append("changed")')
        self._line("    else:")
        self._line('        value["changed"] = True')
        if told:
            self._line("    changed = True")
        self._line("except (TypeError, AttributeError):")
        self._line("    changed = False" if told else "    pass  # it is read-only")
        self._note("mutated", f"({literal(stage)}, {literal(key)}, changed)")

    def _op_call(self, one: Step) -> None:
        tool, timeout = one.args["tool"], one.args["timeout_s"]
        if timeout is not None and "{timeout}" not in self.dialect.call:
            raise Unrenderable("call with a timeout of the engine's")
        function, given = self._tool(one)
        number = self._name("number") if "number" in given else "1"
        named = {"stage": self._me, "number": number}
        words = ", ".join(named.get(name, name) for name in given)
        expression = self._words(
            "call",
            tool=literal(tool),
            work=f"lambda: {function}({words})" if words else function,
            timeout="None" if timeout is None else self._seconds(timeout),
        )
        if "number" in given:
            self.helpers.add("calls")
            self._line(f"{number} = call_number({self._me}, {literal(tool)})")
        if self.notes & {"call.begin", "call.end"}:
            self.helpers |= {"noted_call", "timed_out"}
            self._line(f"with noted_call({self._me}, {literal(tool)}, {number}):")
            self._line(f"    {expression}")
        else:
            self._line(expression)

    def _tool(self, one: Step) -> tuple[str, list[str]]:
        """Write the tool as a function of its own; return its name, and what it has to be given:
        of stage, number (of the call) and items."""
        keeps = bool(one.args["chunks"]) and self._items
        told = bool(self.notes & {"call.begin", "call.end"})
        once = one.args["tool"] in self.once and not told
        lines = _tool_lines(
            one,
            self.plan,
            keeps=keeps,
            seconds_of=self._seconds,
            helpers=self.helpers,
            notes=self.notes,
            once=once,
        )
        if "interrupt" in self.notes:
            lines = [line.replace("asyncio.sleep(", "sleep(stage, ") for line in lines]
        text = "\n".join(lines)
        given = ["stage"] if "stage" in text else []
        given += ["number"] if told or re.search(r"\bnumber\b", text) else []
        given += ["items"] if keeps else []
        body = "\n".join(f"    {line}" for line in lines)
        # Other stages may call the same tool with other arguments: one function each.
        base = name = f"{identifier(one.args['tool'])}_for_{identifier(self.label)}"
        times = 1
        while self.tools.get(name, whole := _function_text(name, given, body)) != whole:
            times += 1
            name = f"{base}_{times}"
        self.tools[name] = whole
        return name, given

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
            self._note("scope.leak", f'({literal(label)}, "TimeoutError")', deeper=1)
            self._line("    raise")
            self._note("scope.expired", detail)
            self._block(one.args["otherwise"])

        self._inner(expired)

    def _op_subpipeline(self, one: Step) -> None:
        program: Program = one.args["program"]
        self.programs.append(program)
        name, keep = program.name, one.args["keep"]
        graph = self._name("child")
        self._note("sub.begin", literal(name))
        self._line(f"{graph} = build_{identifier(name)}()")
        expression = self._words(
            "child", name=literal(name), graph=graph, stage=literal(self.label)
        )
        how = self._name("how")
        told = "sub.end" in self.notes
        if told or keep:
            self.helpers.add("noted_child")
            self._line(f"{how} = None")
            self._line(f"with noted_child({self._me}, {literal(name)}, keep={keep}):")
            self._line(f"    {how} = {expression}")
            self._note("sub.end", f"({literal(name)}, {how})", deeper=1)
        else:
            self._line(f"{how} = {expression}")
        if not keep:
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
        elif self._told_in_place and "raise" in self.ends:
            self._note("stage.end", literal(f"raise:{error}"))
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
        self._note("swallowed", count, deeper=2)

    def _op_allocate(self, one: Step) -> None:
        self._note("fault.fired", '("memory", 1)')
        megabytes = one.args["megabytes"]
        self._line(f'raise MemoryError("{megabytes} MB are not to be had")')

    def _op_never(self, _one: Step) -> None:
        self._sleep(f"{NEVER_S}")  # never, as far as a script of seconds goes


def _function_text(name: str, parameters: Sequence[str], body: str) -> str:
    return f"async def {name}({', '.join(parameters)}):\n{body}"


def _tool_lines(
    one: Step,
    plan: Plan,
    *,
    keeps: bool,
    seconds_of: Callable[[Any], str],
    helpers: set[str],
    notes: frozenset[str],
    once: bool,
) -> list[str]:
    """Write the body of a tool: a careful mock that works, gives items and may fail.

    Args:
        once: whether it is called once in a run, so that its number is known: 1.
    """
    args, tool = one.args, one.args["tool"]
    chunks = args["chunks"]
    wait = float(seconds_of(args["seconds"])) / (chunks + 1)
    faults = [f for f in plan.faults if f.tool == tool]
    fault, number = None, "number"
    if once:
        fault, number = next((f for f in faults if f.nth == 1), None), "1"
        faults = []
    fired = f'note(stage, "fault.fired", ({literal(tool)}, {number}))'
    work: list[str] = []
    if fault is not None and "fault.fired" in notes:
        work.append(fired)
    if faults:
        # As in the simulation: a fault is noted when the call begins and fires at its end.
        table = ", ".join(f"({f.nth}, {f.onwards}): {_error(f.error)}" for f in faults)
        work.append(f"faults = {{{table}}}  # (call, and all after it) -> error")
        work.append("fault = next((e for (nth, onwards), e in faults.items()")
        work.append("              if number == nth or (onwards and number > nth)), None)")
        if "fault.fired" in notes:
            work += ["if fault is not None:", f"    {fired}"]
    if chunks:
        work += [f"for i in range({chunks}):", f"    await asyncio.sleep({wait!r})"]
        item = f'"{tool}#1.{{i}}"' if once else f'"{tool}#{{number}}.{{i}}"'
        if keeps or "item" in notes:
            work.append(f"    item = f{item}")
        if keeps:
            work.append("    items.append(item)")
        if "item" in notes:
            work.append('    note(stage, "item", item)')
    work.append(f"await asyncio.sleep({wait!r})")
    said = f'"{tool} call 1 failed"' if once else f'f"{tool} call {{number}} failed"'
    if faults:
        work += ["if fault is not None:", f"    raise fault({said})"]
    if fault is not None:
        work.append(f"raise {_error(fault.error)}({said})")
    elif args["error"] is not None:
        work.append(f"raise {_error(args['error'])}({said})")
    if not args["holds"]:
        return work
    resource = f'"{tool}#1"' if once else f'f"{tool}#{{number}}"'
    if notes & {"release.cut", "interrupt"}:
        helpers.add("release")
        cleanup = [f"await release(stage, {resource}, {seconds_of(args['cleanup_s'])})"]
    else:
        cleanup = [f"await asyncio.sleep({seconds_of(args['cleanup_s'])})"]
        if "release.begin" in notes:
            cleanup.insert(0, f'note(stage, "release.begin", {resource})')
        if "release.over" in notes:
            cleanup.append(f'note(stage, "release.over", {resource})')
            cleanup[-2:] = ["try:", f"    {cleanup[-2]}", "finally:", f"    {cleanup[-1]}"]
        elif "release.end" in notes:
            cleanup.append(f'note(stage, "release.end", {resource})')
    return [
        *([f'note(stage, "acquire", {resource})'] if "acquire" in notes else ()),
        "try:",
        *(f"    {line}" for line in work),
        "finally:",
        *(f"    {line}" for line in cleanup),
    ]


def _error(name: str) -> str:
    return "asyncio.CancelledError" if name == "CancelledError" else name


def _ending(steps: Sequence[Step], ends: frozenset[str]) -> str:
    """Say where the end of a stage is to be noted: in "finally" if only that it ends matters,
    "in place" where each end that matters is a statement of its own with nothing after it, or
    by what is put "around" it."""
    if not ends:
        return "finally"
    if ends - {"ok", "fail", "skip", "cancel_run", "cancel_branch", "raise"}:
        return "around"
    if "raise" in ends and any(_may_raise(one) for one in steps):
        return "around"
    block = _blocks_ending(steps)
    return "around" if block else "in place"


def _blocks_ending(steps: Sequence[Step]) -> bool:
    """Say whether a stage can end where something still happens after its last statement."""
    for i, one in enumerate(steps):
        if one.op == "acquire":  # its cleanup comes after whatever ends the stage
            return True
        if one.op == "spawn" and _can_end(steps[i + 1 :]):
            return True
        if OPS[one.op].ends:
            return False
        if any(f.shape in ("block", "blocks") for f in OPS[one.op].fields.values()) and (
            one.op == "spawn" or _can_end([one])
        ):
            return True
    return False


def _may_raise(one: Step) -> bool:
    """Say whether an exception can come out of a step other than by saying so there."""
    if one.op in ("call", "subpipeline", "parallel", "spawn", "timeout", "swallow", "using"):
        return True
    return one.op in ("acquire", "read", "input", "emit", "flood", "mutate")


def _can_end(steps: Sequence[Step]) -> bool:
    """Say whether a block can end its stage by a verdict (raising is no verdict)."""
    for one in steps:
        if (OPS[one.op].ends and one.op != "raise") or one.op == "chunk":
            return True  # a chunk that nobody takes ends its stage
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
