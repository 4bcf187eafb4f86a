"""An engine in a campaign: what it is, where it runs, or why it cannot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.lab.engines import EngineRef

__all__ = ["Engine"]


@dataclass(slots=True, eq=False)
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
