"""`dagstorm matrix`: engines x clauses, of a run that there is or of one made for it."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.commands import run
from harness.commands.words import data_of, findings_of, run_folder, whole, writable
from harness.findings import write_whole
from harness.kernel.errors import InputError
from harness.lab.campaign import PROFILES
from harness.report.escape import cell

__all__ = ["add"]

# One sign a verdict, so that a terminal shows many engines side by side.
SIGNS = {
    "fail": "FAIL",
    "error": "error",
    "blocked": "blocked",
    "inconclusive": "?",
    "pass": "pass",
    "unsupported": "-",
    "not judged": ".",
}


def add(commands: Any) -> None:
    """Add this module's commands to the parser."""
    one = commands.add_parser("matrix", help="engines x clauses: what each engine keeps")
    one.add_argument("--engine", action="append", metavar="NAME[@VERSION|@all|@A..B]")
    one.add_argument("--profile", default="smoke", choices=list(PROFILES), help="for --engine")
    one.add_argument("--seed", type=whole, default=1)
    one.add_argument("--run", metavar="DIR", help="of that run instead; default: the newest")
    one.add_argument("--out", metavar="DIR", help="write matrix.md and matrix.csv there")
    one.add_argument("--json", action="store_true")
    one.add_argument("--quiet", action="store_true")
    one.set_defaults(do=_matrix)


def _matrix(options: argparse.Namespace) -> int:
    if options.engine and options.run:
        raise InputError("--run: a run has its engines; leave --engine out, or --run")
    if options.out:
        writable(Path(options.out))
    folder = run_folder(options.run) if not options.engine else _made(options)
    found = findings_of(folder)["metadata"].get("conformance")
    if not found:
        raise InputError(f"--run {folder}: made by an older dagstorm; run the campaign again")
    with data_of(folder / "findings.json"):
        table = [[SIGNS[c["verdict"]] for c in row["cells"]] for row in found["rows"]]
        clauses = [c["clause"] for c in found["rows"][0]["cells"]] if found["rows"] else []
        labels = [row["label"] for row in found["rows"]]
        as_csv = _csv(found["rows"])
        as_markdown = _markdown(clauses, labels, table, found["rule"])
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        _print(clauses, labels, table)
        print(f"\nof {folder}; {found['rule']}")
    if options.out:
        out = Path(options.out)
        write_whole(out / "matrix.csv", as_csv)
        write_whole(out / "matrix.md", as_markdown)
    return 0


def _made(options: argparse.Namespace) -> Path:
    """Run all packs on the engines, without scripts; returns the run directory."""
    parser = argparse.ArgumentParser(prog="dagstorm")
    run.add(parser.add_subparsers())
    folder = Path(options.out) / "run" if options.out else None
    words = ["run", "--pack", "all", "--profile", options.profile, "--seed", str(options.seed)]
    words += [word for engine in options.engine for word in ("--engine", engine)]
    words += ["--no-confirm", "--quiet"] if options.quiet else ["--no-confirm"]
    words += ["--out", str(folder)] if folder else []
    options = parser.parse_args(words)
    options.do(options)
    return run_folder(str(folder) if folder else None)


def _print(clauses: Sequence[str], labels: Sequence[str], table: Sequence[Sequence[str]]) -> None:
    width = max([len(c) for c in clauses], default=6)
    widths = [max(len(label), 12) for label in labels]
    print(" " * width, *(label.ljust(w) for label, w in zip(labels, widths, strict=True)))
    for i, clause in enumerate(clauses):
        cells = (column[i].ljust(w) for column, w in zip(table, widths, strict=True))
        print(clause.ljust(width), *cells)


def _markdown(
    clauses: Sequence[str], labels: Sequence[str], table: Sequence[Sequence[str]], rule: str
) -> str:
    lines = ["# Engines and clauses", "", rule, ""]
    lines.append(f"| Clause | {' | '.join(cell(label) for label in labels)} |")
    lines.append(f"|--------|{'---|' * len(labels)}")
    lines += [
        f"| {clause} | {' | '.join(column[i] for column in table)} |"
        for i, clause in enumerate(clauses)
    ]
    return "\n".join(lines) + "\n"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fields = ("clause", "verdict", "scenarios", "exercised", "violations")
    writer.writerow(["engine", "engine_version", *fields, "findings"])
    for row in rows:
        for one in row["cells"]:
            writer.writerow(
                [
                    row["engine"],
                    row["engine_version"],
                    *(one[f] for f in fields),
                    " ".join(one["findings"]),
                ]
            )
    return text.getvalue()
