"""junit.xml: every scenario as a test case, for the test reports of continuous integration.

A violation is a failure, a fault of dagstorm or of the machine an error. What was not judged
(unsupported, inconclusive, blocked) is skipped with its reason; none of it counts as passed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from harness.report.escape import shown

__all__ = ["junit_page"]

Row = Mapping[str, Any]

SKIPPED = ("unsupported", "inconclusive", "blocked")
LIMIT_TEXT = 2_000
# XML 1.0 has no place for other control characters or lone surrogates, not even escaped.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_page(run: Row, results: Sequence[Row], findings: Sequence[Row]) -> str:
    """Return the document: a suite per engine version, a case per scenario and laboratory."""
    root = ET.Element(
        "testsuites", _totals(results) | {"name": _legal(f"dagstorm {run['run_id']}")}
    )
    labels = dict.fromkeys(_label(one) for one in results)
    for label in labels:
        mine = [one for one in results if _label(one) == label]
        suite = ET.SubElement(root, "testsuite", {"name": _legal(label)} | _totals(mine))
        if re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}", run["started_at"]):
            suite.set("timestamp", run["started_at"][:19])
        properties = ET.SubElement(suite, "properties")
        for name in ("run_id", "seed", "profile", "dagstorm_version", "python_version"):
            ET.SubElement(properties, "property", {"name": name, "value": _legal(run[name])})
        for one in mine:
            _case(suite, label, one, findings)
    ET.indent(root, " ")
    body = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _label(one: Row) -> str:
    return f"{one['engine']}@{one['engine_version']}" if one["engine_version"] else one["engine"]


def _totals(results: Sequence[Row]) -> dict[str, str]:
    verdicts = [one["verdict"] for one in results]
    return {
        "tests": str(len(verdicts)),
        "failures": str(verdicts.count("fail")),
        "errors": str(verdicts.count("error")),
        "skipped": str(sum(v in SKIPPED for v in verdicts)),
        "time": f"{sum(float(one['duration_s']) for one in results):.3f}",
    }


def _case(suite: ET.Element, label: str, one: Row, findings: Sequence[Row]) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": _legal(f"{label}.{one['pack']}".replace(" ", "_")),
            "name": _legal(f"{one['scenario']} [{one['lab']}]"),
            "time": f"{float(one['duration_s']):.3f}",
        },
    )
    verdict = one["verdict"]
    if verdict == "fail":
        mine = [
            f
            for f in findings
            if f["kind"] in ("bug", "dx")
            and f["engine"] == one["engine"]
            and one["engine_version"] in f["engine_versions"]
            and one["scenario"] in f["scenarios"]
        ]
        about = {"message": _legal(one["reason"] or "violated"), "type": _legal(one["clause"])}
        failure = ET.SubElement(case, "failure", about)
        lines = [
            f"{f['id']} {f['severity']} {f['clause']}: {f['title']}\n"
            f"  expected: {f['expected']}\n  actual: {f['actual']}"
            for f in mine
        ]
        told = f"violated in {one['violations']} of {one['runs']} runs; seed {one['seed']}"
        # What was seen live has no token.
        again = [f"dagstorm replay {one['token']}"] if one["token"] else []
        failure.text = _legal("\n".join([told, *lines, *again]), lines=True)
    elif verdict == "error":
        about = {"message": _legal(one["reason"] or "error"), "type": "error"}
        ET.SubElement(case, "error", about)
    elif verdict in SKIPPED:
        words = f"{verdict}: {one['reason']}".rstrip(": ")
        ET.SubElement(case, "skipped", {"message": _legal(words)})


def _legal(text: object, *, lines: bool = False) -> str:
    """Return a text that XML can hold, bounded; on one line unless `lines`."""
    if not lines:
        return _ILLEGAL.sub("\ufffd", shown(text))
    kept = "\n".join(shown(line, 600) for line in str(text)[: LIMIT_TEXT * 4].splitlines())
    return _ILLEGAL.sub("\ufffd", kept)
