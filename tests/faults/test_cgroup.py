"""Control groups with a memory ceiling: found, made where they can be, and why where not."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.lab.faults import cgroup, oom
from harness.lab.faults.cgroup import MemoryGroup, memory_group, own_group
from tests.faults.rig import row

MOUNTS = """\
24 1 0:22 / /sys rw - sysfs sysfs rw
30 24 0:26 / {where} rw,nosuid - cgroup2 cgroup2 rw
"""


def group(folder: Path, controllers: str, given_on: str = "") -> Path:
    """Make what looks like a control group, down to the files that are read and written."""
    folder.mkdir(parents=True)
    (folder / "cgroup.procs").write_text("")
    (folder / "cgroup.controllers").write_text(controllers)
    (folder / "cgroup.subtree_control").write_text(given_on)
    return folder


def test_the_own_group_is_where_version_2_is_mounted(tmp_path: Path) -> None:
    mounts, mine = tmp_path / "mountinfo", tmp_path / "cgroup"
    mounts.write_text(MOUNTS.format(where=tmp_path / "fs"))
    mine.write_text("4:memory:/old\n0::/user.slice/app.scope\n")
    assert own_group(mine, mounts) == tmp_path / "fs/user.slice/app.scope"
    mounts.write_text("24 1 0:22 / /sys rw - sysfs sysfs rw\n")
    assert own_group(mine, mounts) is None
    assert own_group(tmp_path / "nowhere", mounts) is None


def test_a_group_is_made_beside_ones_own_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "REMOVE_LIMIT_S", 0.0)
    group(tmp_path / "slice", "cpu memory pids", "cpu memory")
    own = group(tmp_path / "slice" / "scope", "cpu memory")
    told: list[dict[str, Any]] = []
    with memory_group("x", lambda **what: told.append(what), own) as made:
        assert made.folder is not None
        assert made.folder.parent == tmp_path / "slice"
        assert (made.folder / "memory.max").read_text() == "max"
        (made.folder / "memory.events").write_text("low 0\noom 2\noom_kill 1\n")
        assert made.kills == 1
        # The kernel's own files do not keep a group from being removed; these would.
        for file in made.folder.iterdir():
            file.unlink()
    assert told == [{"cgroup": str(made.folder)}, {"uncgrouped": str(made.folder)}]
    assert not made.folder.exists()


@pytest.mark.parametrize(
    ("controllers", "why"), [("cpu pids", "has no memory controller"), (None, "No such file")]
)
def test_where_none_can_be_made_it_is_said_why(
    tmp_path: Path, controllers: str | None, why: str
) -> None:
    own = tmp_path / "group"
    if controllers is not None:
        group(own, controllers)
    with memory_group("x", lambda **_what: pytest.fail("there is nothing to tell"), own) as made:
        assert (made.folder, made.kills) == (None, 0)
        assert why in made.why


def test_without_a_group_the_fault_never_fired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "own_group", lambda: None)
    found = row("reference", "oom")
    assert (found["verdict"], found["figures"]["not_fired"]) == ("inconclusive", 1)
    assert found["reason"] == (
        "no control group with a memory ceiling: there is no control group of version 2 here"
    )


def test_an_engine_without_checkpoints_is_not_killed_for_it() -> None:
    assert row("asyncio", "oom")["verdict"] == "unsupported"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="control groups are Linux's")
def test_the_reference_goes_on_after_the_kernel_killed_it() -> None:
    with memory_group("test", lambda **_what: None) as made:
        why = made.why
    if why:
        pytest.skip(f"no control group with a memory ceiling can be made: {why}")
    found = row("reference", "oom")
    assert (found["verdict"], found["runs"], found["violations"]) == ("pass", 1, 0)
    assert "the ceiling was a control group's (memory.max)" in found["remarks"]


def kernel(folder: Path, over: threading.Event) -> None:
    """Do what the kernel does to a group that has a ceiling and goes beyond it."""
    while not over.wait(0.01):
        if (folder / "memory.max").read_text().strip().isdigit():
            (folder / "memory.events").write_text("oom_kill 1\n")
            os.kill(int((folder / "cgroup.procs").read_text()), signal.SIGKILL)
            return


@pytest.mark.parametrize(
    ("engine", "verdict"), [("reference", "pass"), ("broken:checkpoint-ahead", "fail")]
)
def test_what_was_killed_is_redriven_and_judged_as_after_a_kill(
    engine: str, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = group(tmp_path / "group", "memory")
    (made / "memory.max").write_text("max")
    (made / "memory.current").write_text("1000")
    monkeypatch.setattr(oom, "memory_group", lambda *_: contextlib.nullcontext(MemoryGroup(made)))
    over = threading.Event()
    thread = threading.Thread(target=kernel, args=(made, over), daemon=True)
    thread.start()
    try:
        found = row(engine, "oom")
    finally:
        over.set()
        thread.join()
    assert (found["verdict"], found["runs"]) == (verdict, 1), found
    assert "the ceiling was a control group's (memory.max)" in found["remarks"]
