"""The results published under reports/: what is committed is what its own data gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.findings import faults_of
from harness.report import render_run

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = sorted(p.parent for p in (ROOT / "reports").glob("*/findings.json"))
DATA = (
    *("run.json", "findings.json", "results.jsonl", "metrics.csv", "changes.json", "history.json"),
    *("resources.csv", "resources.json"),
)


def test_there_are_results_of_the_seeds_release_and_of_all_releases() -> None:
    assert {"stageflow-0.5.1", "stageflow-versions"} <= {p.name for p in PUBLISHED}


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda p: p.name)
def test_rendering_again_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    for name in DATA:
        if (folder / name).exists():
            shutil.copy(folder / name, tmp_path)
    # Links to scripts and traces are written where there are some.
    for name in ("repro", "traces"):
        if (folder / name).is_dir():
            shutil.copytree(folder / name, tmp_path / name)
    rendered = render_run(tmp_path)
    assert len(rendered) > 10
    for path in rendered:
        name = path.relative_to(tmp_path)
        assert path.read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda p: p.name)
def test_what_is_published_obeys_the_schema_and_is_complete(folder: Path) -> None:
    assert faults_of(json.loads((folder / "findings.json").read_text("utf-8"))) == []
    run = json.loads((folder / "run.json").read_text("utf-8"))
    assert (run["status"], run["left_out"]) == ("completed", 0)
    assert "error" not in run["totals"]
