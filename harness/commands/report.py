"""`dagstorm report`: renders a run again, from its data alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness import report
from harness.kernel.errors import InputError

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add this module's commands to the parser."""
    rendered = commands.add_parser("report", help="render a run again, from its data alone")
    rendered.add_argument("run", metavar="RUN")
    rendered.set_defaults(do=_report)


def _report(options: argparse.Namespace) -> int:
    folder = Path(options.run)
    if not (folder / "findings.json").is_file():
        raise InputError(f"{folder}: no findings.json there; give a run directory")
    try:
        written = report.render_run(folder)
    except ValueError as exc:
        raise InputError(str(exc)) from exc
    for path in written:
        print(path)
    return 0
