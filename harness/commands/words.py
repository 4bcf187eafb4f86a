"""How the words of a command line are read: numbers, times, names of things that there are."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import math
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.kernel.errors import InputError

__all__ = [
    "RUNS_FOLDER",
    "Once",
    "count",
    "data_of",
    "finding_of",
    "findings_of",
    "known",
    "port",
    "positive",
    "real",
    "run_folder",
    "seconds",
    "share",
    "short",
    "stopping",
    "to_stderr",
    "whole",
    "writable",
]

RUNS_FOLDER = Path("reports") / "runs"


class Once(argparse.Action):
    """An option that is given once: a second one would pass the first over in silence."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        if before is not None:
            raise argparse.ArgumentError(self, f"given twice ({before}, {values}); name one")
        setattr(namespace, self.dest, values)


def whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def positive(text: str) -> int:
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text!r}")
    return value


def count(text: str) -> int:
    value = whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text!r}")
    return value


def real(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds such as 0.25, got {text!r}")
    return value


def seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 60s, 10m or 1h, got {text!r}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2] or "s"]


def known(kind: str, wanted: str, there: Iterable[str]) -> str:
    names = list(there)
    exact = {n.lower(): n for n in names}
    if wanted.lower() in exact:
        return exact[wanted.lower()]
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names[:12])}"
    raise InputError(f"no {kind} {wanted!r}; {hint}")


def to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def run_folder(named: str | None) -> Path:
    if named:
        folder = Path(named)
        if not (folder / "findings.json").is_file():
            raise InputError(f"--run {folder}: no findings.json there")
        return folder
    runs = sorted(RUNS_FOLDER.glob("*/findings.json"), key=lambda p: p.stat().st_mtime)
    if not runs:
        raise InputError(f"no run under {RUNS_FOLDER}; make one by dagstorm run, or give --run")
    return runs[-1].parent


@contextlib.contextmanager
def data_of(where: Path | str) -> Iterator[None]:
    """Take data of a run that are not as dagstorm wrote them for the user's to put right."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as exc:
        raise InputError(
            f"{where}: its data cannot be read ({type(exc).__name__}: {exc}); "
            "run the campaign again, or put back the files that it wrote"
        ) from exc


def findings_of(folder: Path) -> dict[str, Any]:
    """Return a run's findings.json; its `findings` are a list of findings with ids."""
    file = folder / "findings.json"
    with data_of(file):
        document = json.loads(file.read_text("utf-8"))
        document["metadata"].get("run")
        for one in document["findings"]:
            str.lower(one["id"])
    found: dict[str, Any] = document
    return found


def finding_of(folder: Path, wanted: str) -> dict[str, Any]:
    by_id = {f["id"]: f for f in findings_of(folder)["findings"]}
    found: dict[str, Any] = by_id[known("finding", wanted, by_id)]
    return found


def port(text: str) -> int:
    """Read a port, 0 for a free one."""
    value = whole(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return value


def share(text: str) -> float:
    """Read a share from 0 to 1, as 5% or 0.05."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
    value = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share such as 5% or 0.05, got {text!r}")
    return value


def short(text: str) -> float:
    """Read a time of up to ten seconds, as 100ms or 2s; returns seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", text)
    value = float(match[1]) / (1000 if match[2] == "ms" else 1) if match else -1.0
    if not 0 <= value <= 10:
        raise argparse.ArgumentTypeError(f"expected a time up to 10s such as 100ms, got {text!r}")
    return value


@contextmanager
def stopping(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and a polite kill end a command in good order, for the time of the block."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def writable(folder: Path, option: str = "--out") -> None:
    """Make the folder that an option names, and see that files can be written there.

    Raises:
        InputError: if it is no folder, or none that can be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as exc:
        why = getattr(exc, "strerror", None) or exc
        raise InputError(
            f"{option} {folder}: cannot be written: {why}; name a folder that can"
        ) from exc
