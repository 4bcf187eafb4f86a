"""What processes hold: sampled while they work, and whether it grows without end.

Memory that a process was given is rarely given back, and what an engine's loop keeps for a
while (timers that were cancelled, say) goes up and down. So growth is never read off two
samples: a leak is what repeated runs show after a warm-up, by rules that are printed.
"""

from __future__ import annotations

import csv
import statistics
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

__all__ = [
    "LEAK_RULE",
    "LeakVerdict",
    "Sample",
    "Sampler",
    "batches",
    "leak_verdict",
    "sample",
    "slope",
    "write_samples",
]

SAMPLES_MAX = 100_000
LEAK_BATCHES_MIN = 8
LEAK_RULE = (
    "after the warm-up each of the later half of the batches holds more than each of the earlier "
    "half, and the Theil-Sen slope is at least {floor:g} {unit} a run"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process and its children held at one moment.

    Attributes:
        at_s: wall clock, in seconds since the epoch.
        cpu_s: processor time since they began, in seconds.
        sockets: internet sockets, those that listen included; -1 where the system does not say.
        switches: context switches since they began.
    """

    at_s: float
    process: str
    rss_bytes: int
    cpu_s: float
    descriptors: int
    threads: int
    sockets: int
    switches: int


def sample(name: str, pid: int, *, alone: bool = False) -> Sample | None:
    """Sample a process and, unless `alone`, its children; None if it is no more."""
    at_s = time.time()
    try:
        root = psutil.Process(pid)
        family = [root, *([] if alone else root.children(recursive=True))]
    except psutil.Error:
        return None
    totals = {"rss_bytes": 0, "descriptors": 0, "threads": 0, "sockets": 0, "switches": 0}
    cpu_s = 0.0
    seen = False
    for one in family:
        try:
            with one.oneshot():
                rss, times = one.memory_info().rss, one.cpu_times()
                descriptors, threads = one.num_fds(), one.num_threads()
                switches = one.num_ctx_switches()
                sockets = len(one.net_connections(kind="inet"))
        except psutil.Error:
            continue  # it ended while it was looked at
        if not rss:
            continue  # it has ended, and nobody has waited for it yet
        seen = True
        totals["rss_bytes"] += rss
        totals["descriptors"] += descriptors
        totals["threads"] += threads
        totals["sockets"] += sockets
        totals["switches"] += switches.voluntary + switches.involuntary
        cpu_s += times.user + times.system
    return Sample(at_s, name, cpu_s=round(cpu_s, 3), **totals) if seen else None


class Sampler:
    """Samples processes in a thread of its own, for the time of a `with` block.

    Args:
        pids: name -> process id; more may be added by `watch` meanwhile.
        every_s: the time between samples, in seconds.
        alone: names of those whose children do not count.

    Attributes:
        samples: at most `SAMPLES_MAX`; what came later is in `left_out`.
        cpu_s: processor time that the sampling itself took, in seconds, once it has ended.
    """

    def __init__(
        self, pids: Mapping[str, int], *, every_s: float = 0.5, alone: Collection[str] = ()
    ) -> None:
        self._alone = set(alone)
        self.cpu_s = 0.0
        self.samples: list[Sample] = []
        self.left_out = 0
        self._pids = dict(pids)
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dagstorm-sampler", daemon=True)

    def watch(self, name: str, pid: int, *, alone: bool = False) -> None:
        """Sample one more process, until it is gone; `alone` without its children."""
        if alone:
            self._alone.add(name)
        self._pids[name] = pid

    def wait_for(self, count: int, *, limit_s: float) -> bool:
        """Wait for so many samples; False if they did not come in time."""
        until = time.monotonic() + limit_s
        while len(self.samples) < count:
            if time.monotonic() > until:
                return False
            time.sleep(self._every_s)
        return True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _exc: BaseException | None,
        _tb: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            for name, pid in list(self._pids.items()):
                one = sample(name, pid, alone=name in self._alone)
                if one is None:
                    if not psutil.pid_exists(pid):
                        self._pids.pop(name, None)
                    continue
                if len(self.samples) >= SAMPLES_MAX:
                    self.left_out += 1
                else:
                    self.samples.append(one)
            if self._ended.wait(self._every_s):
                self.cpu_s = time.thread_time()
                return


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write samples as CSV, whole or not at all."""
    draft = path.with_name(f".{path.name}.part")
    with draft.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [f.name for f in fields(Sample)])
        table.writeheader()
        table.writerows(asdict(one) for one in samples)
    draft.replace(path)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the Theil-Sen slope: the median of the slopes of all pairs; 0.0 without a pair."""
    slopes = [
        (y2 - y1) / (x2 - x1)
        for i, (x1, y1) in enumerate(points)
        for x2, y2 in points[i + 1 :]
        if x1 != x2
    ]
    return statistics.median(slopes) if slopes else 0.0


@dataclass(frozen=True, slots=True)
class LeakVerdict:
    """Whether a quantity grows with the number of runs.

    Attributes:
        leaks: None if there are too few batches to say.
        per_run: the slope, in `unit` a run.
        rule: in words, with its numbers.
    """

    leaks: bool | None
    quantity: str
    unit: str
    per_run: float
    rule: str
    series: tuple[float, ...]


def leak_verdict(
    series: Sequence[float],
    *,
    quantity: str,
    unit: str,
    runs_per_batch: int,
    warm_up: int,
    floor: float,
) -> LeakVerdict:
    """Judge what was held after each of several equal batches of runs.

    Args:
        warm_up: so many batches at the beginning are not judged.
        floor: growth a run, in `unit`, below which it is no leak.
    """
    rule = LEAK_RULE.format(floor=floor, unit=unit)
    kept = list(series[warm_up:])
    if len(kept) < LEAK_BATCHES_MIN:
        return LeakVerdict(None, quantity, unit, 0.0, rule, tuple(series))
    per_run = slope([(i * runs_per_batch, value) for i, value in enumerate(kept)])
    half = len(kept) // 2
    apart = min(kept[half:]) > max(kept[:half])
    return LeakVerdict(
        apart and per_run >= floor, quantity, unit, round(per_run, 3), rule, tuple(series)
    )


def batches(once: Callable[[], Mapping[str, float]], count: int) -> dict[str, list[float]]:
    """Call `once` so often; return quantity -> what it held after each call."""
    held: dict[str, list[float]] = {}
    for _ in range(count):
        for quantity, value in once().items():
            held.setdefault(quantity, []).append(value)
    return held
