"""Attribute values that crash or hang the Go server, as measured on it.

A stack overflow or a panic in one of its links ends the whole process, with every proxy in
it; so whoever drives a real server asks here first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["danger_of"]

_INT64 = 1 << 63
# time.Duration counts nanoseconds in 64 bits: more milliseconds than this turn negative.
_MS_MAX = _INT64 // 1_000_000
_US_MAX = _INT64 // 1_000
# The API gives up after 25 s, and nothing can interrupt a reset_peer that waits.
_UNINTERRUPTIBLE_MS_MAX = 20_000


def danger_of(type: str, attributes: Mapping[str, int | float]) -> str | None:
    """Say why a toxic with these attributes must not be sent to a Go server; None if it may."""
    for name, value in attributes.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"expected a number for {name}, got {value!r}"
        if type != "packet_loss" and not isinstance(value, int):
            return f"expected a whole number for {name}, got {value!r} (the server answers 400)"
        if not math.isfinite(value) or not -_INT64 <= value < _INT64:
            return f"expected a 64-bit number for {name}, got {value!r}"

    def given(name: str) -> int | float:
        return attributes.get(name, 0)

    match type:
        case "slicer":
            size, variation = given("average_size"), given("size_variation")
            if size < 1:
                return f"average_size {size} overflows the server's stack; give 1 or more"
            if not 0 <= variation < size:
                return (
                    f"size_variation {variation} of average_size {size} overflows the server's "
                    "stack; give less than average_size"
                )
            if given("delay") > _US_MAX:
                return f"delay {given('delay')} is more microseconds than the server can count"
        case "bandwidth":
            rate = given("rate")
            if not 0 <= rate <= _INT64 // 1000:
                return f"rate {rate} makes the server panic; give 0 to {_INT64 // 1000}"
        case "latency":
            for name in ("latency", "jitter"):
                if given(name) > _MS_MAX // 4:
                    return f"{name} {given(name)} is more milliseconds than the server can count"
        case "reset_peer":
            if given("timeout") > _UNINTERRUPTIBLE_MS_MAX:
                return (
                    f"timeout {given('timeout')} cannot be interrupted, so that every later call "
                    f"would hang; give at most {_UNINTERRUPTIBLE_MS_MAX}"
                )
        case "timeout" | "slow_close":
            for name, value in attributes.items():
                if value > _MS_MAX:
                    return f"{name} {value} is more milliseconds than the server can count"
    return None
