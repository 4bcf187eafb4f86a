"""RETRY-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage load is tried 3 times while it goes on failing
Actual: it was tried 1 times
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402
from stageflow.pipeline.interceptors import ErrorAction, get_default_interceptors  # noqa: E402
from stageflow.pipeline.retry import BackoffStrategy, JitterStrategy, RetryInterceptor  # noqa: E402

seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()


def only(kind, stages, **options):
    """One of Stageflow's own interceptors, put around some stages only."""

    class ForStages(kind):
        async def before(self, stage_name, ctx):
            return await super().before(stage_name, ctx) if stage_name in stages else None

        async def after(self, stage_name, result, ctx):
            if stage_name in stages:
                await super().after(stage_name, result, ctx)

        async def on_error(self, stage_name, error, ctx):
            if stage_name not in stages:
                return ErrorAction.FAIL
            return await super().on_error(stage_name, error, ctx)

    return ForStages(**options)


def ending(output):
    kinds = {"ok": "ok", "fail": "fail", "skip": "skip", "cancel": "cancel_run"}
    return kinds[output.status.value]


def recorded(stage):
    """Note when a stage starts and how it ends."""

    def around(execute):
        async def run(*args):
            ctx = args[-1]
            me = stage
            seen.append((time.monotonic() - began, me, "stage.start", None))
            try:
                output = await execute(*args)
            except asyncio.CancelledError:
                seen.append((time.monotonic() - began, me, "stage.end", "cancelled"))
                raise
            except BaseException as exc:
                seen.append((time.monotonic() - began, me, "stage.end", f"raise:{type(exc).__name__}"))
                raise
            seen.append((time.monotonic() - began, me, "stage.end", ending(output)))
            return output

        return run

    return around


class Load:
    @recorded("load")
    async def execute(self, ctx):
        return StageOutput.fail(error="failed")


def violation():
    retries = {'load': (3, 0.1, 2.0)}  # stage -> attempts, seconds of the first wait, factor
    begins, ends, final = {}, {}, []
    for at, stage, kind, how in seen:
        if kind == "cancel.sent" and how[1]:
            final.append((at + 0.02, "", "the caller cancelled the run"))
        if kind == "run.end":
            final.append((at, "", "the run was over"))
        if kind == "stage.start":
            begins.setdefault(stage, []).append(at)
        if kind == "stage.end":
            ends.setdefault(stage, []).append((at, how))
            failed = how == "fail" or how.startswith("raise:")  # not "cancelled", or "ok"
            last = len(ends[stage]) == retries.get(stage, (1,))[0]
            if how == "cancel_run" or (failed and last):
                final.append((at + 0.02, stage, f"stage {stage} had ended {how}"))
    for stage, (attempts, backoff, factor) in retries.items():
        begun = begins.get(stage, [])
        if len(begun) > attempts:
            return f"stage {stage} was tried {len(begun)} times; declared: {attempts}"
        for since, by, why in final:
            late = [at - since for at in begun[1:] if at > since]
            if late and by != stage:
                return f"stage {stage} was tried again {late[0]:.2f} s after {why}"
        for number, (at, how) in enumerate(ends.get(stage, []), 1):
            if how in ('ok', 'skip', 'cancel_run', 'cancel_branch', 'cancelled'):
                if len(begun) > number:
                    return f"stage {stage} ended {how} and was tried again"
            elif len(begun) == number and number < attempts:
                others = [n for n, one in ends.items() if one[-1][1] != "ok"]
                if others == [stage]:
                    text = f"tried {number} of {attempts} times"
                    return f"stage {stage} failed and was {text}"
            elif len(begun) > number:
                wait = begun[number] - at
                if wait < backoff * factor ** (number - 1) - 0.01:
                    return f"stage {stage} was tried again {wait:.3f} s after it failed"


async def main():
    interceptors = [
        *get_default_interceptors(),
        only(RetryInterceptor, ("load",), max_attempts=3, base_delay_ms=100, max_delay_ms=86400000, backoff_strategy=BackoffStrategy.EXPONENTIAL, jitter_strategy=JitterStrategy.NONE, retryable_errors=(Exception,)),
    ]
    graph = StageGraph([StageSpec(name="load", runner=Load)], interceptors=interceptors)
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(PipelineContext(pipeline_run_id=uuid.uuid4()))
    seen.append((time.monotonic() - began, "", "run.end", None))
    found = violation()
    print(f"VIOLATION RETRY-1: {found}" if found else "HOLDS RETRY-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
