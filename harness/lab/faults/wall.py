"""The wall clock of a subject's engine, which may be set while real time goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from harness.kernel.plan import ClockStep
from harness.kernel.substitutes import Substitutes

__all__ = ["WallClock"]


class _Steps(tuple[ClockStep, ...]):
    """The steps of a clock; they are gone through each time that it is read."""

    reads = 0

    def __iter__(self) -> Iterator[ClockStep]:
        _Steps.reads += 1
        return super().__iter__()


class WallClock:
    """Stand-ins for the clocks in the modules of one package.

    What they count from is the machine's monotonic clock as it is: an engine may compare it
    with its loop's.
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._clocks = Substitutes(package)

    def follow(self, at_s: float = 0.0, by_s: float = 0.0) -> None:
        """Put the clocks in; the wall clock is set by `by_s` when `at_s` seconds have passed."""
        begun_s = time.monotonic()
        self._clocks.follow(
            time.monotonic, 0, _Steps((ClockStep(begun_s + at_s if at_s else 0.0, by_s),))
        )

    def account(self) -> dict[str, Any]:
        """Return whether the package could be given clocks, and how often it read the wall's."""
        # Whose clock is asyncio's own has no modules to be given another.
        fits = bool(self._package) and self._package != "asyncio"
        return {"clock_set": fits, "wall_reads": _Steps.reads}
