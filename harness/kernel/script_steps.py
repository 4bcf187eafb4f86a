"""How each operation of `harness.kernel.steps.OPS` is written in a stage's body.

Longer than 400 lines as there are that many operations, each with a few lines of its own.
"""

from __future__ import annotations

from harness.kernel.program import Program
from harness.kernel.script_ends import always_ends, can_end
from harness.kernel.script_literals import Unrenderable, error_name, identifier, literal, seconds_of
from harness.kernel.script_stage import StageWriter, Writers, is_marker
from harness.kernel.script_tools import tool_of
from harness.kernel.steps import Step

__all__ = ["WRITERS"]

# A task that waits for ever on a bare future can be collected as garbage; a timer keeps it.
NEVER_S = 86_400


def _sleep(w: StageWriter, one: Step) -> None:
    w.sleep(seconds_of(one.args["seconds"]))


def _yield(w: StageWriter, one: Step) -> None:
    if one.args["times"] == 1:
        w.sleep("0")
        return
    w.line(f"for _ in range({one.args['times']}):")
    w.inner(lambda: w.sleep("0"))


def _release(w: StageWriter, one: Step) -> None:
    name = literal(one.args["name"])
    if one.args["name"] in w.again:
        prefix = literal(f"{one.args['name']} ")
        w.line(f"for mine in [one for one in held if one.startswith({prefix})][-1:]:")
        w.inner(lambda: w.line("held.remove(mine)"))
    else:
        w.line(f"released.add({name})")
    w.note("release.begin", name)
    w.note("release.end", name)


def _using(w: StageWriter, one: Step) -> None:
    w.note("acquire", literal(one.args["name"]))
    w.line("try:")
    w.inner(lambda: w.block(one.args["steps"]))
    w.line("finally:")
    w.inner(lambda: w.release(one))


def _cleanup(w: StageWriter, one: Step) -> None:
    name = literal(one.args["name"])
    callback = w.name(f"release_{identifier(one.args['name'])}")

    def body() -> None:
        if one.args["identify"]:
            w.identity("cleanup")
        w.release(one, registered=True)

    lines = w.written(body)
    if w.releases and not one.args["identify"]:
        callback = f"lambda: clean_up({name}, {seconds_of(one.args['cleanup_s'])})"
    elif len(lines) == 1 and lines[0].startswith("await "):
        callback = f"lambda: {lines[0].removeprefix('await ')}"
    else:
        w.line(f"async def {callback}():")
        for line in lines:
            w.line(f"    {line}")
        w.line("")
    w.note("register", name)
    w.line(w.words("cleanup", callback=callback, name=name))


def _generate(w: StageWriter, one: Step) -> None:
    w.helpers.add("stream")
    name, every = one.args["name"], seconds_of(one.args["every_s"])
    source = f"stream({w.me}, {literal(name)}, {one.args['items']}, {every})"
    variable = w.name(f"{identifier(name)}_stream")
    w.line(f"async with contextlib.aclosing({source}) as {variable}:")

    def loop() -> None:
        w.line(f"async for item in {variable}:")
        before = len(w.lines)
        if w.keeps_items:
            w.line("    items.append(item)")
        w.note("item", "item", deeper=1)
        if len(w.lines) == before:
            w.line("    pass")

    w.inner(loop)


def _chunk(w: StageWriter, one: Step) -> None:
    w.chunk(w.filled(one.args["value"]))


def _emit(w: StageWriter, one: Step) -> None:
    w.note("emit", literal(one.args["type"]))
    data = one.args["data"]
    if not isinstance(data, dict):
        data = {"data": data}
    w.line(w.words("emit", type=literal(one.args["type"]), data=w.filled(data)))


def _flood(w: StageWriter, one: Step) -> None:
    producer, count = one.args["producer"], one.args["count"]
    # The producer of another run, or of another stage, is another one.
    whole = f'f"{{me}}/{producer}"' if w.many_runs else literal(f"{w.label}/{producer}")
    n = "n" if count > 1 else "0"

    def offer() -> None:
        w.sleep(seconds_of(one.args["every_s"]))
        data = f'{{"producer": {whole}, "n": {n}}}'
        emission = w.words("emit", type='"flood"', data=data)
        if w.notes & {"offer.begin", "offer.end"}:
            w.helpers.add("noted_offer")
            w.line(f"with noted_offer({w.me}, {whole}, {n}):")
            w.line(f"    {emission}")
        else:
            w.line(emission)
        w.note("taken", f"({whole}, {n})")
        if w.dialect.account is not None:
            w.note("account", w.dialect.account)

    if count == 1:
        offer()
        return
    w.line(f"for n in range({count}):")
    w.inner(offer)


def _input(w: StageWriter, one: Step) -> None:
    key = literal(one.args["key"])
    value = w.words("input", key=key)
    if is_marker(one):
        name = "marker" if w.marker else 'given["marker"]'
        w.line(f"{name} = {value}")
        value = name
    w.note("input", f"({key}, {value})")


def _identify(w: StageWriter, one: Step) -> None:
    w.identity(one.args["place"])


def _log(w: StageWriter, one: Step) -> None:
    message = w.filled(one.args["message"])
    w.note("log", message)
    w.line(w.words("log", message=message))


def _flaky(w: StageWriter, one: Step) -> None:
    times, error = one.args["times"], error_name(one.args["error"])
    w.note("flaky", f"(execution, execution <= {times})")
    w.line(f"if execution <= {times}:")
    if error == "asyncio.CancelledError":
        w.note("self_cancel", deeper=1)
    w.told_raised(error, deeper=1)
    w.line(f"    raise {error}({w.filled(one.args['message'])})")


def _read(w: StageWriter, one: Step) -> None:
    stage, key = one.args["stage"], one.args["key"]
    if "read" in w.notes:
        w.note("read", f"({literal(stage)}, {literal(key)}, {_value_read(w, one)})")
    else:
        w.line(_value_read(w, one))


def _mutate(w: StageWriter, one: Step) -> None:
    stage, key = one.args["stage"], one.args["key"]
    told = "mutated" in w.notes
    w.line(f"value = {_value_read(w, one)}")
    changes = [
        "if isinstance(value, list):",
        '    value.append("changed")',
        "else:",
        '    value["changed"] = True',
    ]
    if not told:
        given = w.values.get(stage)
        if isinstance(given, list):
            changes = ['value.append("changed")']
        elif isinstance(given, dict):
            changes = ['value["changed"] = True']
        w.line("with contextlib.suppress(TypeError, AttributeError):  # it may be read-only")
        for line in changes:
            w.line(f"    {line}")
        return
    w.line("try:")
    for line in [*changes, "changed = True"]:
        w.line(f"    {line}")
    w.line("except (TypeError, AttributeError):")
    w.line("    changed = False")
    w.note("mutated", f"({literal(stage)}, {literal(key)}, changed)")


def _call(w: StageWriter, one: Step) -> None:
    tool, timeout = one.args["tool"], one.args["timeout_s"]
    if timeout is not None and "{timeout}" not in w.dialect.call:
        raise Unrenderable("call with a timeout of the engine's")
    function, given = tool_of(w, one)
    number = w.name("number") if "number" in given else "1"
    named = {"stage": w.me, "number": number}
    words = ", ".join(named.get(name, name) for name in given)
    expression = w.words(
        "call",
        tool=literal(tool),
        work=f"lambda: {function}({words})" if words else function,
        timeout="None" if timeout is None else seconds_of(timeout),
    )
    if "number" in given:
        w.helpers.add("calls")
        w.line(f"{number} = call_number({w.me}, {literal(tool)})")
    if w.notes & {"call.begin", "call.end"}:
        w.helpers |= {"noted_call", "timed_out"}
        w.line(f"with noted_call({w.me}, {literal(tool)}, {number}):")
        w.line(f"    {expression}")
    else:
        w.line(expression)


def _parallel(w: StageWriter, one: Step) -> None:
    names = []
    for branch in one.args["branches"]:
        name = w.name("branch")
        w.function(name, branch)
        names.append(name)
    if not names:
        return
    w.helpers.add("join_all")
    tasks = w.name("tasks")
    w.line(f"{tasks} = [")
    for name in names:
        w.line(f'    asyncio.create_task({name}(), name="own {name}"),')
    w.line("]")
    w.line(f"await join_all({w.me}, {tasks}, until=asyncio.FIRST_EXCEPTION)")
    w.helpers.add("results_of")
    if not any(can_end(branch) for branch in one.args["branches"]):
        w.line(f"results_of({tasks})")
        return
    w.line(f"for output in results_of({tasks}):")
    w.line("    if output is not None:")
    w.line("        return output")


def _thread(w: StageWriter, one: Step) -> None:
    seconds = seconds_of(one.args["seconds"])
    told = "thread.end" in w.notes
    if not told and not one.args["identify"] and "interrupt" not in w.notes:
        w.note("thread.begin", seconds)
        w.line(f"await asyncio.to_thread(time.sleep, {seconds})")
        return
    w.helpers.add("block_thread")
    work = "block_thread"
    if one.args["identify"]:
        work = w.name("in_thread")
        w.line(f"def {work}(stage, seconds):")

        def body() -> None:
            w.identity("thread")
            w.line("block_thread(stage, seconds)")

        w.inner(body)
        w.line("")
    w.note("thread.begin", seconds)
    waits = f"await asyncio.to_thread({work}, {w.me}, {seconds})"
    if "interrupt" not in w.notes:
        w.line(waits)
        return
    w.line("try:")
    w.line(f"    {waits}")
    w.line("except asyncio.CancelledError:")
    w.helpers.add("note_interrupt")
    w.line(f"    note_interrupt({w.me})")
    w.line("    raise")


def _heartbeat(w: StageWriter, _one: Step) -> None:
    w.note("heartbeat")
    w.line(w.words("heartbeat"))


def _timeout(w: StageWriter, one: Step) -> None:
    label, seconds = one.args["label"], seconds_of(one.args["seconds"])
    detail = f"({literal(label)}, {seconds})"
    scope = w.name(f"{identifier(label)}_scope")
    w.note("scope.enter", detail)
    w.line("try:")
    deep = 1
    if "scope.exit" in w.notes:
        w.helpers.add("noted_exit")
        w.line(f"    with noted_exit({w.me}, {literal(label)}):")
        deep = 2
    w.depth += deep
    w.line(f"async with asyncio.timeout({seconds}) as {scope}:")
    w.inner(lambda: w.block(one.args["steps"]))
    w.depth -= deep
    w.line("except TimeoutError:")

    def expired() -> None:
        w.line(f"if not {scope}.expired():")
        w.note("scope.leak", f'({literal(label)}, "TimeoutError")', deeper=1)
        w.line("    raise")
        w.note("scope.expired", detail)
        w.block(one.args["otherwise"])

    w.inner(expired)


def _subpipeline(w: StageWriter, one: Step) -> None:
    program: Program = one.args["program"]
    w.programs.append(program)
    name, keep = program.name, one.args["keep"]
    graph = w.name("child")
    w.note("sub.begin", literal(name))
    w.line(f"{graph} = build_{identifier(name)}()")
    told = "sub.end" in w.notes
    names = {"name": literal(name), "graph": graph, "stage": literal(w.label)}
    if w.dialect.child_well and not told and not keep:
        *before, well = (line.format(**names) for line in w.dialect.child_well)
        for line in before:
            w.line(line)
        w.line(f"if not {well}:")
        w.line(f"    raise RuntimeError({literal(f'subpipeline {name} failed')})")
        return
    expression = w.words("child", **names)
    how = w.name("how")
    if told or keep:
        w.helpers.add("noted_child")
        w.line(f"{how} = None")
        w.line(f"with noted_child({w.me}, {literal(name)}, keep={keep}):")
        w.line(f"    {how} = {expression}")
        w.note("sub.end", f"({literal(name)}, {how})", deeper=1)
    else:
        w.line(f"{how} = {expression}")
    if not keep:
        w.line(f'if {how} != "ok":')
        w.line(f'    raise RuntimeError(f"subpipeline {name} ended {{{how}}}")')


def _context(w: StageWriter, _one: Step) -> None:
    w.note("context", w.words("context"))


def _ok(w: StageWriter, one: Step) -> None:
    value = one.args["value"]
    w.end("ok", value="items" if value == "$items" else w.filled(value))


def _fail(w: StageWriter, one: Step) -> None:
    w.end("fail", message=literal(one.args["message"]))


def _raise(w: StageWriter, one: Step) -> None:
    error = one.args["error"]
    if error == "CancelledError":
        w.note("self_cancel")
        error = "asyncio.CancelledError"
    w.told_raised(error)
    w.line(f"raise {error}({literal(one.args['message'])})")


def _cancel_run(w: StageWriter, one: Step) -> None:
    w.end("cancel_run", message=literal(one.args["reason"]))


def _cancel_branch(w: StageWriter, one: Step) -> None:
    w.end("cancel_branch", message=literal(one.args["reason"]))


def _skip(w: StageWriter, one: Step) -> None:
    w.end("skip", message=literal(one.args["reason"]))


def _swallow(w: StageWriter, one: Step) -> None:
    times, steps = one.args["times"], one.args["steps"]
    if times == 1 and len(steps) == 1 and steps[0].op in ("sleep", "never"):
        w.line("try:")
        w.inner(lambda: w.block(steps))
        w.line("except asyncio.CancelledError:")
        w.note("swallowed", "1", deeper=1)
        w.inner(lambda: w.block(steps))
        return
    count = w.name("swallowed")
    w.line(f"for {count} in range(1, {times + 2}):")
    w.line("    try:")
    w.depth += 1
    w.inner(lambda: w.block(one.args["steps"]))
    w.depth -= 1
    if not always_ends(one.args["steps"]):
        w.line("        break")
    w.line("    except asyncio.CancelledError:")
    w.line(f"        if {count} > {times}:")
    w.line("            raise")
    w.note("swallowed", count, deeper=2)


def _allocate(w: StageWriter, one: Step) -> None:
    w.note("fault.fired", '("memory", 1)')
    megabytes = one.args["megabytes"]
    w.line(f'raise MemoryError("{megabytes} MB are not to be had")')


def _never(w: StageWriter, _one: Step) -> None:
    w.sleep(f"{NEVER_S}")  # never, as far as a script of seconds goes


def _value_read(w: StageWriter, one: Step) -> str:
    return w.words("read", stage=literal(one.args["stage"]), key=literal(one.args["key"]))


WRITERS: Writers = {
    "sleep": _sleep,
    "yield": _yield,
    "release": _release,
    "using": _using,
    "cleanup": _cleanup,
    "generate": _generate,
    "chunk": _chunk,
    "emit": _emit,
    "flood": _flood,
    "input": _input,
    "identify": _identify,
    "log": _log,
    "flaky": _flaky,
    "read": _read,
    "mutate": _mutate,
    "call": _call,
    "parallel": _parallel,
    "thread": _thread,
    "heartbeat": _heartbeat,
    "timeout": _timeout,
    "subpipeline": _subpipeline,
    "context": _context,
    "ok": _ok,
    "fail": _fail,
    "raise": _raise,
    "cancel_run": _cancel_run,
    "cancel_branch": _cancel_branch,
    "skip": _skip,
    "swallow": _swallow,
    "allocate": _allocate,
    "never": _never,
}
