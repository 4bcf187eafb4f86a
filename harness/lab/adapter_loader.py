"""An adapter as a process that runs an engine loads it: by module, or from a file of the user's."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from typing import Any

from harness.kernel.adapter import Adapter, EngineInfo
from harness.kernel.errors import EnvironmentFault, InputError

__all__ = ["info_json", "load_adapter"]


def load_adapter(adapter: Mapping[str, Any]) -> Adapter:
    """Load and make an adapter; `adapter` is what an `EngineRef` has of that name.

    Raises:
        InputError: if a file is no adapter.
    """
    subject = adapter.get("subject")
    if adapter.get("file"):
        path = str(adapter["file"])
        spec = importlib.util.spec_from_file_location("dagstorm_user_adapter", path)
        if spec is None or spec.loader is None:
            raise InputError(f"--engine {path}: not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as exc:
            raise InputError(f"--engine {path}: {type(exc).__name__}: {exc}") from exc
        name = str(adapter.get("attr") or "Adapter")
        factory = getattr(module, name, None)
        if factory is None:
            raise InputError(f"--engine {path}: it has no {name!r}")
    else:
        factory = importlib.import_module(str(adapter["module"])).Adapter
    made: Adapter = factory(subject) if subject else factory()
    missing = [m for m in ("info", "build", "run") if not callable(getattr(made, m, None))]
    if missing:
        raise InputError(f"--engine: the adapter lacks {', '.join(missing)}; see docs/adapters.md")
    return made


def info_json(info: EngineInfo) -> dict[str, Any]:
    """Return what an adapter says of its engine as plain data.

    Raises:
        EnvironmentFault: if it gives no name.
    """
    if not info.name:
        raise EnvironmentFault("adapter: info() gave no engine name")
    return {
        "name": info.name,
        "version": info.version,
        "capabilities": sorted(info.capabilities),
        "package": info.package,
        "semantics": dict(info.semantics),
        "missing": dict(info.missing),
        "facts": dict(info.facts),
    }
