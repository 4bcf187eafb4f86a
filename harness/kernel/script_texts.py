"""The fixed pieces of a stand-alone script, kept apart as text.

They are code that is printed, not code that runs here; a test compiles and runs them.
"""

from __future__ import annotations

__all__ = ["ENDING", "HEAD", "HELPERS", "MAIN", "RECORDED"]

HEAD = '''\
"""Stand-alone check of {clause} on {title}.

Needs {install} and the standard library. Prints "VIOLATION {clause}: ..." and
exits 1 where the defect shows, "HOLDS {clause}" and exits 0 where it does not, and
exits 2 where it could not run.
"""

from __future__ import annotations

{imports}

try:
    {engine}
except ImportError as exc:
    print("could not run:", exc)
    sys.exit(2)'''

# In the order in which they are printed. Each uses only what stands above it.
HELPERS = {
    "note": """\
seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()
kept = []  # strong references: the loop itself holds its tasks weakly


def note(stage, kind, detail=None):
    seen.append((time.monotonic() - began, stage, kind, detail))""",
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
    "held": """\
@contextlib.asynccontextmanager
async def held(stage, name, cleanup_seconds, fails=False):
    note(stage, "acquire", name)
    try:
        yield
    finally:
        await release(stage, name, cleanup_seconds, fails)""",
    "stream": """\
async def stream(stage, name, count, every):
    note(stage, "acquire", name)
    try:
        for item in range(count):
            await asyncio.sleep(every)
            yield item
    finally:
        release_now(stage, name)""",
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
    return calls[key]


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

RECORDED = '''\
stage_tasks = {}  # task -> the stage that runs in it


def recorded(stage):
    """Note when a stage starts and how it ends."""

    def around(execute):
        @functools.wraps(execute)
        async def run(*args):
            ctx = args[-1]
            me = {WHO}
            stage_tasks[asyncio.current_task()] = me
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

MAIN = '''\
class NeverEnded(Exception):
    """The run had not ended after {LIMIT} seconds."""


RUNS = (
{RUNS}
)


async def caller(graph, run, tenant, start_seconds):
    if start_seconds:
        await asyncio.sleep(start_seconds)
    note({PREFIX}, "run.begin")
    try:
        results = await start(graph, run, tenant)
    except BaseException as exc:
        note({PREFIX}, "run.end", type(exc).__name__)
        raise
    note({PREFIX}, "run.end", "returned")
    return results


def settled(task):
    """Return what came out of a run: its results, and its exception."""
    if not task.done():
        return None, NeverEnded("the run had not ended after {LIMIT} seconds")
    if task.cancelled():
        return None, asyncio.CancelledError()
    if task.exception() is not None:
        return None, task.exception()
    return task.result(), None


async def main():
    global graph
{LISTEN}    try:
        graph = build()
    except Exception as refused:  # the engine would not take the pipeline: nothing was run
        refused.dagstorm_phase = "build"
        finish(refused, {}, [], 0.0)
    tasks = {
        run: asyncio.create_task(caller(graph, run, tenant, seconds), name=f"run {run}")
        for run, tenant, seconds in RUNS
    }
{CANCELS}    await asyncio.wait(tasks.values(), timeout={LIMIT})
    took = time.monotonic() - began
    for _ in range(10):  # whatever only needs a turn or two to end gets them
        await asyncio.sleep(0)
    # What is left now, but for this function and for tasks that stages started themselves.
    left = sorted(
        stage_tasks.get(task) or task.get_coro().__qualname__
        for task in asyncio.all_tasks()
        if task is not asyncio.current_task() and not task.get_name().startswith(("own ", "run "))
    )
{COLLECT}{ENDING}


def finish(error, outputs, left, took):
    found = violation(seen, error, outputs, left, took)
    print("HOLDS {CLAUSE}" if found is None else f"VIOLATION {CLAUSE}: {found}")
    sys.stdout.flush()
    os._exit(0 if found is None else 1)  # at once: what is left running must not hold it up


def give_up():
    print("could not run: no end within {WATCHDOG} seconds", flush=True)
    os._exit(2)


if __name__ == "__main__":
    watchdog = threading.Timer({WATCHDOG}, give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        asyncio.run(main())
    except BaseException:
        traceback.print_exc()
        os._exit(2)'''

# Only in scripts whose check looks at `unretrieved`.
UNRETRIEVED = {
    "{LISTEN}": """\
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, context: unretrieved.append(repr(context.get("exception")))
        if "never retrieved" in context["message"]
        else None
    )
""",
    "{COLLECT}": """\
    # Whatever still holds the engine's tasks lets go, so that asyncio tells of their exceptions.
    for task in tasks.values():
        if task.done() and not task.cancelled() and task.exception() is not None:
            traceback.clear_frames(task.exception().__traceback__)
    stage_tasks.clear()
    gc.collect()
""",
}

ENDING = {
    "one": """\
    (run,) = tasks.values()
    results, error = settled(run)
    finish(error, reachable(results, error), left, took)""",
    "many": """\
    outcomes = {run: settled(task) for run, task in tasks.items()}
    errors = {run: error for run, (_, error) in outcomes.items() if error is not None}
    outputs = {
        f"{run}/{stage}": value
        for run, (results, error) in outcomes.items()
        for stage, value in reachable(results, error).items()
    }
    finish(next(iter(errors.values()), None), outputs, left, took)""",
}
