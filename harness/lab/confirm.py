"""Confirmation: a finding is confirmed only by a script that shows it without dagstorm.

A script that showed it is run twice more: on a real clock a defect that takes a certain order
of events shows now and then, and whoever runs the script is told how often.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "SCRIPT_LIMIT_S",
    "Said",
    "Script",
    "rate_of",
    "run_again",
    "run_scripts",
    "run_until",
]

SCRIPT_LIMIT_S = 35
# They spend their time in real sleeps, not on the processor.
AT_ONCE = 4
RUNS = 3


@dataclass(frozen=True, slots=True)
class Script:
    """A stand-alone script of a finding, and the interpreter of its engine's environment."""

    fingerprint: str
    clause: str
    file: Path
    python: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a script said.

    Attributes:
        verdict: "shows", "holds", or "broken" (it could not run, or did not end).
        note: what it printed, or what went wrong; one line.
    """

    verdict: str
    note: str


def run_script(script: Script) -> Said:
    """Run a script once, in a fresh process on the stock loop."""
    with tempfile.TemporaryDirectory(prefix="dagstorm-") as folder:
        try:
            done = subprocess.run(
                [script.python, "-P", "-s", str(script.file.resolve())],
                capture_output=True,
                text=True,
                timeout=SCRIPT_LIMIT_S,
                cwd=folder,
                env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Said("broken", f"the script did not end within {SCRIPT_LIMIT_S} s")
    lines = [x for x in done.stdout.strip().splitlines() if x.startswith(("VIOLATION", "HOLDS"))]
    last = lines[-1] if lines else ""
    if done.returncode == 1 and last.startswith(f"VIOLATION {script.clause}"):
        return Said("shows", last[:500])
    if done.returncode == 0 and last.startswith(f"HOLDS {script.clause}"):
        how_often = last.partition(": ")[2]
        if how_often:  # one that tries many times
            return Said("holds", how_often[:500])
        return Said("holds", "the script did not show it on the stock event loop")
    said = (done.stderr.strip().splitlines() or [last or "nothing"])[-1]
    return Said("broken", f"the script could not run (exit {done.returncode}): {said[:200]}")


def run_scripts(
    scripts: Iterable[Script], run: Callable[[Script], Said] = run_script
) -> list[Said]:
    """Run each script once, a few at once; returns what they said, in the same order."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(run, scripts))


def run_until(
    scripts: Iterable[Script],
    deadline: float,
    run: Callable[[Script], Said] = run_script,
) -> list[Said | None]:
    """Run each script once, a few at once; None for those that the deadline kept from running.

    Args:
        deadline: on the monotonic clock: no script is started after it.
    """

    def unless_late(script: Script) -> Said | None:
        return run(script) if time.monotonic() < deadline else None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(unless_late, scripts))


def run_again(
    scripts: Iterable[Script],
    *,
    deadline: float,
    run: Callable[[Script], Said] = run_script,
) -> dict[str, list[Said]]:
    """Run scripts that showed it twice more, those first that come first, until time is up.

    Args:
        deadline: on the monotonic clock: no script is started after it.

    Returns:
        fingerprint -> what the further runs said: none, one or two.
    """

    def unless_late(script: Script) -> tuple[str, Said | None]:
        return script.fingerprint, run(script) if time.monotonic() < deadline else None

    said: dict[str, list[Said]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for mark, one in pool.map(unless_late, [*scripts] * (RUNS - 1)):
            said.setdefault(mark, []).extend([] if one is None else [one])
    return said


def rate_of(said: Sequence[Said]) -> str:
    """Return how often a script showed it: "showed 2 of 3"."""
    return f"showed {sum(one.verdict == 'shows' for one in said)} of {len(said)}"
