"""The published JSON Schema of findings.json, and the check that what is written obeys it."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

import jsonschema

__all__ = ["SCHEMA_VERSION", "faults_of", "schema"]

SCHEMA_VERSION = "1"
LIMIT_FAULTS = 20


@cache
def schema() -> dict[str, Any]:
    """Return the schema (JSON Schema 2020-12) as it is shipped in the package."""
    page = resources.files("harness.findings").joinpath("findings.schema.json")
    out: dict[str, Any] = json.loads(page.read_text(encoding="utf-8"))
    return out


def faults_of(document: Any) -> list[str]:
    """Return what is wrong with a findings document, one line each; empty if nothing is."""
    validator = jsonschema.Draft202012Validator(schema())
    faults = []
    for error in validator.iter_errors(document):
        where = "/".join(str(part) for part in error.absolute_path) or "document"
        faults.append(f"{where}: {error.message[:200]}")
        if len(faults) == LIMIT_FAULTS:
            break
    return sorted(faults)
