"""Is every finding of a run to be had again? Replays each in processes that have run nothing else.

    python tests/selftest/replay.py reports/runs/RUN [--workers 2] [--only BUG-019 …]

A finding is `reproduced` if two fresh processes go alike and show it again. One that does not
must say so in the run itself, as `nondeterministic` with its reason; any other makes the exit
code 1. Findings that have no run (what is told of an engine's interface) are counted apart, as
are those of live runs only, which no replay gives again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness.engine.broken import CATALOGUE
from harness.kernel.errors import DagstormError
from harness.lab.engines import parse_engine
from harness.lab.fresh import replay_of
from harness.lab.unit_rows import scenario_data
from scenarios import scenarios

__all__ = ["main", "unexplained", "verdict_of"]

NO_RUN = "no run: it is told of the engine's interface"
LIVE = "live runs only"


def verdict_of(finding: Mapping[str, Any]) -> str:
    """Return what a replay of a finding comes to, or why there is none."""
    told = finding["reproduction"]
    if not told or not told["token"]:
        return NO_RUN
    if finding["confirmation"] == "live_only":
        return LIVE
    known = {name: partial(scenario_data, one) for name, one in scenarios().items()}
    try:
        ref = parse_engine(told["environment"]["engine"], CATALOGUE)
    except DagstormError as exc:
        return f"not replayed: {exc}"
    return replay_of(finding, ref, known)


def unexplained(finding: Mapping[str, Any], verdict: str) -> bool:
    """Say whether a finding is neither reproduced nor has said why it would not be."""
    if verdict in ("reproduced", NO_RUN, LIVE):
        return False
    return finding["confirmation"] != "nondeterministic" or not finding["confirmation_note"]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], metavar="ID")
    options = parser.parse_args(words)
    document = json.loads((options.run / "findings.json").read_text("utf-8"))
    found = [
        one
        for one in document["findings"]
        if one["kind"] in ("bug", "dx") and (not options.only or one["id"] in options.only)
    ]
    began = time.monotonic()
    tally: Counter[str] = Counter()
    bad = 0
    with ThreadPoolExecutor(options.workers) as threads:
        for one, verdict in zip(found, threads.map(verdict_of, found), strict=True):
            tally[verdict.partition(":")[0]] += 1
            missing = unexplained(one, verdict)
            bad += missing
            if verdict not in ("reproduced", NO_RUN, LIVE):
                word = "UNEXPLAINED" if missing else "explained"
                note = one["confirmation_note"]
                print(f"{one['id']} {one['clause']} {word}: {verdict} [{note}]", flush=True)
    words_ = ", ".join(f"{count} {verdict}" for verdict, count in tally.most_common())
    took_s = time.monotonic() - began
    print(f"{len(found)} findings: {words_}; {bad} unexplained ({took_s:.0f} s)")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
