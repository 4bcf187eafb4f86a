"""What bounds the proxy: nothing that a client sends or leaves undone may grow without end."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The upper bounds of one proxy server; what happens at each is named beside it."""

    proxies_max: int = 1_000  # one more is answered 507
    toxics_per_proxy_max: int = 64  # one more is answered 507
    connections_max: int = 10_000  # one more is accepted, counted as refused and reset
    accepts_per_turn_max: int = 64  # then the other sockets get their turn
    held_bytes_max: int = 256 << 20  # above it, a stage holds one chunk and pushes back
    connect_timeout_s: float = 30.0  # then the client is closed, as if upstream were down
    lookup_timeout_s: float = 5.0  # of a host name; then as for an unknown host
    accept_pause_s: float = 0.2  # after the process ran out of descriptors

    api_connections_max: int = 256  # one more is closed at once
    request_head_bytes_max: int = 64 << 10  # a longer one is answered 431
    request_body_bytes_max: int = 4 << 20  # a longer one is answered 413
    request_timeout_s: float = 15.0  # from its first byte to its last; then closed
    idle_timeout_s: float = 60.0  # between requests; then closed
    metric_series_max: int = 10_000  # the oldest ones beyond are forgotten
