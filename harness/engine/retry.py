"""Retries: further attempts of a stage that failed or timed out, each after a wait.

Each attempt is a job of its own: its task, with all that the stage holds in a `finally`, an
`async with` or a subpipeline, has ended before the wait for the next one begins. What an
attempt registered by `Context.cleanup` is the run's, and is cleaned up at the run's end.

The rules:
- the stage's timeouts hold for each attempt, from that attempt's start; over all of them,
  waits included, stands the run's deadline: a wait that would pass it is not begun.
- retried is what raised an exception or outlived a timeout, also if it then returned. A stage
  that returned in time is done, whatever it returned; one that ended by a `CancelledError` was
  called off, whoever did it; and one that did not stop within its grace is still running.
- once the run is to stop there is no further attempt, and a wait ends at once.
- the last attempt alone decides what became of the stage; its report keeps the failures of
  those before it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from harness.engine.errors import PipelineError, StrayCancel
from harness.engine.graph import SECONDS_MAX, seconds
from harness.engine.job import Job
from harness.engine.result import Failure

__all__ = ["Retries", "Retry", "checked_retry", "failures_of"]

ATTEMPTS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Retry:
    """How a stage is retried.

    Attributes:
        attempts: executions in all, the first included.
        backoff_s: from the end of an attempt to the begin of the next; times `factor` after
            each.
        jitter_s: up to how much is added to each wait, by chance.
    """

    attempts: int = 3
    backoff_s: float = 0.1
    factor: float = 2.0
    jitter_s: float = 0.0

    def wait_s(self, failed: int, rng: random.Random) -> float:
        """Return how long to wait after that many attempts have failed."""
        try:
            wait = self.backoff_s * self.factor ** (failed - 1)
        except OverflowError:
            wait = SECONDS_MAX
        if self.jitter_s:
            wait += rng.uniform(0, self.jitter_s)
        return min(wait, SECONDS_MAX)


def checked_retry(retry: object, where: str) -> Retry:
    """Return a retry as declared.

    Raises:
        PipelineError: naming the stage (`where`) and the number that cannot be used.
    """
    if not isinstance(retry, Retry):
        raise PipelineError(f"{where}: retry: expected a Retry, got {retry!r}")
    n: object = retry.attempts
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= ATTEMPTS_MAX:
        raise PipelineError(
            f"{where}: retry: attempts: expected a whole number from 1 to {ATTEMPTS_MAX}, got {n!r}"
        )
    seconds(retry.backoff_s, f"{where}: retry: backoff_s")
    seconds(retry.jitter_s, f"{where}: retry: jitter_s")
    factor: object = retry.factor
    number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
    if not number or not 1 <= factor <= SECONDS_MAX:  # type: ignore[operator]
        raise PipelineError(
            f"{where}: retry: factor: expected a number from 1 to {SECONDS_MAX:g}, got {factor!r}"
        )
    return retry


def failures_of(job: Job) -> tuple[Failure, ...]:
    """Return how an attempt failed, none if there is nothing to retry it for.

    Two, if it timed out and then failed in its own cleanup.
    """
    error = job.error()
    if job.stopped is None:
        if isinstance(error, Exception) and not isinstance(error, StrayCancel):
            return (Failure(job.name, error),)
        return ()
    if job.stopped.status != "timed_out" or job.stopped.error is None:
        return ()
    timeout = Failure(job.name, job.stopped.error)
    return (timeout,) if error is None else (timeout, Failure(job.name, error, stopping=True))


class Retries:
    """The earlier attempts of one run's stages, and the stages that wait for another one."""

    def __init__(self) -> None:
        self._failed: dict[str, list[tuple[Failure, ...]]] = {}
        self._waiting: dict[str, tuple[Job, asyncio.Handle]] = {}

    def attempts(self, stage: str) -> int:
        """Return the number of the stage's present attempt, from 1."""
        return 1 + len(self._failed.get(stage, ()))

    def left(self, stage: str, retry: Retry | None) -> bool:
        """Say whether the stage may be tried once more after its present attempt."""
        return retry is not None and self.attempts(stage) < retry.attempts

    def earlier(self, stage: str) -> tuple[Failure, ...]:
        """Return the failures of all attempts before the present one."""
        return tuple(one for attempt in self._failed.get(stage, ()) for one in attempt)

    def wait(
        self,
        job: Job,
        failures: tuple[Failure, ...],
        wait_s: float,
        loop: asyncio.AbstractEventLoop,
        call: Callable[[str], object],
    ) -> None:
        """Have `call(stage)` called when the wait for the stage's next attempt is over."""
        self._failed.setdefault(job.name, []).append(failures)
        self._waiting[job.name] = (job, loop.call_later(wait_s, call, job.name))

    def begin(self, stage: str) -> None:
        """The wait of a stage is over: its next attempt begins."""
        del self._waiting[stage]

    def drop(self) -> list[tuple[Job, tuple[Failure, ...]]]:
        """End all waits; return (last attempt, its failures), which then is the present one."""
        found = []
        for stage, (job, timer) in self._waiting.items():
            timer.cancel()
            found.append((job, self._failed[stage].pop()))
        self._waiting.clear()
        return found
