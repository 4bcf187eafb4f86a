"""The reference engine as other adapters would describe it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.adapters.reference import Adapter as Reference
from harness.kernel.adapter import EngineInfo

__all__ = ["ExactlyOnce", "NotAsked"]


class NotAsked(Reference):
    """It has no way to ask the engine what is kept of a run."""

    kept: Any = None


class ExactlyOnce(Reference):
    """It promises what the engine does not keep: that nothing is ever done twice."""

    def info(self) -> EngineInfo:
        found = super().info()
        return replace(found, facts={**found.facts, "durable": {"effects": "exactly-once"}})
