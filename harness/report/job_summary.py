"""The summary page of a CI job: summary.md, appended to the file that GitHub names.

GitHub shows at most a mebibyte for each step, so a longer summary ends before that, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["LIMIT_BYTES", "VARIABLE", "append_job_summary"]

VARIABLE = "GITHUB_STEP_SUMMARY"
LIMIT_BYTES = 1024 * 1024
NOTE = "\n\nCut here: a job's summary is limited. The whole of it is summary.md.\n"


def append_job_summary(run_dir: Path | str, environ: Mapping[str, str]) -> Path | None:
    """Append summary.md to the file that the environment names; return it, or None if unset.

    Raises:
        OSError: if that file cannot be written.
    """
    name = environ.get(VARIABLE)
    if not name:
        return None
    target = Path(name)
    so_far = target.stat().st_size if target.exists() else 0
    room = LIMIT_BYTES - so_far - len(NOTE)
    page = (Path(run_dir) / "summary.md").read_text(encoding="utf-8")
    if len(page.encode("utf-8")) > room:
        kept = page.encode("utf-8")[: max(0, room)].decode("utf-8", "ignore")
        # A table's row that is cut in two would be shown as text.
        page = kept[: kept.rfind("\n") + 1] + NOTE
    with target.open("a", encoding="utf-8", newline="\n") as file:
        file.write(page)
    return target
