"""Reports: Markdown and tables, rendered from a run directory's data alone."""

from __future__ import annotations

from harness.report.render import render_run

__all__ = ["render_run"]
