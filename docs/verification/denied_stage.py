"""A stage that a guard denied is told as completed, and what needs it runs.

GRAPH-5.

A short-circuited stage gets `status="completed" # Interceptor result is treated as success`. The
guard denies by `InterceptorResult(stage_ran=False, error=...)`, as the README's example and
Stageflow's own `AuthInterceptor` do. The unified graph drops the error besides.
"""

import sys

from stageflow.pipeline.interceptors import BaseInterceptor, InterceptorResult
from start import TAKES_INTERCEPTORS, graph_of, main, ok, outcome, run

GRAPHS = ("unified", "older")


class OnlyReaders(BaseInterceptor):
    name = "only_readers"
    priority = 1

    async def before(self, stage_name, ctx):
        if stage_name == "authorise":
            return InterceptorResult(stage_ran=False, error="Not authorised")
        return None

    async def after(self, stage_name, result, ctx):
        pass


async def seen(kind):
    if kind == "unified" and not TAKES_INTERCEPTORS:
        return None
    notes = []

    async def authorise(_ctx):
        return ok()

    async def pay(_ctx):
        notes.append("paid")
        return ok()

    stages = {"authorise": authorise, "pay": (pay, ("authorise",))}
    ended = await outcome(run(kind, graph_of(kind, stages, interceptors=[OnlyReaders()])))
    if isinstance(ended, Exception) or not notes:
        return ""
    denied = ended["authorise"]
    status = getattr(denied.status, "value", denied.status)
    return f"the denied stage is told as {status} (error: {denied.error}); {notes[0]} after it"


if __name__ == "__main__":
    main(sys.modules[__name__])
