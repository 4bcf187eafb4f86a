"""A load's report: load.md and load.svg, from load.json alone.

The picture is one SVG with time across: requests a second and what became of them,
latencies, the engine's memory. Windows of faults are shaded in each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.findings import write_whole
from harness.report.render import environment

__all__ = ["render_load"]

WIDTH = 760
MARGIN_LEFT = 64
MARGIN_RIGHT = 16
PANEL_PX = 110
GAP_PX = 38
TOP_PX = 28
POINTS_MAX = 400
PERCENTILES = ("p50", "p90", "p95", "p99", "max")

# What a panel shows: title, unit, and for each line its name, colour and the row's field.
Line = tuple[str, str, Callable[[Mapping[str, Any]], float | None]]
PANELS: tuple[tuple[str, tuple[Line, ...]], ...] = (
    (
        "requests a second",
        (
            ("sent", "#3465a4", lambda row: row["sent"]),
            ("cut", "#cc0000", lambda row: row["cut"]),
        ),
    ),
    (
        "latency of answers, ms",
        (
            ("p50", "#4e9a06", lambda row: row["p50_ms"]),
            ("p95", "#c17d11", lambda row: row["p95_ms"]),
        ),
    ),
    (
        "resident memory of the engine, MiB",
        (("rss", "#75507b", lambda row: _mib(row["rss_bytes"])),),
    ),
)


def _mib(value: float | None) -> float | None:
    return None if value is None else value / (1 << 20)


def render_load(folder: Path, load: Mapping[str, Any]) -> list[Path]:
    """Write load.md, and load.svg where there is a time line; returns the paths."""
    env = environment()
    written = []
    rows = load.get("timeline") or []
    if rows:
        picture = env.get_template("load.svg.j2").render(**_picture(load, rows))
        written.append(write_whole(folder / "load.svg", picture))
    resources = load.get("resources") or {}
    share = (load.get("overhead") or {}).get("cpu_share_of_the_engine")
    page = env.get_template("load.md.j2").render(
        load=load,
        picture=bool(rows),
        percentiles=[{"name": name, "key": f"{name}_ms"} for name in PERCENTILES],
        rss_mib={
            name: round(one["rss_bytes_max"] / (1 << 20), 1) for name, one in resources.items()
        },
        engine_percent=None if share is None else round(100 * share),
    )
    return [write_whole(folder / "load.md", page), *written]


def _picture(load: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    thin = rows[:: max(1, len(rows) // POINTS_MAX)]
    span_s = max(1, rows[-1]["second"])
    inner = WIDTH - MARGIN_LEFT - MARGIN_RIGHT

    def x_of(second: float) -> float:
        share: float = min(max(second / span_s, 0.0), 1.0)
        return round(MARGIN_LEFT + inner * share, 1)

    shades = []
    for window in load.get("windows", ()):
        begin = x_of(window["begin_s"] - rows[0]["at"])
        end = x_of(window["end_s"] - rows[0]["at"])
        shades.append({"x": begin, "width": round(end - begin, 1), "what": window["what"]})
    panels = []
    for number, (title, lines) in enumerate(PANELS):
        top = TOP_PX + number * (PANEL_PX + GAP_PX)
        values = [v for _, _, read in lines for row in thin if (v := read(row)) is not None]
        highest = max(values, default=0.0) or 1.0
        drawn = []
        for name, colour, read in lines:
            # Where a second has no value the line is broken, not drawn through.
            pieces: list[list[str]] = [[]]
            for row in thin:
                value = read(row)
                if value is None:
                    pieces.append([])
                    continue
                y = round(top + PANEL_PX * (1 - value / highest), 1)
                pieces[-1].append(f"{x_of(row['second'])},{y}")
            drawn.append(
                {"name": name, "colour": colour, "pieces": [" ".join(p) for p in pieces if p]}
            )
        panels.append(
            {
                "title": title,
                "top": top,
                "bottom": top + PANEL_PX,
                "highest": f"{highest:.4g}",
                "lines": drawn,
            }
        )
    height = TOP_PX + len(PANELS) * (PANEL_PX + GAP_PX)
    return {
        "width": WIDTH,
        "height": height,
        "left": MARGIN_LEFT,
        "right": WIDTH - MARGIN_RIGHT,
        "panel_px": PANEL_PX,
        "panels": panels,
        "shades": shades,
        "span_s": span_s,
        "title": f"Load on {load['engine']} {load['engine_version']}".strip(),
    }
