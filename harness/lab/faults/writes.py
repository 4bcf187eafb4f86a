"""Moments inside an engine's writing: before and after each call that stores something.

The interpreter tells a profiler of every call of a C function. Those by which Python code
writes to a file or a database are counted, of all threads together, those of the ledger
left out. Nothing of the engine is replaced, so any engine that writes by way of them can
be killed in the midst of it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["STORING", "watch_writes"]

STORING = frozenset(
    (
        *("execute", "executemany", "executescript", "commit", "__exit__"),
        *("write", "pwrite", "writev", "pwritev", "writelines", "flush", "fsync", "fdatasync"),
        *("replace", "rename", "link", "truncate", "ftruncate"),
    )
)
# What these modules write is no checkpoint of the engine's.
OURS = ("harness.lab.", "harness.kernel.", "asyncio.", "logging", "json.", "threading")
# Whose methods store: files, databases, the operating system.
STORES = ("sqlite3", "_sqlite3", "_io", "posix", "nt", "mmap", "_dbm", "_gdbm")


def watch_writes(cross: Callable[[], None]) -> None:
    """Call `cross` before and after each storing call of the engine's, from now on."""

    def profile(frame: FrameType, event: str, called: Any) -> None:
        if event not in ("c_call", "c_return") or called.__name__ not in STORING:
            return
        owner = getattr(called, "__self__", None)
        home = getattr(owner, "__name__", None) or type(owner).__module__
        if home.split(".", 1)[0] not in STORES:
            return
        if not str(frame.f_globals.get("__name__", "")).startswith(OURS):
            cross()

    threading.setprofile(profile)
    sys.setprofile(profile)
