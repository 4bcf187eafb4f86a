"""An engine that leaks: it keeps the context of each stage that it has run."""

from __future__ import annotations

from typing import Any

from harness.adapters.reference import Adapter as Reference

KEPT: list[Any] = []


class Adapter(Reference):
    def _port(self, context: Any, plan: Any, bodies: Any) -> Any:
        KEPT.append(context)
        return super()._port(context, plan, bodies)
