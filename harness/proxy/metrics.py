"""`/metrics`: the Go server's two counters in Prometheus' text format, but live."""

from __future__ import annotations

from collections.abc import Iterable

from harness.proxy.core import Core
from harness.proxy.proxy import Proxy

__all__ = ["CONTENT_TYPE", "metrics_text"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NAMES = (
    ("toxiproxy_proxy_received_bytes_total", "The total number of bytes received by proxies"),
    ("toxiproxy_proxy_sent_bytes_total", "The total number of bytes sent by proxies"),
)
_LABELS = ("direction", "listener", "proxy", "upstream")


def metrics_text(core: Core, proxies: Iterable[Proxy]) -> str:
    """Return the bytes of ended and of open links, by direction, listener, proxy, upstream."""
    totals = {labels: list(figures) for labels, figures in core.ended.items()}
    for proxy in proxies:
        for connection in proxy.connections:
            counted = totals.setdefault(connection.labels, [0, 0, 0, 0])
            for index, figure in enumerate(connection.figures()):
                counted[index] += figure
    lines: list[str] = []
    for first, (name, explained) in enumerate(_NAMES):
        lines += [f"# HELP {name} {explained}", f"# TYPE {name} counter"]
        lines += sorted(
            f"{name}{{{_labels((direction, *labels))}}} {figures[index]}"
            for labels, figures in totals.items()
            for direction, index in (("upstream", first), ("downstream", 2 + first))
        )
    return "\n".join(lines) + "\n"


def _labels(values: tuple[str, ...]) -> str:
    escaped = (v.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"") for v in values)
    return ",".join(f'{name}="{value}"' for name, value in zip(_LABELS, escaped, strict=True))
