"""The function that the user named, found and checked before anything is run.

Everything that can be wrong with the name is an `InputError` of one line here: no such
module, no such function, not async, arguments missing. `package.module:function` is
imported as Python would from the current folder; `path/to/file.py:function` is imported
under its package's name if its folder is a package, else by itself.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from harness.kernel.errors import InputError

__all__ = ["load", "split"]

Arguments = Sequence[Any] | Mapping[str, Any]


def split(target: str) -> tuple[str, str]:
    """Return module (or file) and function of `package.module:function`."""
    module, colon, name = target.rpartition(":")
    if not colon or not module or not name:
        raise InputError(
            f"probe {target!r}: expected package.module:function or path/to/file.py:function"
        )
    return module, name


def load(target: str, arguments: Arguments) -> tuple[Callable[[], Any], ModuleType]:
    """Import the target; returns a call of it with the arguments, and its module.

    Raises:
        InputError: if it is not there, not async, or cannot be called so.
    """
    where, name = split(target)
    module = _file(where, target) if where.endswith(".py") else _module(where, target)
    function: Any = module
    for part in name.split("."):
        found = getattr(function, part, None)
        if found is None:
            near = difflib.get_close_matches(part, dir(function), n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"probe {target}: there is no {part!r} in {where}{hint}")
        function = found
    _check(function, target)
    positional = [] if isinstance(arguments, Mapping) else list(arguments)
    named = dict(arguments) if isinstance(arguments, Mapping) else {}
    _fits(function, positional, named, target)
    return lambda: function(*positional, **named), module


def _check(function: Any, target: str) -> None:
    if not callable(function):
        raise InputError(f"probe {target}: expected an async function, got {_kind(function)}")
    inner = inspect.unwrap(function)
    if inspect.isasyncgenfunction(inner):
        decorated = inner is not function
        if not decorated:
            raise InputError(
                f"probe {target}: it is an async generator; give an async function that iterates it"
            )
    call = getattr(type(function), "__call__", None)  # noqa: B004 (the method is looked at)
    asynchronous = inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(call)
    plain = inspect.isfunction(function) and inner is function
    if inspect.isclass(function) or (plain and not asynchronous):
        raise InputError(
            f"probe {target}: expected an async function (async def), got {_kind(function)}"
        )


def _kind(thing: Any) -> str:
    if inspect.isclass(thing):
        return "a class"
    return "a plain function" if inspect.isfunction(thing) else f"a {type(thing).__name__}"


def _fits(function: Any, args: Sequence[Any], named: Mapping[str, Any], target: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*args, **named)
    except TypeError as exc:
        missing = [
            p.name
            for p in signature.parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if not args and not named:
            if missing[:1] == ["self"]:
                raise InputError(
                    f"probe {target}: it is a method; give that of an instance "
                    f"(module:instance.method), or a function that makes one and calls it"
                ) from None
            example = ", ".join(f'"{m}": …' for m in missing)
            raise InputError(
                f"probe {target}: it needs arguments ({', '.join(missing)}); "
                f"give --args '{{{example}}}'"
            ) from None
        raise InputError(f"probe {target}: --args does not fit {signature}: {exc}") from None


def _module(name: str, target: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        parents = {".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 2)}
        if exc.name not in parents:
            raise InputError(f"probe {target}: {_import_error(exc)}") from exc
        hint = f"; did you mean {name}.py?" if os.sep in name else ""
        raise InputError(
            f"probe {target}: no module {name!r} here{hint or '; run it where it can be imported'}"
        ) from None
    except Exception as exc:
        raise InputError(f"probe {target}: {_import_error(exc)}") from exc


def _file(path: str, target: str) -> ModuleType:
    full = os.path.realpath(path)
    if not os.path.isfile(full):
        raise InputError(f"probe {target}: no file {path} here")
    folder, parts = os.path.dirname(full), [os.path.splitext(os.path.basename(full))[0]]
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        parts.insert(0, os.path.basename(folder))
        folder = os.path.dirname(folder)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = ".".join(parts)
    if parts[0] != "harness" and len(parts) > 1:
        module = _module(name, target)
        if os.path.realpath(getattr(module, "__file__", None) or "") == full:
            return module
    # Another module may have this name (a file called random.py, say): load it by its path.
    unique = parts[-1] if parts[-1] not in sys.modules else f"probed_{parts[-1]}"
    spec = importlib.util.spec_from_file_location(unique, full)
    if spec is None or spec.loader is None:
        raise InputError(f"probe {target}: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module
    try:
        spec.loader.exec_module(module)
    except Exception as exc:
        raise InputError(f"probe {target}: {_import_error(exc)}") from exc
    return module


def _import_error(exc: Exception) -> str:
    """Say what an import raised, and where in the file that was imported."""
    if isinstance(exc, SyntaxError):
        return f"SyntaxError: {exc.msg}, at {os.path.basename(exc.filename or '')}:{exc.lineno}"
    where, ours = "", os.path.dirname(__file__) + os.sep
    for frame, line in traceback.walk_tb(exc.__traceback__):
        filename = frame.f_code.co_filename
        if filename.startswith(("<", ours)):
            continue
        if os.sep + "importlib" + os.sep not in filename:
            where = f" at {os.path.basename(filename)}:{line}"
    return f"importing it raised {type(exc).__name__}: {exc}{where}"
