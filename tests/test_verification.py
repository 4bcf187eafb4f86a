"""The page on how findings were verified, held to the programs and to the runs that it is about."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.lab.environments import ensure

DOCS = Path(__file__).resolve().parents[1] / "docs"
PROGRAMS = DOCS / "verification"
PAGE = (DOCS / "verification.md").read_text(encoding="utf-8")
RELEASES = ("0.5.1", "1.2.0")
OWN = {"check", "every", "start"}
LIMIT_S = 120
# What depends on how that version's `asyncio.wait_for` takes a cancel.
SHOWN_ON_3_11 = "shown on 3.11"


def told() -> dict[tuple[str, str], tuple[str, ...]]:
    """Return (reproduction, graph) -> what the page says of 0.5.1 and of 1.2.0."""
    row = re.compile(r"\| \[`(\w+)`\]\(verification/\1\.py\) \| (\w+) \| ([^|]+) \| ([^|]+) \|")
    return {(m[1], m[2]): (m[3].strip(), m[4].strip()) for m in row.finditer(PAGE)}


def reproductions() -> list[Path]:
    return sorted(path for path in PROGRAMS.glob("*.py") if path.stem not in OWN)


def test_every_reproduction_is_on_the_page_with_its_cause() -> None:
    names = {path.stem for path in reproductions()}
    assert {name for name, _ in told()} == names
    assert set(re.findall(r"^#### `(\w+)`: ", PAGE, re.MULTILINE)) == names
    for name in names:
        shown = {word for (one, _), words in told().items() if one == name for word in words}
        assert shown & {"shown", SHOWN_ON_3_11}, f"{name} shows nothing on {' and '.join(RELEASES)}"


@pytest.mark.parametrize("path", [*reproductions(), PROGRAMS / "start.py"], ids=lambda p: p.stem)
def test_a_reproduction_is_made_of_the_engine_and_the_standard_library(path: Path) -> None:
    allowed = {"stageflow", "start", *sys.stdlib_module_names}
    assert {name.split(".")[0] for name in imported(path)} <= allowed


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."


@pytest.mark.engine
def test_the_page_says_what_the_reproductions_show() -> None:
    running = {}
    for release in RELEASES:
        python = ensure("stageflow-core", release, print).python
        running[release] = subprocess.Popen(
            [python, PROGRAMS / "every.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    seen: dict[tuple[str, str], dict[str, str]] = {}
    for release, process in running.items():
        out, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err
        for line in out.splitlines():
            name, graph, word = line.split("\t")
            seen.setdefault((name, graph), {})[release] = word
    on_3_11 = "shown" if sys.version_info[:2] == (3, 11) else "not shown"
    here = {
        key: tuple(on_3_11 if word == SHOWN_ON_3_11 else word for word in words)
        for key, words in told().items()
    }
    assert {key: tuple(words[v] for v in RELEASES) for key, words in seen.items()} == here


@pytest.mark.engine
def test_a_reproduction_run_by_itself_exits_1_where_its_defect_shows() -> None:
    for release, code in {"0.5.1": 1, "1.2.0": 0}.items():
        python = ensure("stageflow-core", release, print).python
        done = subprocess.run(
            [python, PROGRAMS / "cycle.py"], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (code, ""), done.stdout
        assert f"stageflow-core {release}, older: " in done.stdout


# check.py


def bug(clause: str, shape: str, *, versions: tuple[str, ...] = ("1.2.0",), **more: Any) -> Any:
    blank = {"id": "BUG-001", "kind": "bug", "severity": "high", "engine": "stageflow"}
    text = {"title": "t", "component": "", "fingerprint": "f", "engine_versions": list(versions)}
    return {**blank, **text, "clause": clause, "shape": shape, **more}


def checked(folder: Path, *findings: Any) -> tuple[int, list[str]]:
    (folder / "findings.json").write_text(json.dumps({"findings": findings}), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, PROGRAMS / "check.py", folder],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    return done.returncode, [line for line in lines if line.startswith("not covered")]


def test_a_bug_that_the_page_does_not_cover_is_listed(tmp_path: Path) -> None:
    known = bug("CANCEL-3", "stage-outlived-run", component="a place that nobody has seen yet")
    assert checked(tmp_path, known) == (0, [])
    assert checked(tmp_path, known, bug("CANCEL-3", "of-a-new-shape")) == (
        1,
        ["not covered: CANCEL-3 of-a-new-shape unified [1.2.0]: t (BUG-001)"],
    )
    assert checked(
        tmp_path, bug("TIME-3", "sibling-left-running", versions=("0.5.1", "1.2.0"))
    ) == (
        1,
        ["not covered: TIME-3 sibling-left-running unified [0.5.1]: t (BUG-001)"],
    )


def test_what_is_not_severe_or_of_another_engine_is_not_asked_for(tmp_path: Path) -> None:
    new = ("CANCEL-3", "of-a-new-shape")
    others = [bug(*new, severity="medium"), bug(*new, engine="reference"), bug(*new, kind="dx")]
    assert checked(tmp_path, *others) == (0, [])


def test_a_folder_that_holds_no_run_is_refused_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAMS / "check.py", tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"{tmp_path}: has no findings.json; give the folder of a run\n"
