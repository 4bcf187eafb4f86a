"""`dagstorm serve` and `dagstorm load`: an engine behind HTTP, and Locust against it."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import report
from harness.commands.books import Books, add_books
from harness.commands.gate import gate_lines
from harness.commands.measured import Measured, begun, bug_lines, measured
from harness.commands.settings import FAIL_ON
from harness.commands.words import (
    Once,
    count,
    port,
    positive,
    seconds,
    share,
    short,
    stopping,
    to_stderr,
    whole,
)
from harness.engine.broken import CATALOGUE
from harness.findings.changes import changes_page
from harness.kernel.errors import InputError
from harness.lab.campaign import run_metadata
from harness.lab.conclude import write_json
from harness.lab.engines import parse_engine
from harness.lab.load.faults import FaultPlan
from harness.lab.load.knee import objective
from harness.lab.load.programs import program_file
from harness.lab.load.rows import clauses_of_load, unit_rows
from harness.lab.load.server import RUNS_AT_ONCE_MAX, serving
from harness.lab.load.session import LoadPlan, run_load
from harness.lab.load.users import (
    Master,
    Users,
    await_end,
    check_end,
    free_port,
    worker_running,
)

__all__ = ["add"]

USERS_MAX = 5_000
TIME_MAX_S = 24 * 3600.0
INTERRUPTED = 130
MASTER_PORT = 5557


def add(commands: Any) -> None:
    """Add this module's commands to the parser."""
    serve = commands.add_parser("serve", help="an engine behind HTTP")
    serve.add_argument("--engine", action=Once, required=True, metavar="NAME[@VERSION]")
    serve.add_argument("--program", metavar="FILE", help="a program of your own (JSON)")
    serve.add_argument("--host", default="127.0.0.1", help="where it listens (%(default)s)")
    serve.add_argument("--port", type=port, default=8475, help="0 takes a free one (%(default)s)")
    serve.add_argument("--runs-at-once", type=positive, default=RUNS_AT_ONCE_MAX, metavar="N")
    serve.set_defaults(do=_serve)

    load = commands.add_parser("load", help="Locust against a served engine, judged")
    load.add_argument("--engine", action=Once, metavar="NAME[@VERSION]")
    load.add_argument("--program", metavar="FILE", help="a program of your own (JSON)")
    load.add_argument("--users", type=positive, default=50, metavar="N")
    load.add_argument("--time", type=seconds, default=60.0, metavar="TIME")
    load.add_argument("--rate", type=_rate, metavar="N", help="requests a second, all together")
    load.add_argument("--resets", type=share, default=0.0, metavar="5%", help="of connections")
    load.add_argument("--jitter", type=short, default=0.0, metavar="100ms", help="of answers")
    load.add_argument("--fault-window", type=_window, default=(0.15, 0.85), metavar="0.15..0.85")
    load.add_argument("--error-budget", type=share, default=0.01, metavar="1%")
    load.add_argument(
        "--leak-runs", type=count, default=200, metavar="N", help="a batch afterwards; 0: none"
    )
    load.add_argument("--processes", type=positive, default=1, metavar="N", help="of Locust")
    load.add_argument("--master", action="store_true", help="users are on workers elsewhere")
    load.add_argument("--expect-workers", type=positive, metavar="N", help="default: 1")
    load.add_argument(
        "--bind", type=_place, metavar="HOST:PORT", help="of the master (127.0.0.1:5557)"
    )
    load.add_argument("--host-public", metavar="HOST", help="by which workers reach this machine")
    load.add_argument("--worker", action="store_true", help="users for a master elsewhere")
    load.add_argument("--master-host", metavar="HOST", help="default: 127.0.0.1")
    load.add_argument("--master-port", type=port, metavar="PORT", help="default: 5557")
    load.add_argument("--locust", action="append", default=[], metavar="WORD", help=_LOCUST)
    load.add_argument("--hold", type=seconds, metavar="TIME", help="a soak: judge growth too")
    load.add_argument("--find-knee", action="store_true", help="search for the highest rate")
    load.add_argument(
        "--objective", type=objective, default="p95<500ms,errors<1%", metavar="p95<500ms,errors<1%"
    )
    load.add_argument("--seed", type=whole, default=1)
    load.add_argument("--out", metavar="DIR")
    add_books(load)
    load.add_argument("--fail-on", default="any", choices=FAIL_ON)
    load.add_argument("--json", action="store_true")
    load.add_argument("--quiet", action="store_true")
    load.set_defaults(do=_load)


_LOCUST = "one more word for Locust's command line, as --locust=--tags"


def _place(text: str) -> tuple[str, int]:
    host, _, number = text.rpartition(":")
    if not host:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT such as 0.0.0.0:5557, got {text!r}")
    return host.strip("[]"), port(number)


def _rate(text: str) -> float:
    match = re.fullmatch(r"\d+(?:\.\d+)?", text)
    if match is None or not 0 < float(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"expected requests a second such as 50, got {text!r}")
    return float(text)


def _window(text: str) -> tuple[float, float]:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\.\.(\d+(?:\.\d+)?)", text)
    begin, end = (float(match[1]), float(match[2])) if match else (1.0, 0.0)
    if not 0 <= begin < end <= 1:
        raise argparse.ArgumentTypeError(
            f"expected two shares of the time such as 0.15..0.85, got {text!r}"
        )
    return begin, end


def _program(name: str | None) -> Mapping[str, Any] | None:
    if name is None:
        return None
    program, plan = program_file(Path(name))
    return {"program": program.to_json(), "plan": plan.to_json()}


def _serve(options: argparse.Namespace) -> int:
    engine = parse_engine(options.engine, CATALOGUE)
    stop = threading.Event()
    with (
        stopping(stop),
        serving(
            engine,
            say=to_stderr,
            program=_program(options.program),
            host=options.host,
            port=options.port,
            runs_at_once_max=options.runs_at_once,
        ) as served,
    ):
        programs = ", ".join(served.told["programs"])
        print(f"dagstorm serve: {engine.label} at {served.url} (programs {programs})", flush=True)
        while not stop.wait(0.5):
            if not served.alive():
                return 3
    print("dagstorm serve: stopped", file=sys.stderr)
    return 0


def _load(options: argparse.Namespace) -> int:
    if options.worker:
        return _worker(options)
    if not options.engine:
        raise InputError("--engine: name the engine that is put under load")
    books = Books(options)
    engine = parse_engine(options.engine, CATALOGUE)
    plan = _plan(options)
    run_id, started_at, folder = begun(options, books, "load", time.gmtime())
    say = (lambda _text: None) if options.quiet else to_stderr
    result = run_load(engine, plan, folder, say)
    about = {**result.pop("about"), "name": engine.name, "version": result["engine_version"]}
    command = _command(options)
    metadata = run_metadata(
        run_id=run_id,
        seed=options.seed,
        profile="load",
        started_at=started_at,
        completed_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        status=result["status"],
        engines=[{k: about[k] for k in ("name", "version", "capabilities")}],
        command=command,
    )
    write_json(folder / "load.json", result)
    report.render_load(folder, result)
    units = unit_rows({**result, "about": about}, plan.program)
    note = f"Seen on a real machine, under load; again: {command}"
    done = measured(options, books, folder, units, [about], clauses_of_load(), metadata, note)
    _summary(options, folder, result, done, books.against)
    sys.stdout.flush()
    if result["status"] == "interrupted":
        return INTERRUPTED
    books.end(done.found, units, [about], "load", done.summary)
    return int(done.gate["exit_code"])


def _worker(options: argparse.Namespace) -> int:
    """Be users for a master elsewhere until it says that the load is over."""
    for name in ("engine", "master", "bind", "host_public", "expect_workers", "out"):
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')}: it is the master's, not the worker's")
    host, port = options.master_host or "127.0.0.1", options.master_port or MASTER_PORT
    say = (lambda _text: None) if options.quiet else to_stderr
    say(f"load: a worker of {host}:{port}, until the load is over")
    with tempfile.TemporaryDirectory(prefix="dagstorm-") as named:
        folder = Path(named)
        with worker_running(host, port, options.processes, folder, TIME_MAX_S) as process:
            whole = await_end(process, TIME_MAX_S, lambda: None)
        if not whole:
            return INTERRUPTED
        check_end(process, folder)
    say("load: the load is over")
    return 0


def _master(options: argparse.Namespace) -> Master | None:
    if not options.master:
        for name in ("expect_workers", "bind", "host_public", "master_host", "master_port"):
            if getattr(options, name):
                whose = "worker" if name.startswith("master") else "master"
                raise InputError(f"--{name.replace('_', '-')}: it goes with --{whose}")
        return None
    if options.processes > 1 or options.find_knee:
        other = "--processes" if options.processes > 1 else "--find-knee"
        raise InputError(f"--master, {other}: leave one out; users are on the workers")
    host, port = options.bind or ("127.0.0.1", MASTER_PORT)
    public = options.host_public or host
    if public in ("0.0.0.0", "::"):
        raise InputError("--host-public: name the host by which workers reach this machine")
    return Master(options.expect_workers or 1, host, port or free_port(), public)


def _plan(options: argparse.Namespace) -> LoadPlan:
    time_s = options.hold or options.time
    if options.users > USERS_MAX:
        raise InputError(f"--users {options.users}: at most {USERS_MAX}")
    if not 1 <= time_s <= TIME_MAX_S:
        raise InputError("--time, --hold: expected 1s to 24h")
    if options.hold and options.find_knee:
        raise InputError("--hold and --find-knee are two different loads; leave one out")
    begin, end = options.fault_window
    return LoadPlan(
        users=Users(
            options.users,
            time_s,
            options.rate,
            options.processes,
            options.locust,
            _master(options),
        ),
        faults=FaultPlan(options.resets, options.jitter, begin, end),
        seed=options.seed,
        error_budget=options.error_budget,
        leak_runs=options.leak_runs,
        program=_program(options.program),
        hold=bool(options.hold),
        objective=options.objective if options.find_knee else None,
    )


def _command(options: argparse.Namespace) -> str:
    """Return the command that puts on the same load again; of files their names only."""
    words = [f"--engine {Path(options.engine).name}", f"--users {options.users}"]
    if options.program:
        words.append(f"--program {Path(options.program).name}")
    words.append(f"--hold {options.hold:g}s" if options.hold else f"--time {options.time:g}s")
    words += [f"--rate {options.rate:g}"] if options.rate else []
    words += [f"--resets {options.resets:g}"] if options.resets else []
    words += [f"--jitter {options.jitter * 1000:g}ms"] if options.jitter else []
    words += ["--find-knee"] if options.find_knee else []
    words += [f"--master --expect-workers {options.expect_workers or 1}"] if options.master else []
    return f"dagstorm load {' '.join(words)} --seed {options.seed}"


def _summary(
    options: argparse.Namespace,
    folder: Path,
    result: Mapping[str, Any],
    done: Measured,
    against: str | None,
) -> None:
    if options.json:
        shown = {k: v for k, v in result.items() if k != "timeline"}
        keys = ("id", "clause", "severity", "title", "engine")
        bugs = [{k: f[k] for k in keys} for f in done.found if f["kind"] == "bug"]
        told = {"run": str(folder), **shown, "bugs": bugs, "gate": done.gate}
        told["changes"] = changes_page(done.changes, against)
        print(json.dumps(told, indent=1, default=repr))
        return
    label = f"{result['engine']}@{result['engine_version']}".rstrip("@")
    for check in result["checks"]:
        print(f"{label}: {check['verdict']:<12} {check['name']:<20} {check['actual']}")
        for example in check["examples"]:
            print(f"    {example}")
    for name, one in result.get("latencies", {}).items():
        if one["count"]:
            words = ", ".join(
                f"{k.removesuffix('_ms')} {v:g}" for k, v in one.items() if "_ms" in k
            )
            print(f"latency, {name.replace('_', ' ')}: {words} ms ({one['count']} answers)")
    for name, one in result.get("stages", {}).items():
        print(f"  {name}: p50 {one['p50_ms']:g}, p95 {one['p95_ms']:g}, p99 {one['p99_ms']:g} ms")
    cost = result["overhead"]
    print(
        f"overhead: echo {cost['echo_direct']['p50_ms']:g} ms, the proxy adds "
        f"{cost['proxy_adds_ms']:g} ms"
        + (f"; CPU seconds: {cost['cpu_s']}" if "cpu_s" in cost else "")
    )
    for line in (*bug_lines(done, against), *gate_lines(done.gate)):
        print(line)
    print(f"report: {folder}/load.md, figures: {folder}/load.json")
    print(f"findings: {folder}/findings.json, {folder}/index.html")
