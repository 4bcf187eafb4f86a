"""What the user's source says: which lines clean up, which catch a cancel, where a place is.

Frames tell where code stands; only the source tells what that place means. It is read by
`ast`, a file at most once a process. The words used everywhere in the probe:

* The user's code is every file outside the standard library and outside site-packages,
  and always the package that the probed function itself lies in.
* A cleanup block is a `finally` body; the body of an `except` that catches a cancel
  (bare, `BaseException`, `CancelledError`) or that ends with a bare `raise`; the body of
  a method `__aexit__`; what follows the `yield` of an `@asynccontextmanager` function.
* A later statement is a simple one: not the head of a loop or a branch, not `pass`,
  `raise`, `break`, `continue`, nor a `return` that calls nothing.
"""

from __future__ import annotations

import ast
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType, FrameType

__all__ = ["Clause", "Function", "Sources", "Span"]

CATCHES_CANCEL = frozenset({"BaseException", "CancelledError"})
CATCHES_EXIT = frozenset({"BaseException", "GeneratorExit"})
HELPERS = ("site-packages", "dist-packages")
STATEMENTS_WITHOUT_WORK = (
    ast.Pass,
    ast.Raise,
    ast.Break,
    ast.Continue,
    ast.Global,
    ast.Nonlocal,
    ast.Import,
    ast.ImportFrom,
)
COMPOUND = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)


@dataclass(frozen=True, slots=True)
class Span:
    """Lines from `first` to `last`, both included."""

    first: int
    last: int

    def __contains__(self, line: int) -> bool:
        return self.first <= line <= self.last


@dataclass(frozen=True, slots=True)
class Clause:
    """One `except` clause: what it guards, where it stands, what it does."""

    guards: Span
    line: int
    body: Span
    catches_cancel: bool


@dataclass(slots=True)
class Function:
    """What the source of one function says.

    Attributes:
        cleanups: its cleanup blocks, outer ones first.
        withs: for each `with`, the line of its head and its body.
        owned: places whose code is cleaned up after (inside `try … finally` or a `with`).
        statements: for each line, the number of its statement.
        working: numbers of the simple statements that do something.
        first_line: for each statement, its first line.
    """

    name: str
    span: Span
    cleanups: list[Span] = field(default_factory=list)
    clauses: list[Clause] = field(default_factory=list)
    withs: list[tuple[int, Span]] = field(default_factory=list)
    owned: list[Span] = field(default_factory=list)
    statements: dict[int, int] = field(default_factory=dict)
    working: set[int] = field(default_factory=set)
    first_line: list[int] = field(default_factory=list)

    def cleanup_at(self, line: int) -> Span | None:
        """Return the outermost cleanup block that a line lies in."""
        return next((span for span in self.cleanups if line in span), None)

    def handled_within(self, line: int, block: Span) -> bool:
        """Say whether a cancel at `line` is caught by an `except` inside the block."""
        return any(
            c.catches_cancel and line in c.guards and c.body.last in block and c.line in block
            for c in self.clauses
        )


class Sources:
    """The user's files, and what their functions say.

    Args:
        home: folder of the package (or file) that the probed function lies in.
        shown_from: folder that paths are shown relative to.
    """

    def __init__(self, home: str, shown_from: str) -> None:
        self._home = os.path.realpath(home)
        self._shown_from = os.path.realpath(shown_from)
        paths = sysconfig.get_paths()
        away = {paths[k] for k in ("stdlib", "platstdlib", "purelib", "platlib")}
        away |= {sys.base_prefix + os.sep + "lib", os.path.dirname(os.__file__)}
        self._away = tuple(os.path.realpath(p) + os.sep for p in sorted(away))
        self._ours = os.path.dirname(os.path.dirname(os.path.realpath(__file__))) + os.sep
        self._mine: dict[str, bool] = {}
        self._files: dict[str, dict[tuple[int, str], Function]] = {}

    def is_users(self, filename: str) -> bool:
        """Say whether a file is the user's code (see the top of this module)."""
        known = self._mine.get(filename)
        if known is None:
            known = self._mine[filename] = self._decide(filename)
        return known

    def read_ahead(self) -> None:
        """Look at all that is loaded now, so that no forked run has to do it again."""
        for module in list(sys.modules.values()):
            filename = getattr(module, "__file__", None)
            if isinstance(filename, str) and self.is_users(filename):
                self._files[filename] = _read(filename)

    def _decide(self, filename: str) -> bool:
        if filename.startswith("<"):
            return False
        path = os.path.realpath(filename)
        if path == self._home or path.startswith(self._home + os.sep):
            return True
        if path.startswith((self._ours, *self._away)):
            return False
        return not any(f"{os.sep}{part}{os.sep}" in path for part in HELPERS)

    def place(self, code: CodeType, line: int) -> str:
        """Return `file:line function`, the file as the user would name it."""
        return f"{self.shown(code.co_filename)}:{line} {code.co_qualname}"

    def shown(self, filename: str) -> str:
        path = os.path.realpath(filename)
        if path.startswith(self._shown_from + os.sep):
            path = os.path.relpath(path, self._shown_from)
        return path.replace(os.sep, "/")

    def innermost(self, frame: FrameType | None) -> str:
        """Return the place of the innermost frame of the user's among a frame's callers, or ""."""
        while frame is not None:
            if self.is_users(frame.f_code.co_filename):
                return self.place(frame.f_code, frame.f_lineno)
            frame = frame.f_back
        return ""

    def function(self, code: CodeType) -> Function | None:
        """Return what the source says about a function; None where there is no source."""
        functions = self._files.get(code.co_filename)
        if functions is None:
            functions = self._files[code.co_filename] = _read(code.co_filename)
        return functions.get((code.co_firstlineno, code.co_name))


def _read(filename: str) -> dict[tuple[int, str], Function]:
    try:
        with open(filename, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return {}
    found: dict[tuple[int, str], Function] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            function = _function(node)
            found[(function.span.first, function.name)] = function
    return found


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    function = Function(node.name, Span(first, node.end_lineno or node.lineno))
    if node.name == "__aexit__":
        function.cleanups.append(_span(node.body))
    manager = any("asynccontextmanager" in ast.dump(d) for d in node.decorator_list)
    for statement in _statements(node.body):
        _note(function, statement)
        if manager and isinstance(statement, ast.Expr | ast.Assign | ast.Return):
            after = statement.end_lineno or statement.lineno
            if isinstance(statement.value, ast.Yield) and after < function.span.last:
                function.cleanups.append(Span(after + 1, function.span.last))
    function.cleanups.sort(key=lambda s: (s.first, -s.last))
    return function


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a body, outer before inner; those of inner functions not."""
    for statement in body:
        yield statement
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        for _, value in ast.iter_fields(statement):
            if not isinstance(value, list):
                continue
            for part in value:
                if isinstance(part, ast.stmt):
                    yield from _statements([part])
                elif isinstance(part, (ast.ExceptHandler, ast.match_case)):
                    yield from _statements(part.body)


def _note(function: Function, statement: ast.stmt) -> None:
    number = len(function.first_line)
    function.first_line.append(statement.lineno)
    last = statement.end_lineno or statement.lineno
    body = getattr(statement, "body", None)
    if isinstance(body, list) and body:
        last = max(statement.lineno, body[0].lineno - 1)
    for line in range(statement.lineno, last + 1):
        function.statements[line] = number
    if _works(statement):
        function.working.add(number)
    if isinstance(statement, (ast.With, ast.AsyncWith)):
        function.withs.append((statement.lineno, _span(statement.body)))
        function.owned.append(_span(statement.body))
    if isinstance(statement, (ast.Try, ast.TryStar)):
        _note_try(function, statement)


def _note_try(function: Function, statement: ast.Try | ast.TryStar) -> None:
    guards = _span(statement.body)
    if statement.finalbody:
        function.cleanups.append(_span(statement.finalbody))
        function.owned.append(Span(guards.first, statement.finalbody[0].lineno - 1))
    for handler in statement.handlers:
        names = _caught(handler)
        catches = names is None or bool(names & CATCHES_CANCEL)
        body = _span(handler.body)
        function.clauses.append(Clause(guards, handler.lineno, body, catches))
        end = handler.body[-1]
        if catches or (isinstance(end, ast.Raise) and end.exc is None):
            function.cleanups.append(body)
        if names is None or names & CATCHES_EXIT:
            function.owned.append(guards)


def _caught(handler: ast.ExceptHandler) -> set[str] | None:
    """Return the names that an `except` catches; None for a bare one."""
    if handler.type is None:
        return None
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {t.attr if isinstance(t, ast.Attribute) else getattr(t, "id", "") for t in types}


def _works(statement: ast.stmt) -> bool:
    if isinstance(statement, STATEMENTS_WITHOUT_WORK + COMPOUND):
        return False
    if isinstance(statement, ast.Return):
        calls = (ast.Call, ast.Await)
        return any(isinstance(node, calls) for node in ast.walk(statement))
    return not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))


def _span(body: list[ast.stmt]) -> Span:
    return Span(body[0].lineno, body[-1].end_lineno or body[-1].lineno)
