"""What a seed costs in dagstorm's laboratory and in PyPI's deterministic loops, side by side.

The same hand-written asyncio programs (no engine; `programs.py`) run on stock asyncio, in
dagstorm's laboratory under legal perturbations, and under simloop and simloom as these say
they are to be used. All sides run in the same interpreter, each in a process of its own, in
turn; what is printed are medians over the rounds, of CPU time, and of ratios within a round:
the machine's speed and its other work drop out. Some programs cannot fail on stock asyncio by
its documented rules: an alarm on one of these is a false one.

`python tests/bench/peers.py` prints; it never fails. Where a peer cannot be had, a line says why.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from harness.lab.environments import cache_folder  # noqa: E402
from tests.bench.programs import CANNOT_FAIL  # noqa: E402
from tests.bench.side import HOW  # noqa: E402

# Pinned, so that figures can be compared from day to day, and their interface is the known one.
PEERS = {"simloop": "0.2.2", "simloom": "0.5.0"}
NEEDS = (3, 12)
LIMIT_S = 180
# A second process of each peer, with all it has imported moved out of the collector's sight.
FROZEN = "+frozen"
ASKED = "import sys; print('%d.%d' % sys.version_info[:2])"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is run: rounds, runs a round of the diamond, seeds of each other program."""

    rounds: int
    runs: int
    seeds: int


FULL, QUICK = Size(rounds=7, runs=100, seeds=200), Size(rounds=1, runs=10, seeds=20)


# A peer's environment.


def interpreters() -> Iterator[tuple[str, str]]:
    """Yield (path, minor version) of Pythons on this machine, the one at hand first."""
    names = [f"python3.{minor}" for minor in range(12, 15)]
    found = [sys.executable, *(p for p in map(shutil.which, names) if p)]
    home = Path.home()
    for minor in range(12, 15):
        found += map(str, home.glob(f".pyenv/versions/3.{minor}.*/bin/python"))
        found += map(str, home.glob(f".local/share/uv/python/cpython-3.{minor}.*/bin/python"))
    for path in found:
        try:
            done = subprocess.run(
                [path, "-c", ASKED], capture_output=True, text=True, timeout=30, check=False
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if done.returncode == 0:
            yield path, done.stdout.strip()


def fitting() -> tuple[str, str]:
    """Return a Python that the peers can run on, or else the one at hand."""
    first = ""
    for path, minor in interpreters():
        first = first or minor
        if tuple(int(n) for n in minor.split(".")) >= NEEDS:
            return path, minor
    return sys.executable, first


def environment(peer: str, python: str, minor: str) -> tuple[str, str]:
    """Return (interpreter, "") of the peer's own environment, made once, or ("", why not)."""
    version = PEERS[peer]
    place = cache_folder() / "peers" / f"{peer}-{version}-py{minor}"
    ready = place / "bin" / "python"
    if (place / "dagstorm.json").exists() and ready.exists():
        return str(ready), ""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=place.parent))
    except OSError as exc:
        return "", f"no environment can be made: {exc.strerror}; set DAGSTORM_HOME"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python"]
    try:
        for command in (
            [python, "-m", "venv", "--without-pip", str(building)],
            [*pip, str(building / "bin" / "python"), "install", "--quiet", f"{peer}=={version}"],
        ):
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
            if done.returncode != 0:
                return "", _why(done.stderr)
        record = {"distribution": peer, "version": version, "python": minor}
        (building / "dagstorm.json").write_text(json.dumps(record), "utf-8")
        if not place.exists():
            building.rename(place)
    except (OSError, subprocess.SubprocessError) as exc:
        return "", str(exc)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return str(ready), ""


def _why(complaint: str) -> str:
    """Return pip's reason in a line: the Python it would have needed, or its last words."""
    lines = complaint.strip().splitlines() or ["no reason was given"]
    python = [x for x in lines if "Requires-Python" in x]
    if python:
        needs = python[0].rpartition("Requires-Python ")[2]
        return f"the package index has none for this Python (it needs {needs})"
    # An index's address may carry a password.
    return " ".join("the index" if "://" in w else w for w in lines[-1].split())[:200]


# The sides.


class Process:
    """A side's process, ready to be asked."""

    def __init__(self, name: str, python: str, *, frozen: bool = False) -> None:
        command = [python, "-P", str(Path(__file__).with_name("side.py")), name]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        self.process = subprocess.Popen(
            [*command, *(["frozen"] if frozen else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "PYTHONHASHSEED": "0"},
        )
        self._said()

    def ask(self, program: str, first: int, runs: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        request = {"program": program, "first": first, "runs": runs}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._said()

    def _said(self) -> dict[str, Any]:
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            said = self.process.stderr.read().strip().splitlines()
            raise ChildProcessError(said[-1] if said else "it ended without a word")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def _begin(notes: list[str]) -> dict[str, Process]:
    """Start all sides that run here; add a line for each that does not."""
    python, minor = fitting()
    sides: dict[str, Process] = {}
    for name in ("stock", "dagstorm", *PEERS):
        interpreter, why = (python, "") if name not in PEERS else environment(name, python, minor)
        try:
            if why:
                raise ChildProcessError(why)
            sides[name] = Process(name, interpreter)
            if name in PEERS:
                sides[name + FROZEN] = Process(name, interpreter, frozen=True)
        except ChildProcessError as exc:
            notes.append(f"{name} was not measured on Python {minor}: {exc}")
    return sides


def cost(sides: dict[str, Process], size: Size) -> dict[str, list[dict[str, float]]]:
    """Measure the diamond on all sides, in turn; a row of µs and runs/s a round and side."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(size.rounds + 1):
        for name, side in sides.items():
            # Stock asyncio sleeps for real: a tenth of the runs is plenty there.
            runs = max(2, size.runs // 10) if name == "stock" else size.runs
            said = side.ask("diamond", 1 + number * size.runs, runs)
            said |= {"us": said["cpu_s"] / runs * 1e6, "rate": runs / said["wall_s"]}
            if number:  # the first round warms up
                rows[name].append(said)
    return rows


def alarms(side: Process, size: Size) -> dict[str, int]:
    """Return how many seeds raise an alarm on each program that cannot fail."""
    return {name: int(side.ask(name, 1, size.seeds)["alarms"]) for name in CANNOT_FAIL}


def measure(size: Size) -> dict[str, Any]:
    notes: list[str] = []
    sides = _begin(notes)
    try:
        rows = cost(sides, size)
        false = {n: alarms(s, size) for n, s in sides.items() if not n.endswith(FROZEN)}
    finally:
        for side in sides.values():
            side.close()
    ours = rows["dagstorm"]
    return {
        "python": fitting()[1],
        "notes": notes,
        "us": {n: median(r["us"] for r in found) for n, found in rows.items()},
        "rate": {n: median(r["rate"] for r in found) for n, found in rows.items()},
        "ratio": {
            n: median(a["us"] / b["us"] for a, b in zip(found, ours, strict=True))
            for n, found in rows.items()
        },
        "alarms": false,
        "seeds": size.seeds,
    }


def text_of(found: dict[str, Any]) -> Iterator[str]:
    yield f"a hand-written five-stage diamond of plain asyncio, no engine; Python {found['python']}"
    yield "CPU time a run and ratio to dagstorm's: medians of rounds in turn; runs/s by wall clock"
    for name, us in found["us"].items():
        if name.endswith(FROZEN):
            shown, how = "", "the same after gc.freeze(), which its documentation does not ask for"
        elif name in PEERS:
            shown, how = f"{name} {PEERS[name]}", f"{HOW[name]}, as documented"
        else:
            shown, how = name, HOW[name]
        rate, ratio = found["rate"][name], found["ratio"][name]
        yield f"  {shown:<14} {us:7.0f} us {rate:8.0f} runs/s {ratio:7.1f}x   {how}"
    yield from found["notes"]
    yield (
        "false alarms: seeds that fail a program which cannot fail on stock asyncio "
        f"(of {found['seeds']} each)"
    )
    for name, by_program in found["alarms"].items():
        share = sum(by_program.values()) / len(by_program) / found["seeds"]
        each = ", ".join(f"{program} {n}" for program, n in by_program.items())
        yield f"  {name:<10} {share:6.1%}   {each}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a few runs only: does it work?")
    options = parser.parse_args(arguments)
    for line in text_of(measure(QUICK if options.quick else FULL)):
        print(line)


if __name__ == "__main__":
    main()
