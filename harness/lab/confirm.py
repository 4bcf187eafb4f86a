"""Confirmation: a finding is confirmed only by a script that shows it without dagstorm."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Script", "confirm", "run_script"]

SCRIPT_LIMIT_S = 35
# They spend their time in real sleeps, not on the processor.
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Script:
    """A stand-alone script of a finding, and the interpreter of its engine's environment."""

    fingerprint: str
    clause: str
    file: Path
    python: str


def run_script(script: Script) -> tuple[str, str]:
    """Run a script in a fresh process on the stock loop; returns (confirmation, note)."""
    with tempfile.TemporaryDirectory(prefix="dagstorm-") as folder:
        try:
            done = subprocess.run(
                [script.python, "-P", "-s", str(script.file.resolve())],
                capture_output=True,
                text=True,
                timeout=SCRIPT_LIMIT_S,
                cwd=folder,
                env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "simulated_only", f"the script did not end within {SCRIPT_LIMIT_S} s"
    lines = [x for x in done.stdout.strip().splitlines() if x.startswith(("VIOLATION", "HOLDS"))]
    last = lines[-1] if lines else ""
    if done.returncode == 1 and last.startswith(f"VIOLATION {script.clause}"):
        return "confirmed", last[:500]
    if done.returncode == 0 and last.startswith(f"HOLDS {script.clause}"):
        return "simulated_only", "the script did not show it on the stock event loop"
    said = (done.stderr.strip().splitlines() or [last or "nothing"])[-1]
    return "simulated_only", f"the script could not run (exit {done.returncode}): {said[:200]}"


def confirm(scripts: Iterable[Script]) -> dict[str, dict[str, Any]]:
    """Run scripts, a few at once; returns fingerprint -> confirmation, note, script's name."""
    wanted = list(scripts)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(run_script, wanted))
    return {
        s.fingerprint: {"confirmation": c, "confirmation_note": n, "script": f"repro/{s.file.name}"}
        for s, (c, n) in zip(wanted, answers, strict=True)
    }


Confirmations = Mapping[str, Mapping[str, Any]]
