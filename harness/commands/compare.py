"""`dagstorm compare`: what one run shows that another does not."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.commands.books import as_input
from harness.commands.gate import decide, gate_lines
from harness.commands.settings import FAIL_ON
from harness.commands.words import data_of
from harness.findings.comparison import comparison
from harness.findings.sides import read_run

__all__ = ["add"]

WORDS = {
    "new": "new",
    "regressed": "regressed",
    "unchanged": "unchanged",
    "fixed": "fixed",
    "not_run": "not run",
}


def add(commands: Any) -> None:
    """Add this module's commands to the parser."""
    one = commands.add_parser("compare", help="new, fixed, regressed, unchanged between two runs")
    one.add_argument("a", metavar="RUN_A")
    one.add_argument("b", metavar="RUN_B")
    one.add_argument("--fail-on", default="never", choices=FAIL_ON)
    one.add_argument("--json", action="store_true")
    one.set_defaults(do=_compare)


def _compare(options: argparse.Namespace) -> int:
    with as_input():
        a, b = read_run(Path(options.a)), read_run(Path(options.b))
    with data_of(f"{options.a} or {options.b}"):
        found = comparison(a, b)
    fresh = {k: [one["id"] for one in found[k]] for k in ("new", "regressed")}
    gate = decide(options.fail_on, b[1].findings, {**fresh, "waived": _waived(Path(options.b))})
    if options.json:
        print(json.dumps({**found, "gate": gate}, indent=1))
        return int(gate["exit_code"])
    print(", ".join(f"{len(found[key])} {word}" for key, word in WORDS.items()))
    for key, word in WORDS.items():
        for one in found[key]:
            print(_line(word, one))
    for line in gate_lines(gate):
        print(line)
    return int(gate["exit_code"])


def _waived(folder: Path) -> list[dict[str, Any]]:
    """Return what run B found waived when it was run."""
    file = folder / "changes.json"
    if not file.exists():
        return []  # a run made before there was a registry
    with data_of(file):
        waived = json.loads(file.read_text("utf-8"))["waived"]
        return [{**one, "id": str(one["id"])} for one in waived]


def _line(word: str, one: Mapping[str, Any]) -> str:
    where = f"{one['engine']} {', '.join(v for v in one['versions'] if v)}".strip()
    why = f": {one['why']}" if "why" in one else ""
    head = f"{word:<9}  {one['id']}  {one['severity']:<8}  {one['clause']:<9}"
    return f"{head} {one['title']} [{where}]{why}"
