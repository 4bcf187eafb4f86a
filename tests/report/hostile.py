"""What an engine may say to spoil a report, and a campaign that says it everywhere."""

from __future__ import annotations

from typing import Any

from tests.report import fixture
from tests.report.fixture import STAGEFLOW, clause, unit, witness

__all__ = ["HOSTILE", "PIECES", "campaign", "many"]

PIECES = (
    "<script>document.title='taken'</script>",
    "</script></style></title></textarea><img src=x onerror=alert(1)>",
    '"\' onmouseover=alert(1) x="',
    "</svg><foreignObject>",
    "{{ 7*7 }} {% raw %}",
    "]]><!-- &amp; &#0;",
    "\x00\x1b[31m\x08\u202egnp.exe\u202c\u2066\ufeff\ud800\uffff",
    "=cmd|' /C calc'!A0",
    "javascript:alert(1)",
    "![x](http://h.invalid/x.png) | `code` ```",
)
HOSTILE = " ".join(PIECES) + "\n# Heading\n| a | b |\n" + "A" * 1_000_000


def campaign() -> dict[str, Any]:
    """Put the hostile text wherever an engine, or a program, can put any."""
    name = PIECES[0] + PIECES[2] + PIECES[6]
    journal: list[list[Any]] = [
        [0.0, "r0", "", "run.begin", None],
        [0.0, "r0", name, "stage.start", None],
        [0.0, "r0", name, "call.begin", [HOSTILE[:3000], 1]],
        [0.1, "r0", name, "emit", HOSTILE[:100]],
        [0.5, f"r0/{name}", name, "stage.start", None],
        [1.0, "r0", name, "stage.end", f"raise:{HOSTILE[:3000]}"],
        [1.0, "r0", "", "cancel.sent", [0, True]],
        [1.0, "r0", "", "run.end", HOSTILE[:3000]],
    ]
    program = fixture.program(fixture.stage(name, {"op": "call", "tool": name, "seconds": 9}))
    seen = witness(
        "CLEAN-1",
        "not-released",
        1,
        2,
        expected=HOSTILE,
        actual=HOSTILE,
        stage=name,
        location=f"{PIECES[1]}:3 {HOSTILE[:500]}",
        figures={HOSTILE[:200]: HOSTILE},
        journal=journal,
        program=program,
        at=[0, 1, 2],
    )
    row = unit(
        STAGEFLOW,
        "timeouts/simple_timeout",
        "fail",
        reason=HOSTILE,
        program=program,
        figures={HOSTILE[:200]: HOSTILE},
        clauses={"CLEAN-1": clause("fail", 2, 1, figures={HOSTILE[:200]: 3}, reason=HOSTILE)},
        witnesses=[seen],
    )
    lacking = unit(
        STAGEFLOW,
        "timeouts/heartbeat",
        "unsupported",
        reason=HOSTILE,
        clauses_judged=["TIME-9"],
        missing={"heartbeat": HOSTILE},
    )
    broken = unit(STAGEFLOW, "timeouts/zero_timeout", "error", reason=HOSTILE, runs=0)
    engine = {
        **fixture.engines()[0],
        "missing": {"heartbeat": HOSTILE, "checkpoint": HOSTILE},
        "facts": {"hello_lines": HOSTILE, "validates_graph": {HOSTILE[:200]: False}},
        "semantics": {"TIME-4": HOSTILE},
    }
    return {"units": [row, lacking, broken], "engines": [engine]}


def many(findings: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Return so many bugs, made from those given."""
    bugs = [f for f in findings if f["kind"] == "bug"]
    return [{**bugs[i % len(bugs)], "id": f"BUG-{i + 1:03}"} for i in range(number)]
