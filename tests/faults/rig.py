"""Engines put through single faults, for the tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.engine.broken import CATALOGUE, LIVE_CATALOGUE
from harness.lab.engines import parse_engine
from harness.lab.faults.bench import Bench
from harness.lab.faults.process import Place
from harness.lab.faults.rounds import bench_of, fault_rows

__all__ = ["bench", "leftovers", "row"]


@contextmanager
def bench(engine: str, *, times: int = 1, seed: int = 1) -> Iterator[Bench]:
    with Place() as place:
        ref = parse_engine(engine, {**CATALOGUE, **LIVE_CATALOGUE})
        yield bench_of(place, ref, seed=seed, times=times, say=lambda _: None)


def row(engine: str, fault: str, *, times: int = 1, seed: int = 1) -> dict[str, Any]:
    """Put an engine through one fault; returns the first row."""
    with bench(engine, times=times, seed=seed) as one:
        return next(fault_rows(one, [fault]))


def shapes(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(w["clause"], w["shape"]) for w in found["witnesses"]}


def leftovers() -> list[str]:
    """Return the temporary folders of faults that are there now."""
    return sorted(p.name for p in Path(tempfile.gettempdir()).glob("dagstorm-faults-*"))
