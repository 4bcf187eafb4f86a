"""The default circuit breaker neither opens when it says, nor stays open, nor tells of it.

GRAPH-5.

It is documented to open after 5 failures, for 30 seconds. A failure counts twice (`on_error` and
`after`), so it opens after three; the stage that it refuses is told as completed; and that
"success" closes it again, so the stage that keeps failing runs on.
"""

import sys

from start import TAKES_INTERCEPTORS, graph_of, main, outcome, run

GRAPHS = ("unified", "older")


async def seen(kind):
    if kind == "unified" and not TAKES_INTERCEPTORS:
        return None
    ran = []

    async def pay(_ctx):
        ran.append(number)
        raise OSError("the bank does not answer")

    graph, refused = graph_of(kind, {"pay": pay}), []
    for number in range(1, 9):
        ended = await outcome(run(kind, graph))
        if number not in ran:
            told = "failed" if isinstance(ended, Exception) else ended["pay"].status
            refused.append(f"run {number} told as {getattr(told, 'value', told)}")
    if not refused or (refused[0].startswith("run 6") and ran[-1] < 6):
        return ""
    return f"of 8 failing runs {len(ran)} ran the stage; refused: {', '.join(refused)}"


if __name__ == "__main__":
    main(sys.modules[__name__])
