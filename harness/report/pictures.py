"""SVG pictures, written by templates: small, diffable, without a script.

The same template gives the picture inside the HTML page, where the page's style applies, and
the file that Markdown shows, which brings its style along.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any

import jinja2

from harness.report.charts import risk_shapes
from harness.report.drawing import timeline_shapes
from harness.report.escape import href, shown

__all__ = ["FILE_NAME", "brief", "pages", "risk_svg", "svg", "timeline_svg"]

# What may name a file or an element of a page.
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def pages() -> jinja2.Environment:
    """Return the environment of HTML and SVG templates: strict, and escaping everything."""
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report", "pages"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters["shown"] = shown
    env.filters["brief"] = brief
    env.filters["link"] = href
    return env


def brief(text: object, limit: int) -> str:
    """Return `text` as `shown` does, and so that it stays short when it is escaped."""
    line = shown(text, limit)
    return line if len(escape(line)) <= 2 * limit else shown(text, limit // 3)


def svg(
    env: jinja2.Environment, template: str, ref: str, title: str, shapes: Any, **more: Any
) -> str:
    """Return a picture; `ref` is the beginning of the ids inside it, unique in its page."""
    return env.get_template(template).render(
        ref=ref, title=shown(title, 200), s=shapes, **({"standalone": False} | more)
    )


def timeline_svg(env: jinja2.Environment, finding: Mapping[str, Any], *, standalone: bool) -> str:
    """Return the timeline of a finding, or "" if it has no picture."""
    reproduction = finding.get("reproduction") or {}
    picture = reproduction.get("picture")
    if not picture:
        return ""
    cut = picture["lanes_left_out"] + sum(lane["left_out"] for lane in picture["lanes"])
    left_out = f"{cut} lanes, bars or marks are left out; dagstorm replay shows all" if cut else ""
    title = f"Timeline of {finding['id']}: {finding['title']}"
    return svg(
        env,
        "timeline.svg.j2",
        f"p-{finding['id']}",
        title,
        timeline_shapes(picture),
        left_out=left_out,
        standalone=standalone,
    )


def risk_svg(
    env: jinja2.Environment, chapter: Mapping[str, Any], ref: str, *, standalone: bool
) -> str:
    """Return the risk matrix of one engine version."""
    title = f"Risk matrix of {chapter['label']}"
    shapes = risk_shapes(chapter["risks"])
    return svg(env, "risk.svg.j2", ref, title, shapes, standalone=standalone)
