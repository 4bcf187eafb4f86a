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
    rendered.add_argument("run", metavar="RUN", nargs="+", help="run directories")
    rendered.add_argument("--mission", metavar="MISSION", help="only this mission's Markdown")
    rendered.add_argument(
        "--format",
        action="append",
        choices=list(report.FORMATS),
        help="only this format (may be given several times); all by default",
    )
    rendered.set_defaults(do=_report)


def _report(options: argparse.Namespace) -> int:
    formats = tuple(options.format or report.FORMATS)
    if options.mission and options.format and formats != ("md",):
        raise InputError(
            f"--mission {options.mission}: only Markdown is written per mission; "
            "leave --format out, or give --format md"
        )
    folders = [Path(run) for run in options.run]
    for folder in folders:
        if not (folder / "findings.json").is_file():
            raise InputError(f"{folder}: no findings.json there; give a run directory")
    for folder in folders:
        try:
            written = report.render_run(folder, formats=formats, mission=options.mission)
        except OSError as exc:
            raise InputError(f"{exc.filename or folder}: {exc.strerror or exc}") from exc
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            what = str(exc) if isinstance(exc, ValueError) else f"{folder}: {_told(exc)}"
            raise InputError(what) from exc
        for path in written:
            print(path)
    return 0


def _told(exc: Exception) -> str:
    return (
        f"its data cannot be rendered ({type(exc).__name__}: {exc}); "
        "run the campaign again, or put back the files that it wrote"
    )
