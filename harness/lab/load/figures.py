"""The figures of a load: latencies, a row for each second, what each process took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.lab.load.evidence import Evidence, fates, in_window, percentiles
from harness.lab.resources import Sample

__all__ = ["latencies", "overhead", "resources", "stages", "timeline"]


def latencies(evidence: Evidence) -> dict[str, Any]:
    answered = fates(evidence).answered
    under = [o for o in answered if in_window(o, evidence.windows)]
    ids = {id(o) for o in under}
    return {
        "all": percentiles(o["took_s"] for o in answered),
        "under_faults": percentiles(o["took_s"] for o in under),
        "without_faults": percentiles(o["took_s"] for o in answered if id(o) not in ids),
    }


def stages(evidence: Evidence) -> dict[str, Any]:
    """Return program/stage -> percentiles, by the stage bodies' own clock."""
    taken: dict[str, list[float]] = {}
    for run in evidence.ledger:
        for stage, seconds in run.get("stages", {}).items():
            taken.setdefault(f"{run['program']}/{stage}", []).append(seconds)
        if "took_s" in run:
            taken.setdefault(f"{run['program']} (whole run)", []).append(run["took_s"])
    return {name: percentiles(taken[name]) for name in sorted(taken)}


def overhead(evidence: Evidence, samples: Sequence[Sample]) -> dict[str, Any]:
    """What dagstorm itself cost: the front beside each run, and processor time of each process."""
    fronts = [r["handled_s"] - r["took_s"] for r in evidence.ledger if "handled_s" in r]
    cpu = {name: of["cpu_s"] for name, of in resources(samples).items()}
    return {
        "front_beside_the_run": percentiles(fronts),
        "cpu_s": cpu,
        "cpu_share_of_the_engine": round(cpu.get("engine", 0.0) / (sum(cpu.values()) or 1.0), 4),
    }


def resources(samples: Sequence[Sample]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in dict.fromkeys(s.process for s in samples):
        mine = [s for s in samples if s.process == name]
        found[name] = {
            "samples": len(mine),
            "cpu_s": round(max(s.cpu_s for s in mine) - mine[0].cpu_s, 3),
            **{
                f"{what}_max": max(getattr(s, what) for s in mine)
                for what in ("rss_bytes", "descriptors", "threads", "sockets")
            },
            "switches": max(s.switches for s in mine) - mine[0].switches,
        }
    return found


def timeline(evidence: Evidence, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return a row for each second: requests, what became of them, percentiles, memory."""
    if not evidence.records:
        return []
    sent = fates(evidence)
    first_s = min(one["at"] for one in evidence.records)
    cut = {id(one) for one in sent.cut}
    answered = {id(one) for one in sent.answered}
    seconds: dict[int, list[Mapping[str, Any]]] = {}
    for one in evidence.records:
        seconds.setdefault(int(one["at"] - first_s), []).append(one)
    memory: dict[int, int] = {}
    for s in samples:
        if s.process == "engine":
            memory[int(s.at_s - first_s)] = s.rss_bytes
    rows = []
    for second in range(max(seconds) + 1):
        here = seconds.get(second, [])
        took = percentiles(o["took_s"] for o in here if id(o) in answered)
        rows.append(
            {
                "second": second,
                "at": round(first_s + second, 3),
                "sent": len(here),
                "answered": sum(id(o) in answered for o in here),
                "cut": sum(id(o) in cut for o in here),
                "p50_ms": took.get("p50_ms"),
                "p95_ms": took.get("p95_ms"),
                "rss_bytes": memory.get(second),
            }
        )
    return rows
