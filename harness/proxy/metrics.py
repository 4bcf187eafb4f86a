"""`/metrics`: the Go server's two counters in Prometheus' text format, but live."""

from __future__ import annotations

from collections.abc import Iterable

from harness.proxy.core import Core, Series
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
    received, sent = dict(core.received), dict(core.sent)
    for proxy in proxies:
        for connection in proxy.connections:
            for direction, link in connection.links.items():
                series = connection.series(direction)
                received[series] = received.get(series, 0) + link.received
                sent[series] = sent.get(series, 0) + link.sent
    lines: list[str] = []
    for (name, explained), totals in zip(_NAMES, (received, sent), strict=True):
        lines += [f"# HELP {name} {explained}", f"# TYPE {name} counter"]
        lines += [f"{name}{{{_labels(series)}}} {totals[series]}" for series in sorted(totals)]
    return "\n".join(lines) + "\n"


def _labels(series: Series) -> str:
    escaped = (v.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"") for v in series)
    return ",".join(f'{name}="{value}"' for name, value in zip(_LABELS, escaped, strict=True))
