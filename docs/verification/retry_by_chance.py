"""A stage that fails twice in a row by chance ends its run, though a third attempt was declared.

RETRY-1.

One call in ten fails, as in a bad month; each of ten stages may be tried three times. Two failures
in a row come to one stage in a hundred, three to one in a thousand. Runs are made until a stage
has failed twice in a row, and what became of it is told. Nothing else fails in that run.
"""

import random
import sys

from start import TAKES_INTERCEPTORS, graph_of, main, ok, outcome, run

GRAPHS = ("unified", "older")
RUNS, STAGES, ATTEMPTS = 100, 10, 3


async def seen(kind):
    try:
        from stageflow.pipeline.retry import RetryInterceptor
    except ImportError:
        return None
    if kind == "unified" and not TAKES_INTERCEPTORS:
        return None
    chance = random.Random(7)
    tries = {}

    def calling(name):
        async def stage(_ctx):
            tries.setdefault(name, []).append(chance.random() >= 0.1)
            if not tries[name][-1]:
                raise ConnectionError("reset")
            return ok()

        return stage

    given_up = []
    for number in range(1, RUNS + 1):
        tries.clear()
        retry = RetryInterceptor(max_attempts=ATTEMPTS, base_delay_ms=1)
        stages = {f"s{n}": calling(f"s{n}") for n in range(STAGES)}
        ended = await outcome(run(kind, graph_of(kind, stages, interceptors=[retry])))
        for name, made in tries.items():
            # Other stages that failed may have ended the run before its next attempt came.
            others = any(not one[-1] for other, one in tries.items() if other != name)
            if made == [False, False] and not others:
                given_up.append((number, name, type(ended).__name__))
    if not given_up:
        return ""
    number, name, how = given_up[0]
    return (
        f"in {len(given_up)} of {RUNS} runs a stage that failed twice was given up, though "
        f"{ATTEMPTS} attempts were declared; first {name} of run {number}, which ended in {how}"
    )


if __name__ == "__main__":
    main(sys.modules[__name__])
