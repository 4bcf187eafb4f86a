"""`dagstorm faults`: an engine in a process that is killed, stopped, starved and started again."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import report
from harness.commands.books import Books, add_books
from harness.commands.gate import gate_lines
from harness.commands.measured import Measured, begun, bug_lines, measured
from harness.commands.progress import Progress
from harness.commands.settings import FAIL_ON
from harness.commands.words import positive, whole
from harness.contract.clauses import CLAUSES
from harness.engine.broken import CATALOGUE, LIVE_CATALOGUE
from harness.findings.changes import changes_page
from harness.kernel.errors import EnvironmentFault
from harness.lab.campaign import run_metadata
from harness.lab.conclude import write_json
from harness.lab.engines import EngineRef, parse_engines
from harness.lab.faults.process import Place
from harness.lab.faults.rounds import FAULTS, bench_of, fault_rows

__all__ = ["add"]

TIMES = 50


def add(commands: Any) -> None:
    """Add this module's command to the parser."""
    parser = commands.add_parser("faults", help="an engine's process, killed, stopped, starved")
    parser.add_argument("--engine", action="append", metavar="NAME[@VERSION]")
    parser.add_argument(
        "--fault", action="append", choices=[*FAULTS, "all"], help="default: all of them"
    )
    parser.add_argument(
        "--times", type=positive, default=TIMES, help="moments at which it is killed (%(default)s)"
    )
    parser.add_argument("--seed", type=whole, default=1)
    parser.add_argument("--out", metavar="DIR")
    add_books(parser)
    parser.add_argument("--fail-on", choices=FAIL_ON, default="never")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    parser.set_defaults(do=_faults)


def _faults(options: argparse.Namespace) -> int:
    if not sys.platform.startswith("linux"):
        raise EnvironmentFault("faults: they need a Linux system (signals, limits and /proc)")
    every = {**CATALOGUE, **LIVE_CATALOGUE}
    refs = [r for e in options.engine or ["reference"] for r in parse_engines(e, every)]
    named = options.fault or ["all"]
    wanted = [f for f in FAULTS if "all" in named or f in named]
    books = Books(options)
    run_id, started_at, folder = begun(options, books, "faults", time.gmtime())
    command = _command(options, refs, wanted)
    metadata = run_metadata(
        run_id=run_id,
        seed=options.seed,
        profile="faults",
        started_at=started_at,
        completed_at=None,
        status="running",
        command=command,
    )
    write_json(folder / "run.json", metadata)
    progress = Progress(options.quiet)
    units: list[dict[str, Any]] = []
    engines: list[dict[str, Any]] = []
    status = "failed"
    try:
        with Place() as place:
            for ref in refs:
                bench = bench_of(
                    place, ref, seed=options.seed, times=options.times, say=progress.say
                )
                engines.append({**bench.info, "name": ref.name, "version": ref.version})
                for row in fault_rows(bench, wanted):
                    units.append(row)
                    print(_line(row), file=sys.stderr if options.json else sys.stdout, flush=True)
        status = "completed"
    except KeyboardInterrupt:
        status = "interrupted"
    finally:
        metadata |= {
            "status": status,
            "completed_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "engines": [{k: e[k] for k in ("name", "version", "capabilities")} for e in engines],
        }
        note = f"Seen on a real machine, in trials that are drawn anew; again: {command}"
        done = measured(options, books, folder, units, engines, CLAUSES, metadata, note)
        report.write_faults(folder, units, metadata)
    if status == "interrupted":
        print(f"dagstorm: interrupted; what is done is in {folder}", file=sys.stderr)
        return 130
    code = _told(options, folder, units, done, books.against)
    sys.stdout.flush()
    books.end(done.found, units, engines, "faults", done.summary)
    return code


def _told(
    options: argparse.Namespace,
    folder: Path,
    units: Sequence[Mapping[str, Any]],
    done: Measured,
    against: str | None,
) -> int:
    bugs = [f for f in done.found if f["kind"] == "bug"]
    if options.json:
        keys = ("engine", "engine_version", "scenario", "lab", "verdict", "reason", "figures")
        rows = [{k: u[k] for k in keys} for u in units]
        shown = [{k: b[k] for k in ("id", "clause", "severity", "title", "engine")} for b in bugs]
        told = {"run": str(folder), "faults": rows, "bugs": shown, "gate": done.gate}
        told["changes"] = changes_page(done.changes, against)
        print(json.dumps(told, indent=1))
    else:
        for line in (*bug_lines(done, against), *gate_lines(done.gate)):
            print(line)
        print(f"report: {folder}/faults.md, findings: {folder}/findings.json")
    if any(u["verdict"] == "error" for u in units):
        return 3
    return int(done.gate["exit_code"])


def _line(row: Mapping[str, Any]) -> str:
    label = row["engine"] + (f"@{row['engine_version']}" if row["engine_version"] else "")
    name = row["scenario"].split("/", 1)[1]
    counted = ", ".join(f"{k} {v}" for k, v in row["figures"].items() if v or k == "trials")
    said = f": {row['reason']}" if row["reason"] else ""
    return f"{label}  {name:<12} {row['verdict']}{said} ({counted})"


def _command(options: argparse.Namespace, refs: Sequence[EngineRef], wanted: Sequence[str]) -> str:
    engines = " ".join(f"--engine {ref.label}" for ref in refs)
    faults = (
        "--fault all" if len(wanted) == len(FAULTS) else " ".join(f"--fault {f}" for f in wanted)
    )
    return f"dagstorm faults {engines} {faults} --times {options.times} --seed {options.seed}"
