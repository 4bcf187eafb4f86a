"""A run directory, a findings file or an exported registry as what was known before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from harness.findings.changes import Measured, changes_of
from harness.findings.known import Known
from harness.findings.life import first_sight, live_on
from harness.findings.registry import RegistryError
from harness.findings.registry_text import read_text

__all__ = ["known_of_run", "read_baseline", "read_run"]


def read_run(folder: Path) -> tuple[str, Measured]:
    """Return a run's id and what it measured.

    Raises:
        RegistryError: if there is no run.
    """
    try:
        document = json.loads((folder / "findings.json").read_text("utf-8"))
        lines = (folder / "results.jsonl").read_text("utf-8").splitlines()
        return _of_document(document, [json.loads(line) for line in lines])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
        raise RegistryError(
            f"{folder}: not a run directory ({_why(exc)}); give one that dagstorm run has written"
        ) from exc


def known_of_run(run: str, measured: Measured) -> dict[str, Known]:
    """Return what a run alone makes known: fingerprint -> finding."""
    known = {e["fingerprint"]: first_sight(e, e["id"], run, "") for e in measured.findings}
    changes = changes_of({}, measured, run=run, today=date.min)
    live_on(known, measured, changes, run=run, at="", profile="", today=date.min)
    return known


def read_baseline(path: Path) -> dict[str, Known]:
    """Return what a baseline makes known: a run directory, a findings.json, an exported registry.

    Raises:
        RegistryError: if it is none of them.
    """
    if path.is_dir():
        return known_of_run(*read_run(path))
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise RegistryError(f"--baseline {path}: cannot be read: {_why(exc)}") from exc
    try:
        run, measured = _of_document(json.loads(text), [])
        return known_of_run(run, measured)
    except (LookupError, TypeError, ValueError, AttributeError):
        # No findings.json; then it may be an exported registry.
        try:
            return read_text(text, str(path)).known
        except RegistryError as exc:
            raise RegistryError(
                f"--baseline {path}: neither a run directory, a findings.json nor an exported "
                f"registry ({str(exc).removeprefix(f'{path}: ')})"
            ) from exc


def _of_document(document: Any, rows: list[Mapping[str, Any]]) -> tuple[str, Measured]:
    metadata = document["metadata"]
    measured = Measured(document["findings"], rows, metadata["engines"])
    for entry in measured.findings:
        entry["fingerprint"], entry["id"], entry["engine_versions"]
    return str(metadata["run"].get("run_id", "")), measured


def _why(exc: Exception) -> str:
    if isinstance(exc, OSError):
        return f"{Path(str(exc.filename)).name}: {exc.strerror}" if exc.filename else str(exc)
    return f"{type(exc).__name__}: {exc}"
