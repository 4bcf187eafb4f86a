"""The faults by name, and one engine put through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.kernel.errors import DagstormError, EnvironmentFault
from harness.lab.engines import EngineRef, python_of
from harness.lab.faults.bench import LIMIT_S, Bench
from harness.lab.faults.clock import clock_row
from harness.lab.faults.disk import disk_row
from harness.lab.faults.kill import kill_row
from harness.lab.faults.oom import oom_row
from harness.lab.faults.process import Place
from harness.lab.faults.resources import descriptors_row, memory_row
from harness.lab.faults.tally import Tally
from harness.lab.faults.term import term_row
from harness.lab.faults.timing import block_row, cpu_row, stop_row

__all__ = ["FAULTS", "bench_of", "fault_rows"]

# In the order in which they are run and listed.
FAULTS: Mapping[str, Callable[[Bench], dict[str, Any]]] = {
    "kill": kill_row,
    "stop": stop_row,
    "term": term_row,
    "memory": memory_row,
    "oom": oom_row,
    "descriptors": descriptors_row,
    "disk": disk_row,
    "cpu": cpu_row,
    "block": block_row,
    "clock": clock_row,
}


def bench_of(
    place: Place, ref: EngineRef, *, seed: int, times: int, say: Callable[[str], None]
) -> Bench:
    """Bring an engine up once, to learn what it offers.

    Raises:
        InputError: if its adapter is none.
        EnvironmentFault: if it cannot be had or does not start.
    """
    bench = Bench(place, ref, python_of(ref, say), {}, seed, times, say)
    with bench.subject({"hello": True}) as subject:
        said = subject.rest(LIMIT_S)
    if "info" not in said:
        why = said.get("crash") or said.get("stderr") or f"it ended with code {said['code']}"
        raise EnvironmentFault(f"--engine {ref.label}: does not start: {str(why)[-300:]}")
    return replace(bench, info=said["info"])


def fault_rows(bench: Bench, faults: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Put an engine through faults; yields a unit row for each.

    A fault that cannot be tried because the machine or dagstorm failed gives a row that says so.
    """
    for name in faults:
        bench.say(f"{bench.ref.label}: {name}")
        try:
            found = FAULTS[name](bench)
        except DagstormError as exc:
            found = _failed(name, bench, str(exc))
        yield {"engine": bench.ref.name, "engine_version": bench.ref.version, **found}


def _failed(name: str, bench: Bench, why: str) -> dict[str, Any]:
    row = Tally(name, name, "", ()).row(bench.info, bench.seed, 0.0)
    return row | {"verdict": "error", "reason": why}
