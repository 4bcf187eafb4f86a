"""The orders in which findings, clauses and versions are put, each in one place."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["EFFORTS", "SEVERITIES", "by_clause", "by_severity", "by_version", "gravest", "newest"]

SEVERITIES = ("critical", "high", "medium", "low", "info")
EFFORTS = ("trivial", "small", "medium", "large", "epic")


def by_severity(severity: str) -> int:
    return SEVERITIES.index(severity)


def by_clause(clause: str) -> tuple[tuple[int, int, str], ...]:
    """Order TIME-2 before TIME-10."""
    return _pieces(clause)


def by_version(version: str) -> tuple[tuple[int, int, str], ...]:
    """Order 0.9.6 before 0.10.0, and no version before any."""
    return _pieces(version)


def newest(versions: Iterable[str]) -> str:
    return max(versions, key=by_version)


def gravest(severities: Iterable[str]) -> str:
    return min(severities, key=by_severity)


def _pieces(name: str) -> tuple[tuple[int, int, str], ...]:
    return tuple(
        (1, int(piece), "") if piece.isdigit() else (0, 0, piece)
        for piece in re.findall(r"[0-9]+|[^0-9.\-]+", name)
    )
