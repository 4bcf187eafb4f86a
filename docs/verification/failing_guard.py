"""A guard that raises is switched off, and the stage runs.

GRAPH-5.

Whatever an interceptor's `before()` raises is logged ("Isolated interceptor errors don't crash
the stage"), and the stage runs; from 0.8.0 on a `CriticalInterceptorError` is let through. Here
the guard is Stageflow's own: when the service that validates tokens is down, everybody is let in.
"""

import sys

from stageflow.auth.interceptors import AuthInterceptor
from start import TAKES_INTERCEPTORS, graph_of, main, ok, outcome, run

GRAPHS = ("unified", "older")


class ServiceIsDown:
    async def validate(self, _token):
        raise ConnectionError("no answer from the service that has the keys")


async def seen(kind):
    if kind == "unified" and not TAKES_INTERCEPTORS:
        return None
    notes = []

    async def read_records(_ctx):
        notes.append("read_records ran")
        return ok()

    guard = AuthInterceptor(jwt_validator=ServiceIsDown())
    graph = graph_of(kind, {"read_records": read_records}, interceptors=[guard])
    await outcome(run(kind, graph, data={"auth_token": "forged"}))
    return f"{notes[0]} although the token was never validated" if notes else ""


if __name__ == "__main__":
    main(sys.modules[__name__])
