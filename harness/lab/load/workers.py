"""Users on other machines: what their workers sent, and whether it is all there was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.lab.load.judge import Check
from harness.lab.load.users import read_lines

__all__ = ["seen", "workers_told"]


def seen(records: Path, workers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return users' records, with times as this machine's clock has them."""
    behind = {one["name"]: one["behind_s"] for one in workers}
    found: list[Mapping[str, Any]] = []
    for path in sorted(records.glob("*.jsonl")):
        by_s = behind.get(path.stem, 0.0)
        found += [{**one, "at": one["at"] + by_s} for one in read_lines([path])]
    return found


def workers_told(asked: int, workers: Sequence[Mapping[str, Any]]) -> Check:
    """Every worker that was waited for has told all that its users saw."""
    short = [w for w in workers if w["records"] < w["noted"]]
    whole = len(workers) >= asked and not short
    came = sum(w["records"] for w in workers)
    behind = max((abs(w["behind_s"]) for w in workers), default=0.0)
    return Check(
        "workers",
        "pass" if whole else "inconclusive",
        f"each of {asked} workers has told all that its users saw",
        f"{len(workers)} workers told {came} of {sum(w['noted'] for w in workers)} records; clocks "
        f"differ by at most {behind:.3f} s",
        severity="info",
        figures={"workers": len(workers), "records": came, "clocks_apart_s": round(behind, 3)},
    )
