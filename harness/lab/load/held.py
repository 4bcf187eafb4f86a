"""What an engine still holds after a load: memory, descriptors, objects of runs that are over."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from harness.kernel.errors import EnvironmentFault
from harness.lab.load.judge import Broken, Check
from harness.lab.load.server import Served
from harness.lab.resources import Sample, batches, leak_verdict, sample, slope

__all__ = ["back", "growth", "leaks"]

GROWTH_WARM_UP = 0.2
MIB = 1 << 20


def back(before: Sample, after: Sample) -> list[Check]:
    """Memory and descriptors are back, after the load, to about where they were before."""
    limit = round(before.rss_bytes * 1.25) + 16 * MIB
    return [
        Check(
            "memory",
            "pass" if after.rss_bytes <= limit else "fail",
            "resident memory after the load is at most a quarter and 16 MiB above that before",
            f"{before.rss_bytes / MIB:.1f} MiB before, {after.rss_bytes / MIB:.1f} MiB after",
            severity="medium",
            clause="LOAD-5",
            broken=() if after.rss_bytes <= limit else (Broken("memory-kept", 1),),
            figures={"before_bytes": before.rss_bytes, "after_bytes": after.rss_bytes},
        ),
        Check(
            "descriptors",
            "pass" if after.descriptors <= before.descriptors + 3 else "fail",
            "at most three more descriptors are open after the load than before",
            f"{before.descriptors} before, {after.descriptors} after",
            clause="LOAD-5",
            broken=()
            if after.descriptors <= before.descriptors + 3
            else (Broken("descriptors-kept", 1),),
            figures={"before": before.descriptors, "after": after.descriptors},
        ),
    ]


def leaks(served: Served, *, runs: int, count: int) -> list[Check]:
    """Repeat runs in batches; what seems to leak is looked at a second time."""

    def once() -> dict[str, float]:
        stats = served.ask("POST", "/batch", {"runs": runs})
        held = sample("engine", served.pid)
        if held is None:
            raise EnvironmentFault("the serving process is gone")
        return {
            "objects": stats["objects"],
            "memory": held.rss_bytes / 1024,
            "descriptors": held.descriptors,
        }

    def series() -> dict[str, Any]:
        held = batches(once, count)
        return {
            name: leak_verdict(
                held[name],
                quantity=name,
                unit=unit,
                runs_per_batch=runs,
                warm_up=2,
                floor=floor,
            )
            for name, unit, floor in (
                ("objects", "objects", 0.05),
                ("memory", "KiB", 0.5),
                ("descriptors", "descriptors", 0.01),
            )
        }

    first = series()
    again = series() if any(v.leaks for v in first.values()) else None
    checks = []
    for name, verdict in first.items():
        leaks = verdict.leaks and (again is None or again[name].leaks)
        known = "inconclusive" if verdict.leaks is None else "fail" if leaks else "pass"
        checks.append(
            Check(
                f"leak_of_{name}",
                known,
                f"{verdict.rule}; seen twice, it is a leak",
                f"{verdict.per_run:g} {verdict.unit} a run over {len(verdict.series)} batches of "
                f"{runs} runs",
                clause="LOAD-5",
                broken=(Broken(f"{name}-leak", 1),) if known == "fail" else (),
                figures={
                    "per_run": verdict.per_run,
                    "series": list(verdict.series),
                    "again": [] if again is None else list(again[name].series),
                },
            )
        )
    return checks


def growth(samples: Sequence[Sample]) -> Check:
    """Over a soak, the engine's memory does not grow after its warm-up."""
    mine = [s for s in samples if s.process == "engine"]
    kept = mine[int(len(mine) * GROWTH_WARM_UP) :]
    rule = (
        "after the first fifth, memory grows over the soak (Theil-Sen slope x time, and median of "
        "the last third over that of the first) by less than 8 MiB or a tenth"
    )
    if len(kept) < 30:
        said = f"only {len(kept)} samples"
        return Check("growth", "inconclusive", rule, said, clause="LOAD-5")
    thin = kept[:: max(1, len(kept) // 200)]
    span_s = thin[-1].at_s - thin[0].at_s
    per_s = slope([(s.at_s - thin[0].at_s, s.rss_bytes) for s in thin])
    third = len(thin) // 3
    first = statistics.median(s.rss_bytes for s in thin[:third])
    last = statistics.median(s.rss_bytes for s in thin[-third:])
    limit = max(8 * MIB, first / 10)
    grows = per_s * span_s >= limit and last - first >= limit * 2 / 3
    return Check(
        "growth",
        "fail" if grows else "pass",
        rule,
        f"{per_s * 3600 / MIB:.2f} MiB an hour over {span_s:.0f} s",
        clause="LOAD-5",
        broken=(Broken("memory-grows", 1),) if grows else (),
        figures={"bytes_per_s": round(per_s, 1), "first_bytes": first, "last_bytes": last},
    )
