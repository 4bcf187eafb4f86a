"""Confirmation: a finding is confirmed only by a script that shows it without dagstorm.

A script that showed it is run twice more: on a real clock a defect that takes a certain order
of events shows now and then, and whoever runs the script is told how often.
"""

from __future__ import annotations

import heapq
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

__all__ = ["OVER", "SCRIPT_LIMIT_S", "Said", "Script", "Trial", "rate_of", "run_script", "try_all"]

SCRIPT_LIMIT_S = 35.0
RUNS = 3
# With this a script ends that could not run, or whose own patience is at its end.
GAVE_UP = 2
# Until this long after its start a script that nothing else waits for is left alone; one that
# sleeps for longer is run again beside itself, for its further runs would keep everybody waiting.
LONG_S = 1.5
OVER = "the time for scripts was over"
FIRST, AGAIN = 0, 1


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


def run_script(script: Script, deadline: float | None = None) -> Said:
    """Run a script once, in a fresh process on the stock loop.

    Args:
        deadline: on the monotonic clock: it is ended then.
    """
    limit_s = SCRIPT_LIMIT_S
    if deadline is not None:
        limit_s = max(0.0, min(limit_s, deadline - time.monotonic()))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dagstorm-") as folder:
        try:
            done = subprocess.run(
                [script.python, "-P", "-s", str(script.file.resolve())],
                capture_output=True,
                text=True,
                timeout=limit_s,
                cwd=folder,
                env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            if limit_s < SCRIPT_LIMIT_S:
                return Said("broken", f"{OVER} when the script had run for {limit_s:.1f} s")
            return Said("broken", f"the script did not end within {SCRIPT_LIMIT_S:g} s")
    lines = [x for x in done.stdout.strip().splitlines() if x.startswith(("VIOLATION", "HOLDS"))]
    last = lines[-1] if lines else ""
    if done.returncode == 1 and last.startswith(f"VIOLATION {script.clause}"):
        return Said("shows", last[:500])
    if done.returncode == 0 and last.startswith(f"HOLDS {script.clause}"):
        how_often = last.partition(": ")[2]
        if how_often:  # one that tries many times
            return Said("holds", how_often[:500])
        return Said("holds", "the script did not show it on the stock event loop")
    if done.returncode == GAVE_UP and not done.stderr.strip():
        took_s = time.monotonic() - began
        return Said("broken", f"its run was not over after {took_s:.0f} s, when the script gave up")
    said = (done.stderr.strip().splitlines() or [last or "nothing"])[-1]
    return Said("broken", f"the script could not run (exit {done.returncode}): {said[:200]}")


def rate_of(said: Sequence[Said]) -> str:
    """Return how often a script showed it: "showed 2 of 3"."""
    return f"showed {sum(one.verdict == 'shows' for one in said)} of {len(said)}"


@dataclass(slots=True, eq=False)
class Trial:
    """The scripts of one finding, run one after the other until one of them shows it.

    Attributes:
        scripts: of its witnesses, the clearest first.
        said: by each run of each script; none where it was not run.
        late: the time was over before all that were needed had been run.
    """

    scripts: Sequence[Script]
    said: list[list[Said]] = field(default_factory=list)
    late: bool = False

    @property
    def shown(self) -> int | None:
        """Return the number of the script that showed it, or None."""
        for number, said in enumerate(self.said):
            if said and said[0].verdict == "shows":
                return number
        return None


@dataclass(slots=True, eq=False)
class _Job:
    trial: Trial
    number: int
    rank: int
    # Further runs of a script that has not said yet that it shows it.
    beside: list[Said] = field(default_factory=list)
    began: float = 0.0
    doubled: int = 0


def try_all(
    trials: Iterable[Trial],
    *,
    at_once: int,
    again_until: float,
    deadline: float | None = None,
    run: Callable[[Script, float | None], Said] = run_script,
) -> None:
    """Run the scripts of many findings, several at once.

    No finding waits for another: first runs come first, then those of other witnesses, and what
    showed it is run again meanwhile.

    Args:
        again_until: on the monotonic clock: no script is run once more after it.
        deadline: on the monotonic clock: no script is run after it at all, and what is running
            is ended.
    """
    numbers = count()
    ready: list[tuple[int, int, _Job]] = []

    def push(job: _Job) -> None:
        heapq.heappush(ready, (job.rank, next(numbers), job))

    for trial in trials:
        if trial.scripts:
            push(_Job(trial, 0, FIRST))
    firsts: dict[tuple[int, int], _Job] = {}
    running: dict[Future[Said], _Job] = {}
    with ThreadPoolExecutor(at_once) as threads:
        while ready or running:
            now = time.monotonic()
            while ready and len(running) < at_once:
                _, _, job = heapq.heappop(ready)
                if deadline is not None and now >= deadline:
                    job.trial.late = job.trial.late or job.rank == FIRST
                    continue
                if job.rank == AGAIN and now >= again_until:
                    continue
                job.began = now
                script = job.trial.scripts[job.number]
                running[threads.submit(run, script, deadline)] = job
                if job.rank == FIRST:
                    firsts[id(job.trial), job.number] = job
            if not running:
                continue
            done, _ = wait(running, timeout=LONG_S, return_when=FIRST_COMPLETED)
            for future in done:
                job = running.pop(future)
                if job.rank == AGAIN:
                    _note_again(job, future.result(), firsts)
                    continue
                _note_first(job, future.result(), push)
            if not ready and time.monotonic() < again_until:
                for job in list(running.values()):
                    # One place is left to whoever comes.
                    if len(running) + len(ready) < at_once - 1 and _is_long(job):
                        job.doubled += 1
                        push(_Job(job.trial, job.number, AGAIN))


def _is_long(job: _Job) -> bool:
    waited = time.monotonic() - job.began >= LONG_S
    return job.rank == FIRST and waited and job.doubled < RUNS - 1


def _note_first(job: _Job, said: Said, push: Callable[[_Job], None]) -> None:
    trial = job.trial
    while len(trial.said) <= job.number:
        trial.said.append([])
    trial.said[job.number] = [said, *job.beside]
    job.beside = trial.said[job.number]
    if said.verdict == "shows":
        for _ in range(RUNS - 1 - job.doubled):
            push(_Job(trial, job.number, AGAIN))
    elif job.number + 1 < len(trial.scripts):
        push(_Job(trial, job.number + 1, FIRST))
    if said.note.startswith(OVER):
        trial.late = True


def _note_again(job: _Job, said: Said, firsts: dict[tuple[int, int], _Job]) -> None:
    if said.note.startswith(OVER):
        return  # nobody waited for it
    # Of a first run that is still going on, or the list of what its script said.
    firsts[id(job.trial), job.number].beside.append(said)
