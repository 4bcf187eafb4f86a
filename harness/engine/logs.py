"""Log records that say for whom they were written.

    handler.addFilter(IdentityFilter())
    formatter = logging.Formatter("%(tenant)s %(run_id)s %(correlation_id)s %(message)s")

The filter belongs on a handler: one on a logger is not asked about records of the loggers below
it. Where records are handed to another thread (`logging.handlers.QueueHandler`) it belongs on
the handler that hands them over, for there they are still in the hands of whoever wrote them.
"""

from __future__ import annotations

import logging

from harness.engine.identity import Identity, current_identity

__all__ = ["IdentityFilter"]

NOBODY = Identity("", "", "")
FIELDS = (
    "run_id",
    "pipeline",
    "stage",
    "tenant",
    "correlation_id",
    "trace_id",
    "span_id",
)


class IdentityFilter(logging.Filter):
    """Gives each record the ids of the stage whose code writes it, "" outside of stages."""

    def filter(self, record: logging.LogRecord) -> bool:
        identity = self.identity() or NOBODY
        for field in FIELDS:
            setattr(record, field, getattr(identity, field))
        return True

    def identity(self) -> Identity | None:
        return current_identity()
