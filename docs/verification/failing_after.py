"""What an interceptor raises after its stage is swallowed.

GRAPH-5.

`after()` is the only place at which an interceptor sees what a stage has done; what it raises is
logged ("Isolated - don't crash the stage"), and the stage counts as completed. From 0.8.0 on a
`CriticalInterceptorError` is let through.
"""

import sys

from stageflow.pipeline.interceptors import BaseInterceptor
from start import TAKES_INTERCEPTORS, graph_of, main, ok, outcome, run

GRAPHS = ("unified", "older")


class Audit(BaseInterceptor):
    name = "audit"

    async def before(self, stage_name, ctx):
        return None

    async def after(self, stage_name, result, ctx):
        raise OSError("the audit log is full")


async def seen(kind):
    if kind == "unified" and not TAKES_INTERCEPTORS:
        return None

    async def pay(_ctx):
        return ok()

    ended = await outcome(run(kind, graph_of(kind, {"pay": pay}, interceptors=[Audit()])))
    if isinstance(ended, Exception) or ended["pay"].error:
        return ""
    return "the audit failed after the stage; the run is a success that says nothing of it"


if __name__ == "__main__":
    main(sys.modules[__name__])
