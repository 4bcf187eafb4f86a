"""Makes of a stand-alone script one that tries many times, and says how often it showed it.

On a real clock a race shows now and then. Such a script does all by means that any program of
asyncio's users has: sleeps of zero seconds around those of its own steps, timers that fire some
tenths of a millisecond late, so that ties fall either way, and a cancel that comes some turns
sooner or later. The numbers of a try are drawn from its own number, and each try begins with
variables of its own, on an event loop of its own.
"""

from __future__ import annotations

import re

from harness.kernel.script_layout import laid_out

__all__ = [
    "ONE_MAX_S",
    "TRIES_MAX",
    "TRY_S",
    "with_other_turns",
    "with_tries",
    "without_process",
]

TRIES_MAX = 400
TRY_S = 14  # no try begins later; the longest run that is waited for still fits
ONE_MAX_S = 13  # what takes longer hangs; the last one is over before the watchdog barks

_WATCHDOG = "threading.Timer(28, os._exit, (2,)).start()\n"
_HOOK = "sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))\n"
_END = re.compile(r"\n\n\nwith asyncio\.Runner\(\) as runner:\n.*\Z", re.S)
_START = re.compile(r'\n\n\nif __name__ == "__main__":\n.*\Z', re.S)

_COUNTED = re.compile(r"(range\()(\d+)(\):  # a number of turns)")
TURNS_APART = (-1, 1, -2, 2, -3, 3, -4, 4)

_PAUSE = """\
async def pause(seconds):
    for _ in range(random.choice((0, 0, 1, 2, 3, 5))):  # a few turns of the event loop
        await asyncio.sleep(0)
    await asyncio.sleep(seconds and seconds + random.choice((0, 0, 0.0002, 0.0009)))
    for _ in range(random.choice((0, 0, 1, 2, 3, 5)) if seconds else 0):  # timers fire together
        await asyncio.sleep(0)"""

_TRIES = f"""


if __name__ == "__main__":
    {_WATCHDOG.strip()}
    began, tries, shown, first = time.monotonic(), 0, 0, ""
    while tries < {TRIES_MAX} and time.monotonic() < began + {TRY_S}:
        tries += 1
        random.seed(tries)
        loop = asyncio.new_event_loop()  # and variables of its own: nothing is left of other tries
        main = loop.create_task(runpy.run_path(__file__)["main"]())
        limit = loop.call_later({ONE_MAX_S}, main.cancel)
        try:
            found = loop.run_until_complete(main)
        except asyncio.CancelledError:
            found = ""  # the cancel came when it judged: that tells nothing
        if loop.time() >= limit.when():
            found = ""  # nor does one that hangs
        loop.close()
        shown, first = shown + bool(found), first or found
    rate = f"in {{shown or 'none'}} of {{tries}} tries"
    said = f"VIOLATION {{CLAUSE}}: {{first}}" if shown else "HOLDS {{CLAUSE}}"
    print(f"{{said}}: {{rate}}", flush=True)
    os._exit(1 if shown else 0)
"""


def with_tries(script: str, clause: str) -> str | None:
    """Return the script that tries many times, or None if it is not of the frame that it needs.

    Args:
        script: as `render` writes it.
    """
    end = _END.search(script)
    if end is None or _WATCHDOG not in script:
        return None
    text = script[: end.start()].replace(_WATCHDOG, "", 1)
    text = text.replace("await asyncio.sleep(", "await pause(")
    text = re.sub(r"(call_later\([\d.]+)", r"\1 + random.choice((0, 0, 0.0004, 0.0009))", text)
    text = re.sub(r"(cancel_after_turns\([^,]+, \d+, )(\d+)()", _turns, text)
    text = _COUNTED.sub(_turns, text)
    before = re.search(r"^(?:@|class |def |async def )", text, re.M)
    if before is None:
        return None
    text = f"{text[: before.start()]}{_PAUSE}\n\n\n{text[before.start() :]}"
    return laid_out(_imported(text + _TRIES.replace("{CLAUSE}", clause)))


def without_process(script: str) -> str | None:
    """Return a script without what starts its `main` and what guards the process that it has for
    itself, or None if it is not of the frame that has these.

    Args:
        script: as `render` writes it, or `with_tries`.
    """
    end = _END.search(script) or _START.search(script)
    if end is None or _HOOK not in script:
        return None
    return f"{script[: end.start()]}\n".replace(_WATCHDOG, "", 1).replace(_HOOK, "", 1)


def with_other_turns(script: str) -> list[str]:
    """Return a script with its caller's cancel some turns of the event loop later or sooner, the
    nearest first; none if it counts no turns.

    The laboratory's loop and asyncio's own may take another number of turns for the same.
    """
    found = _COUNTED.search(script)
    if found is None:
        return []
    turns = (int(found[2]) + by for by in TURNS_APART)
    return [_COUNTED.sub(rf"\g<1>{n}\g<3>", script) for n in turns if n > 0]


def _turns(found: re.Match[str]) -> str:
    return f"{found[1]}random.randrange({2 * int(found[2]) + 3}){found[3]}"


def _imported(text: str) -> str:
    """Return the script with the modules that are new in it imported, in order."""
    lines = text.split("\n")
    old = [i for i, line in enumerate(lines) if re.fullmatch(r"import \w+", line)]
    wanted = {lines[i] for i in old} | {"import random", "import runpy", "import time"}
    lines[old[0] : old[-1] + 1] = sorted(wanted)
    return "\n".join(lines)
