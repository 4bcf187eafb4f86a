"""What a long command says while it runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["Progress"]


class Progress:
    """Says how far a campaign is: one line rewritten on a terminal, few lines without."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty()
        self.failing = 0
        self.said_at = 0.0

    def say(self, text: str) -> None:
        if not self.quiet:
            print(("\r\033[K" if self.terminal else "") + text, file=sys.stderr, flush=True)

    def unit(self, done: int, total: int, unit: Mapping[str, Any]) -> None:
        self.failing += unit["verdict"] == "fail"
        if self.quiet:
            return
        text = f"{done}/{total} scenarios run, {self.failing} failing"
        if self.terminal:
            end = "\n" if done == total else ""
            print(f"\r\033[K{text}", end=end, file=sys.stderr, flush=True)
        elif done == total or time.monotonic() - self.said_at > 10:
            self.said_at = time.monotonic()
            print(text, file=sys.stderr, flush=True)
