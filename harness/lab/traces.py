"""A trace for Perfetto beside each bug: its clearest witness, as the campaign kept it.

Nothing is run again: `dagstorm replay --trace` does that, and shows leaks and every entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.lab.conclude import write_json
from harness.lab.trace import trace

__all__ = ["write_traces"]

Row = Mapping[str, Any]


def write_traces(folder: Path, bugs: Iterable[Row], witnesses: Mapping[str, Row]) -> list[Path]:
    """Write `traces/<ID>.json` for each bug whose witness has a journal; return the paths.

    Args:
        bugs: findings as plain data.
        witnesses: fingerprint -> the witness that tells its story.
    """
    written = []
    for bug in bugs:
        witness = witnesses.get(bug["fingerprint"], {})
        if not witness.get("journal"):
            continue
        environment = bug["reproduction"]["environment"]
        about = {
            "finding": bug["id"],
            **{k: environment[k] for k in ("engine", "scenario", "seed", "digest")},
            "journal_entries_left_out": witness.get("journal_cut", 0),
        }
        (folder / "traces").mkdir(exist_ok=True)
        path = folder / "traces" / f"{bug['id']}.json"
        write_json(path, trace(witness["journal"], violations=[witness], about=about))
        written.append(path)
    return written
