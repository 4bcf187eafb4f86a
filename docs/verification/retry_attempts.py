"""Of five declared attempts two are made, and of a reported failure one.

RETRY-1.

`RetryInterceptor(max_attempts=5)` answers RETRY; `run_with_interceptors` then runs the stage once
more ("Simple retry - could add backoff in future") and takes a second failure as final. Statuses
can be declared to be retried as well (`retry_on_status`); `after()` waits for them, and its
caller asks for no answer.
"""

import sys

from stageflow import StageOutput
from start import TAKES_INTERCEPTORS, graph_of, main, outcome, run

GRAPHS = ("unified", "older")


async def seen(kind):
    try:
        from stageflow.pipeline.retry import RetryInterceptor
    except ImportError:
        return None
    if kind == "unified" and not TAKES_INTERCEPTORS:
        return None
    tried = []

    async def raises(_ctx):
        tried.append(1)
        raise ConnectionError("reset")

    async def reports(_ctx):
        tried.append(1)
        return StageOutput.fail(error="reset")

    told = []
    for load, options in ((raises, {}), (reports, {"retry_on_status": ("failed",)})):
        tried.clear()
        retry = RetryInterceptor(max_attempts=5, base_delay_ms=1, **options)
        await outcome(run(kind, graph_of(kind, {"load": load}, interceptors=[retry])))
        if len(tried) < 5:
            told.append(f"a stage that {load.__name__} was tried {len(tried)} of 5 times")
    return "; ".join(told)


if __name__ == "__main__":
    main(sys.modules[__name__])
