"""The doors of the design hold in this repository, and the checker would see one that does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.doors import ROOMS, check_tree, imports_of

ROOT = Path(__file__).resolve().parent.parent


def planted(tmp_path: Path, **files: str) -> list[str]:
    """Check a tree of `harness__kernel__x="source"` files."""
    for name, source in files.items():
        path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return check_tree(tmp_path)


def test_every_import_in_this_repository_goes_through_a_door() -> None:
    assert check_tree(ROOT) == []


def test_the_check_reads_every_room_of_this_repository() -> None:
    for room in ("harness.kernel", "harness.contract", "scenarios"):
        assert list(ROOT.joinpath(*room.split(".")).rglob("*.py")), room


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_what_the_design_allows_is_not_objected_to(tmp_path: Path, room: str) -> None:
    allowed = ROOMS[room]
    lines = ["import asyncio", "from harness import __version__", f"from {room} import own"]
    lines += [f"from {other} import thing" for other in sorted(allowed.rooms)]
    lines += [f"import {package}" for package in sorted(allowed.packages)]
    lines += ["def later():", "    import json"]
    lines += [f"    import {other}" for other in sorted(allowed.lazily)]
    lines += ["    import stageflow.pipeline"] if allowed.engines else []
    assert planted(tmp_path, **{room.replace(".", "__") + "__x": "\n".join(lines)}) == []


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_every_other_door_is_shut(tmp_path: Path, room: str) -> None:
    name = room.replace(".", "__") + "__x"
    path = name.replace("__", "/") + ".py"
    shut = sorted(set(ROOMS) - ROOMS[room].rooms - ROOMS[room].lazily - {room})
    source = "\n".join(f"def f(): import {other}" for other in shut)
    assert planted(tmp_path, **{name: source}) == [
        f"{path}:{line}: {room} imports {other}: not through this door"
        for line, other in enumerate(shut, 1)
    ]


@pytest.mark.parametrize(
    "room", ["harness.kernel", "harness.engine", "harness.contract", "scenarios", "mocks"]
)
def test_no_package_gets_into_an_engine_s_environment(tmp_path: Path, room: str) -> None:
    name = room.replace(".", "__") + "__x"
    path = name.replace("__", "/") + ".py"
    source = "import jinja2\ndef later():\n    import stageflow"
    assert planted(tmp_path, **{name: source}) == [
        f"{path}:1: {room} imports jinja2: not of the standard library",
        f"{path}:3: {room} imports stageflow: not of the standard library",
    ]


def test_an_adapter_imports_its_engine_only_inside_functions(tmp_path: Path) -> None:
    source = (
        "import stageflow\n"
        "from harness.engine import Pipeline\n"
        "def build():\n"
        "    import stageflow\n"
        "    from harness.engine import Pipeline\n"
        "    import pandas\n"
    )
    assert planted(tmp_path, harness__adapters__x=source) == [
        "harness/adapters/x.py:1: harness.adapters imports stageflow: "
        "an engine is imported only inside a function",
        "harness/adapters/x.py:2: harness.adapters imports harness.engine.Pipeline: "
        "only inside a function",
        "harness/adapters/x.py:6: harness.adapters imports pandas: not of the standard library",
    ]


def test_a_shut_door_is_shut_for_types_too(tmp_path: Path) -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import harness.lab\n"
    assert planted(tmp_path, harness__kernel__x=source) == [
        "harness/kernel/x.py:3: harness.kernel imports harness.lab: not through this door"
    ]


def test_an_adapter_may_name_its_engine_s_types(tmp_path: Path) -> None:
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n"
        "    from harness.engine import Pipeline\n"
        "else:\n"
        "    from harness.engine import Pipeline\n"
    )
    assert planted(tmp_path, harness__adapters__x=source) == [
        "harness/adapters/x.py:5: harness.adapters imports harness.engine.Pipeline: "
        "only inside a function"
    ]


def test_relative_imports_are_followed(tmp_path: Path) -> None:
    source = "from . import steps\nfrom ..lab import campaign\nfrom .. import report\n"
    assert planted(tmp_path, harness__kernel__x=source) == [
        "harness/kernel/x.py:2: harness.kernel imports harness.lab.campaign: not through this door",
        "harness/kernel/x.py:3: harness.kernel imports harness.report: not through this door",
    ]


def test_a_package_s_own_init_is_read_as_that_package(tmp_path: Path) -> None:
    source = "from .steps import step\nfrom ..cli import main\n"
    assert planted(tmp_path, harness__kernel____init__="") == []
    init = tmp_path / "harness" / "kernel" / "__init__.py"
    init.write_text(source, encoding="utf-8")
    assert check_tree(tmp_path)[-1:] == [
        "harness/kernel/__init__.py:2: harness.kernel imports harness.cli.main: "
        "not through this door"
    ]


@pytest.mark.parametrize(
    "call",
    [
        "importlib.import_module('harness.lab.campaign')",
        "import_module('harness.lab' + name)",
        "import_module(f'harness.lab.{name}')",
        "import_module('harness.lab.%s' % name)",
        "__import__('harness.lab')",
    ],
)
def test_a_dynamic_import_counts_where_its_name_can_be_seen(tmp_path: Path, call: str) -> None:
    (found,) = planted(tmp_path, harness__kernel__x=f"def f(name):\n    {call}\n")
    assert found.startswith("harness/kernel/x.py:2: harness.kernel imports harness.lab")
    assert found.endswith(": not through this door")


def test_a_module_outside_every_room_is_reported(tmp_path: Path) -> None:
    assert planted(tmp_path, harness__attic__x="", harness__shed="") == [
        "harness/attic/x.py:1: harness.attic.x lies in no room",
        "harness/shed.py:1: harness.shed lies in no room",
    ]


def test_names_that_merely_begin_alike_are_other_names() -> None:
    assert [i.target for i in imports_of("import harness.kernels", "harness.lab")] == [
        "harness.kernels"
    ]


@pytest.mark.parametrize(
    "files",
    [
        "harness/kernel/*.py",
        "harness/contract/*.py",
        "harness/adapters/*.py",
        "harness/engine/*.py",
        "harness/lab/worker_main.py",
        "mocks/*.py",
        "scenarios/**/*.py",
    ],
)
def test_what_an_engine_s_environment_loads_needs_no_site_packages(files: str) -> None:
    """What the source says, seen again from the running side: -S leaves the standard library."""
    code = f"""
import importlib, pathlib, sys
root = pathlib.Path({str(ROOT)!r})
sys.path.insert(0, str(root))
found = sorted(root.glob({files!r}))
for path in found:
    name = ".".join(path.relative_to(root).with_suffix("").parts)
    if path.stem != "__main__":
        importlib.import_module(name.removesuffix(".__init__"))
strangers = {{name.split(".")[0] for name in sys.modules}} - sys.stdlib_module_names
print(bool(found), sorted(strangers - {{"__main__", "harness", "mocks", "scenarios"}}))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("True []", "")
