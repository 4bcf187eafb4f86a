"""Compensations: what undoes the completed stages of a run that failed.

A stage declares a compensation when it has done, or is about to do, what may have to be
undone. It counts from the moment at which the stage has completed: a stage that failed,
or an attempt that is retried, has to undo its own work by itself.

The rules:
- they run when the run has failed: a stage failed or timed out in its own right, or the
  run outlived its timeout. A run that was cancelled, by its caller or by a stage, is not
  undone: what it completed stands, and can be gone on with by a redrive.
- they run in reverse order of the stages' completion, and within a stage the one declared
  last first; one at a time, each once, after all stages have ended and before the registered
  cleanups, which may close what they need.
- like cleanups they are tasks that no cancel of the caller reaches, and have the cleanup
  grace, all together. One that fails or is cut is reported, and the rest goes on.
- a subpipeline that completed hands its compensations to the run that it is a child of.
- they are functions, and end with the process: what another process completed before a
  redrive is not undone by the redrive's failure.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.engine.cleanup import Cleanup

__all__ = ["Compensations"]


class Compensations:
    """The compensations of one run's completed stages: a stack, like that of cleanups.

    Attributes:
        run: names of those that were run, in that order.
    """

    def __init__(self) -> None:
        self._stack: list[Cleanup] = []
        self.run: list[str] = []

    def completed(self, declared: Iterable[Cleanup]) -> None:
        """Take over what a stage declared that has now completed."""
        self._stack.extend(declared)

    def stages(self) -> tuple[str, ...]:
        """Return the stages that would be undone."""
        return tuple(dict.fromkeys(one.stage for one in self._stack))

    def take(self) -> Cleanup | None:
        """Remove and return the one to be run next, or None if there is none left."""
        if not self._stack:
            return None
        one = self._stack.pop()
        self.run.append(one.name)
        return one

    def take_all(self) -> list[Cleanup]:
        """Remove and return all of them, in order of completion."""
        found, self._stack = self._stack, []
        return found
