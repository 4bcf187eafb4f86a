"""The fixed pieces of a stand-alone script, kept apart as text.

They are code that is printed, not code that runs here; a test compiles and runs them.
"""

from __future__ import annotations

import textwrap

__all__ = [
    "HEAD",
    "HELPERS",
    "RECORDED",
    "STREAM",
    "with_told",
]

TOLD_MAX = 98

HEAD = '''\
"""{clause} on {install}: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run."""

{imports}

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

{engine}'''

# In the order in which they are printed. Each uses only what stands above it.
HELPERS = {
    "kept": """\
kept = []  # strong references: the loop itself holds its tasks weakly""",
    "note_interrupt": """\
def note_interrupt(stage):
    if not asyncio.current_task().get_name().startswith("own "):  # those the stage itself ends
        note(stage, "interrupt")""",
    "sleep": """\
async def sleep(stage, seconds):
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note_interrupt(stage)
        raise""",
    "join_all": """\
async def join_all(stage, tasks, until=asyncio.ALL_COMPLETED):
    \"\"\"Await tasks of the stage's own; a cancel, or a failure among them, ends them all.\"\"\"
    pending, cancelled = set(tasks), None
    while pending:
        try:
            _, pending = await asyncio.wait(pending, return_when=until)
        except asyncio.CancelledError as exc:
            {INTERRUPT}cancelled = exc
        until = asyncio.ALL_COMPLETED
        for task in tasks:
            if task in pending:
                task.cancel()
    if cancelled is not None:
        raise cancelled""",
    "results_of": """\
def results_of(tasks):
    for task in tasks:  # the failure that ended the others, not their cancellation
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()
    return [task.result() for task in tasks]""",
    "release": """\
async def release(stage, name, seconds, fails=False):
    \"\"\"A cleanup that awaits, as closing a connection does.\"\"\"
    note(stage, "release.begin", name)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        {INTERRUPT}note(stage, "release.cut", name)
        raise
    if fails:
        note(stage, "release.fail", name)
        raise RuntimeError(f"cleanup of {name} failed")
    note(stage, "release.end", name)""",
    "release_now": """\
def release_now(stage, name, fails=False):
    note(stage, "release.begin", name)
    if fails:
        note(stage, "release.fail", name)
        raise RuntimeError(f"cleanup of {name} failed")
    note(stage, "release.end", name)""",
    "stream": """\
async def stream(stage, name, count, every):
    note(stage, "acquire", name)
    try:
        for item in range(count):
            await asyncio.sleep(every)
            yield item
    finally:
        note(stage, "release.begin", name)
        note(stage, "release.over", name)
        note(stage, "release.end", name)""",
    "executions": """\
executions = {}  # stage -> how often it has been run


def execution_number(stage):
    executions[stage] = executions.get(stage, 0) + 1
    return executions[stage]""",
    "filled": """\
def filled(value, given):
    if isinstance(value, dict):
        return {k: filled(v, given) for k, v in value.items()}
    if isinstance(value, list):
        return [filled(v, given) for v in value]
    if isinstance(value, str) and "marker" in given:
        return value.replace("$marker", given["marker"])
    return value""",
    "noted_offer": """\
@contextlib.contextmanager
def noted_offer(stage, producer, n):
    note(stage, "offer.begin", (producer, n))
    try:
        yield
    except BaseException as exc:
        note(stage, "offer.end", (producer, n, f"raise:{type(exc).__name__}"))
        raise
    note(stage, "offer.end", (producer, n, "taken"))""",
    "block_thread": """\
def block_thread(stage, seconds):
    time.sleep(seconds)
    note(stage, "thread.end", seconds)""",
    "noted_exit": """\
@contextlib.contextmanager
def noted_exit(stage, label):
    try:
        yield
    except TimeoutError:  # expired, or another's: told where it is caught
        raise
    except BaseException as exc:
        note(stage, "scope.exit", (label, type(exc).__name__))
        raise
    note(stage, "scope.exit", (label, ""))""",
    "timed_out": """\
def timed_out(exc):
    while exc is not None:
        if isinstance(exc, TimeoutError):
            return True
        exc = exc.__cause__
    return False""",
    "calls": """\
calls = {}  # (run, tool) -> number of calls so far


def call_number(stage, tool):
    key = (stage.rpartition("/")[0], tool)
    calls[key] = calls.get(key, 0) + 1
    note(stage, "call.begin", (tool, calls[key]))
    return calls[key]""",
    "noted_call": """\
@contextlib.contextmanager
def noted_call(stage, tool, number):
    try:
        yield
    except asyncio.CancelledError:
        note(stage, "call.end", (tool, number, "cancelled"))
        raise
    except BaseException as exc:
        how = "timeout" if timed_out(exc) else f"raise:{type(exc).__name__}"
        note(stage, "call.end", (tool, number, how))
        raise
    note(stage, "call.end", (tool, number, "ok"))""",
    "noted_child": """\
@contextlib.contextmanager
def noted_child(stage, name, keep):
    try:
        yield
    except asyncio.CancelledError:
        {INTERRUPT}note(stage, "sub.end", (name, "cancelled"))
        raise
    except BaseException as exc:
        note(stage, "sub.end", (name, f"raise:{type(exc).__name__}"))
        if not keep:
            raise""",
    "cancel_after": """\
async def cancel_after(task, number, seconds, times=1, gap=0.0):
    await asyncio.sleep(seconds)
    for again in range(times):
        if again:
            await asyncio.sleep(gap)
        note("", "cancel.sent", (number, task.cancel()))""",
    "cancel_after_turns": """\
async def cancel_after_turns(task, number, turns, times=1, gap=0.0):
    for _ in range(turns):  # a number of turns of the event loop, not of seconds
        await asyncio.sleep(0)
    for again in range(times):
        if again:
            await asyncio.sleep(gap)
        note("", "cancel.sent", (number, task.cancel()))""",
}

# Of whose end nothing is noted.
STREAM = """\
async def stream(stage, name, count, every):
    note(stage, "acquire", name)
    for item in range(count):
        await asyncio.sleep(every)
        yield item"""

RECORDED = '''\
def recorded(stage):
    """Note when a stage starts and how it ends."""

    def around(execute):
        async def run(*args):
            ctx = args[-1]
            me = {WHO}
            note(me, "stage.start")
            try:
                output = await execute(*args)
            except asyncio.CancelledError:
                note(me, "stage.end", "cancelled")
                raise
            except BaseException as exc:
                note(me, "stage.end", f"raise:{type(exc).__name__}")
                raise
            note(me, "stage.end", ending(output))
            return output

        return run

    return around'''


def with_told(script: str, expected: str, actual: str) -> str:
    """Return a script whose docstring says what is to be expected, and what was seen.

    One that does not begin with a docstring of one line is left as it is.
    """
    first, line, rest = script.partition("\n")
    if not (line and first.startswith('"""') and first.endswith('"""')):
        return script
    told = [f"Expected: {expected}", *([f"Actual: {actual}"] if actual else ())]
    return "\n".join([first[:-3], "", *map(_wrapped, told), '"""', rest])


def _wrapped(text: str) -> str:
    """Return a text as it can stand in a docstring, in lines that fit."""
    plain = " ".join(text.replace("\\", "/").replace('"""', "'''").split())
    return textwrap.shorten(plain, TOLD_MAX, placeholder=" ...")
