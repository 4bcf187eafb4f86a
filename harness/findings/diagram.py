"""A program as a Mermaid flowchart: stages as nodes, needs as edges.

Colours tell the stages apart that fail, that cancel, and that outlive their timeout. A
graph may be ill-formed on purpose, so unknown dependencies are drawn as what they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.findings.steps import (
    is_cancelling,
    is_failing,
    limit_of,
    outlives,
    steps_of,
)

__all__ = ["diagram", "label"]

LIMIT_NODES = 60
LIMIT_LABEL = 60

_STYLES = {
    "failing": "fill:#fde2e1,stroke:#b3261e,color:#410e0b",
    "cancelling": "fill:#fff0d6,stroke:#9a6700,color:#3d2900",
    "timing_out": "fill:#e3e9fd,stroke:#3355bb,color:#101c44",
    "shown": "stroke-width:4px",
}
# Inside a quoted label Mermaid takes entities for what would end it or be read as markup.
_ENTITIES = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;"}


def label(value: object) -> str:
    """Return a text that is safe inside a quoted Mermaid label, cut to a readable length."""
    shown = "".join(c if c.isprintable() else " " for c in str(value))
    if len(shown) > LIMIT_LABEL:
        shown = shown[:LIMIT_LABEL] + "…"
    return "".join(_ENTITIES.get(c, c) for c in shown)


def diagram(program: Mapping[str, Any], plan: Mapping[str, Any], shown: str = "") -> str:
    """Return the flowchart of a program.

    Args:
        shown: name of the stage at which a violation was seen, drawn with a thick border.
    """
    stages = list(program.get("stages", ()))
    drawn = stages[:LIMIT_NODES]
    lines = ["flowchart LR"]
    node: dict[str, str] = {}
    classes: dict[str, list[str]] = {name: [] for name in _STYLES}
    for i, stage in enumerate(drawn):
        name = str(stage["name"])
        node.setdefault(name, f"s{i}")
        limit = limit_of(stage, plan)
        note = "" if limit is None else f"<br/>timeout {label(limit)} s"
        lines.append(f'    s{i}["{label(name)}{note}"]')
        steps = steps_of(stage)
        for style, applies in (
            ("failing", is_failing(steps)),
            ("cancelling", is_cancelling(steps)),
            ("timing_out", outlives(stage, plan)),
            ("shown", bool(shown) and name == shown),
        ):
            if applies:
                classes[style].append(f"s{i}")
    known = {str(s["name"]) for s in stages}
    for i, stage in enumerate(drawn):
        for j, need in enumerate(stage.get("needs", ())):
            if need in node:
                lines.append(f"    {node[need]} --> s{i}")
            elif need not in known:
                lines.append(f'    u{i}x{j}["{label(need)}: no such stage"] -.-> s{i}')
    if len(stages) > len(drawn):
        lines.append(f'    more["and {len(stages) - len(drawn)} more stages"]')
    for style, members in classes.items():
        if members:
            lines.append(f"    classDef {style} {_STYLES[style]}")
            lines.append(f"    class {','.join(members)} {style}")
    return "\n".join(lines)
