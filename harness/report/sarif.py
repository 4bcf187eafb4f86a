"""dagstorm.sarif: bugs and developer-experience findings for code scanning, in SARIF 2.1.0.

A rule is a clause of the contract; a finding that no clause covers names its probed fact. The
place is in the engine's own source, relative to where the engine is installed. The partial
fingerprint is what the registry knows a finding by, so a viewer tracks it as dagstorm does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.escape import href, shown

__all__ = ["sarif_log"]

Row = Mapping[str, Any]

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "note",
    "info": "note",
}
FINGERPRINT = "dagstorm/v1"
BASE = "ENGINE"
LIMIT_TEXT = 1_000

_PLACE = re.compile(
    r"^(?P<file>[^:\0]+):(?P<line>[1-9][0-9]{0,8})(?:[:\s]+(?P<function>.*))?$", re.DOTALL
)


def sarif_log(document: Row, changes: Row | None = None) -> dict[str, Any]:
    """Return the whole log as plain data.

    Args:
        document: what findings.json holds.
        changes: what the registry found changed since the last run, if it compared.
    """
    metadata = document["metadata"]
    run = metadata["run"]
    findings = [f for f in document["findings"] if f["kind"] in ("bug", "dx")]
    rules = _rules(metadata["clauses"], findings)
    index = {rule["id"]: i for i, rule in enumerate(rules)}
    driver = {
        "name": "dagstorm",
        "rules": rules,
    }
    version = str(run.get("dagstorm_version") or "")
    if version:
        driver["version"] = version
    invocation: dict[str, Any] = {"executionSuccessful": run.get("status") == "completed"}
    for ours, theirs in (("started_at", "startTimeUtc"), ("completed_at", "endTimeUtc")):
        if _is_time(run.get(ours)):
            invocation[theirs] = run[ours]
    if run.get("command"):
        invocation["commandLine"] = shown(run["command"], LIMIT_TEXT)
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "automationDetails": {"id": f"dagstorm/{shown(run.get('run_id') or 'run', 100)}"},
                "invocations": [invocation],
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {
                    BASE: {"description": {"text": "Where the engine's package is installed."}}
                },
                "results": [_result(f, index, changes) for f in findings],
            }
        ],
    }


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and bool(
        re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z", value)
    )


def _rule_of(finding: Row) -> str:
    return finding["clause"] or f"DX/{finding['shape']}"


def _rules(clauses: Sequence[Row], findings: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a rule per clause judged in the run, and one per probed fact that gave a finding."""
    rules = [
        {
            "id": one["id"],
            "shortDescription": {"text": shown(f"The engine must {one['must']}", 200)},
            "fullDescription": {"text": shown(f"The engine must {one['must']}.", LIMIT_TEXT)},
            "help": {"text": shown(f"{one['impact']} {one['recommendation']}", LIMIT_TEXT)},
            "defaultConfiguration": {"level": LEVELS[one["severity"]]},
            "properties": {"tags": [one["family"], one["type"]], "severity": one["severity"]},
        }
        for one in clauses
    ]
    known = {rule["id"] for rule in rules}
    for one in findings:
        if _rule_of(one) not in known:
            known.add(_rule_of(one))
            rules.append(
                {
                    "id": _rule_of(one),
                    "shortDescription": {"text": shown(one["title"], 200)},
                    "fullDescription": {"text": shown(one["expected"], LIMIT_TEXT)},
                    "help": {"text": shown(one["impact"]["statement"], LIMIT_TEXT)},
                    "defaultConfiguration": {"level": LEVELS[one["severity"]]},
                    "properties": {"tags": [one["type"]], "severity": one["severity"]},
                }
            )
    return rules


def _result(finding: Row, index: Mapping[str, int], changes: Row | None) -> dict[str, Any]:
    rule = _rule_of(finding)
    versions = ", ".join(v for v in finding["engine_versions"] if v)
    text = (
        f"{finding['id']} on {finding['engine']} {versions}".strip()
        + f": {finding['title']}. Expected: {finding['expected']} Seen: {finding['actual']}"
    )
    result: dict[str, Any] = {
        "ruleId": rule,
        "ruleIndex": index[rule],
        "level": LEVELS[finding["severity"]],
        "message": {"text": shown(text, LIMIT_TEXT)},
        "locations": [_location(finding)],
        "partialFingerprints": {FINGERPRINT: finding["fingerprint"]},
        "properties": {
            "id": finding["id"],
            "kind": finding["kind"],
            "severity": finding["severity"],
            "engine": finding["engine"],
            "engineVersions": list(finding["engine_versions"]),
            "confirmation": finding["confirmation"],
            "rate": finding["evidence"]["rate"],
        },
    }
    if changes is not None:
        news = finding["id"] in (*changes["new"], *changes["regressed"])
        result["baselineState"] = "new" if news else "unchanged"
        waived = [one for one in changes["waived"] if one["id"] == finding["id"]]
        result["suppressions"] = [
            {"kind": "external", "justification": shown(one["reason"], LIMIT_TEXT)}
            for one in waived
        ]
    return result


def _location(finding: Row) -> dict[str, Any]:
    """Return file and line in the engine's source; a logical place where no line is known."""
    where = finding["location"].replace("\\", "/")
    match = _PLACE.match(where)
    name = shown(finding["component"] or finding["engine"], 200)
    logical = [{"fullyQualifiedName": name}]
    if match is None:
        return {"logicalLocations": logical}
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": href(match["file"].lstrip("/")), "uriBaseId": BASE},
            "region": {"startLine": int(match["line"])},
        },
        "logicalLocations": logical,
    }
