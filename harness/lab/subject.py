"""An engine in a campaign: what it is, where it runs, or why it cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.kernel.errors import DagstormError, EnvironmentFault, InputError
from harness.lab.engines import EngineRef, python_of
from harness.lab.worker import Worker, WorkerDied

__all__ = ["Engine", "prepare"]


@dataclass(slots=True)
class Engine:
    """An engine in a campaign: what it is, where it runs, or why it cannot."""

    ref: EngineRef
    python: str = ""
    info: dict[str, Any] = field(default_factory=dict)
    fault: str = ""
    hung_in: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        return (self.ref.name, self.ref.version)

    def description(self) -> dict[str, Any]:
        """Return what reports say of the engine; no path of this machine is in it."""
        blank: dict[str, Any] = {"capabilities": [], "missing": {}, "facts": {}, "semantics": {}}
        return {**blank, **self.info, "name": self.ref.name, "version": self.ref.version}


def prepare(engine: Engine, say: Callable[[str], None]) -> EnvironmentFault | None:
    """Bring one engine up, or note why not; returns the fault if it has no environment."""
    try:
        engine.python = python_of(engine.ref, say)
    except EnvironmentFault as exc:
        engine.fault = str(exc)
        return exc
    worker = Worker(engine.python, engine.ref.adapter, isolated=engine.ref.isolated)
    try:
        engine.info = worker.hello()["info"]
    except InputError:
        raise
    except (DagstormError, WorkerDied) as exc:
        engine.fault = str(exc)
    finally:
        worker.close()
    return None
