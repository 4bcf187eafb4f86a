"""What a campaign's workers hold while they work: sampled, written down, never judged by.

Results do not depend on it: `resources.csv` and `resources.json` are of the machine and of the
moment, and nothing that is the same for the same seed comes from them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.lab.conclude import write_json
from harness.lab.engines import EngineRef
from harness.lab.growth import GROWTH_RULE
from harness.lab.resources import Sampler, write_samples

__all__ = ["EVERY_S", "WINDOWS_MAX", "Watching"]

EVERY_S = 0.5
WINDOWS_MAX = 1_000


class Watching:
    """Samples the workers of a campaign from its beginning until `write`.

    Args:
        every_s: the time between two samples of a worker, in seconds.
    """

    def __init__(self, *, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._sampler = Sampler({}, every_s=every_s)
        self._lock = threading.Lock()
        self._windows: list[dict[str, Any]] = []
        self._began_s = time.time()
        self._sampler.__enter__()
        self._ended = False

    def __enter__(self) -> Watching:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end()

    def worker(self, ref: EngineRef, number: int, pid: int) -> None:
        """Sample one more worker: what a `Pool` tells of those that it starts."""
        # Its children would cost ten times as much to find, and engines start none.
        self._sampler.watch(f"{ref.label} #{number}", pid, alone=True)

    @contextlib.contextmanager
    def fault(self, what: str) -> Iterator[None]:
        """Note the time of a block as a window in which a fault was at work."""
        began_s = time.time()
        try:
            yield
        finally:
            with self._lock:
                if len(self._windows) < WINDOWS_MAX:
                    ended_s = time.time()
                    self._windows.append({"what": what, "begin_s": began_s, "end_s": ended_s})

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._sampler.__exit__(None, None, None)

    def write(self, folder: Path, growth: Sequence[Mapping[str, Any]]) -> None:
        """End the sampling and write resources.csv and resources.json.

        Args:
            growth: what `growth_rows` measured, none if it was not asked for.
        """
        self._end()
        write_samples(folder / "resources.csv", self._sampler.samples)
        write_json(
            folder / "resources.json",
            {
                "schema_version": 1,
                "began_s": round(self._began_s, 3),
                "every_s": self._every_s,
                "samples": len(self._sampler.samples),
                "samples_left_out": self._sampler.left_out,
                "sampling_cpu_s": round(self._sampler.cpu_s, 3),
                "windows": self._windows,
                "growth_rule": GROWTH_RULE,
                "growth": list(growth),
            },
        )
