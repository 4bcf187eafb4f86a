"""Reports for people and machines, rendered from a run directory's data alone."""

from __future__ import annotations

from harness.report.faults import write_faults
from harness.report.job_summary import append_job_summary
from harness.report.load import render_load
from harness.report.render import FORMATS, render_run

__all__ = ["FORMATS", "append_job_summary", "render_load", "render_run", "write_faults"]
