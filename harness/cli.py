"""The `dagstorm` command.

Exit codes: 0 done, 1 findings that `--fail-on` names, 2 the user's input is wrong,
3 dagstorm or the machine failed. Over 400 lines because it is one table of commands:
each function here parses one command's words and calls the room that does the work.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from harness import __version__, findings, report
from harness.contract.clauses import CLAUSES
from harness.contract.scenario import Mission, Scenario
from harness.engine import __file__ as engine_file
from harness.engine.broken import CATALOGUE
from harness.kernel.adapter import CAPABILITIES
from harness.kernel.errors import DagstormError, EnvironmentFault, InputError
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.lab.campaign import (
    PROFILES,
    Campaign,
    Engine,
    run_metadata,
    scenario_data,
)
from harness.lab.conclude import confirmations, write_json
from harness.lab.confirm import SCRIPT_LIMIT_S
from harness.lab.engines import ENGINES, known_engines, parse_engine, python_of
from harness.lab.environments import installed, versions
from harness.lab.minimal import token_of
from harness.lab.probe import BUDGET_S, HORIZON_S, POINTS_MAX, RUNS, STEPS_MAX, probe
from harness.lab.replay import Replayed, case_of, replay, shrink_again
from harness.lab.search.units import SWARM_RUNS, points_units, swarm_units
from harness.lab.token import FILE_SUFFIX, TEXT_MAX, Token, decode, encode, is_token
from harness.lab.token import read as read_token
from harness.lab.token import write as write_token
from harness.lab.trace import journal_lines, trace
from harness.lab.worker import Worker, WorkerDied
from scenarios import PACKS, missions, scenarios

__all__ = ["main"]

# What a profile for every day runs if nothing is named: the other profiles run all there is.
QUICK = ("smoke", "default")
QUICK_MISSIONS = ("DAG-009", "WORK-007", "CONTRACT-003")
DEFAULT_ENGINES = ("reference", "stageflow@0.5.1", "stageflow@1.2.0")
DEFAULT_SEED = 1
# `points` cuts in wherever it can; `swarm` makes programs of its own. Nightly runs search, too.
SEARCHES = ("points", "swarm")
SEARCHING = ("nightly",)
FAIL_ON = ("new", "any", "critical", "high", "never")
RUNS_FOLDER = Path("reports") / "runs"
SEVERITIES = ("critical", "high", "medium", "low", "info")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message.rstrip('.')} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, raises nothing."""
    try:
        parsed = _parser().parse_args(arguments)
        code: int = parsed.do(parsed)
        sys.stdout.flush()
        return code
    except DagstormError as exc:
        line = " ".join(str(exc).split())
        print(f"dagstorm: error: {line}", file=sys.stderr)
        return exc.exit_code
    except KeyboardInterrupt:
        print("dagstorm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as exc:
        handle, path = tempfile.mkstemp(prefix="dagstorm-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        what = " ".join(f"{type(exc).__name__}: {exc}".split())[:300]
        print(f"dagstorm: error: dagstorm itself failed: {what}; see {path}", file=sys.stderr)
        return 3


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def _positive(text: str) -> int:
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text!r}")
    return value


def _count(text: str) -> int:
    value = _whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text!r}")
    return value


def _real(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds such as 0.25, got {text!r}")
    return value


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 60s, 10m or 1h, got {text!r}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2] or "s"]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="dagstorm", description="Stress and chaos for asyncio DAG engines.")
    parser.add_argument("--version", action="version", version=f"dagstorm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    run = commands.add_parser("run", help="a campaign: run, judge, confirm, report")
    run.add_argument("--engine", action="append", metavar="NAME[@VERSION]")
    run.add_argument("--pack", action="append", metavar="PACK", help="`all` for all of them")
    run.add_argument("--mission", action="append", metavar="MISSION")
    run.add_argument("--clause", action="append", metavar="CLAUSE")
    run.add_argument("--scenario", action="append", metavar="PACK/NAME")
    run.add_argument("--program", metavar="FILE", help="a program and plan of your own (JSON)")
    run.add_argument("--search", choices=SEARCHES, help="what nobody wrote, or every point")
    run.add_argument("--profile", default="default", choices=list(PROFILES))
    run.add_argument("--seed", type=_whole, default=DEFAULT_SEED)
    run.add_argument("--runs", type=_positive, help="spread so many runs over the scenarios")
    run.add_argument("--budget", type=_seconds, metavar="TIME")
    run.add_argument("--workers", type=_positive, default=os.cpu_count() or 1)
    run.add_argument("--lab", default="sim", choices=["sim", "live", "both"])
    run.add_argument("--out", metavar="DIR")
    run.add_argument("--resume", metavar="DIR")
    run.add_argument("--fail-on", default="never", choices=FAIL_ON)
    run.add_argument("--json", action="store_true")
    run.add_argument("--quiet", action="store_true")
    run.add_argument("--no-confirm", action="store_true", help="leave out the scripts")
    run.set_defaults(do=_run)

    again = commands.add_parser("replay", help="the same run again, twice, and its digest")
    smaller = commands.add_parser("shrink", help="the smallest run that still shows it")
    for one in (again, smaller):
        one.add_argument("what", metavar="TOKEN|FILE|FINDING-ID")
        one.add_argument("--run", metavar="DIR")
        one.add_argument("--engine", metavar="NAME[@VERSION]", help="another than the token's")
    again.add_argument("--trace", action="store_true", help="print the journal, write a trace")
    again.add_argument("--out", metavar="FILE", help="where the trace goes")
    again.set_defaults(do=_replay)
    smaller.add_argument("--tries", type=_positive, help="so many simpler runs at most")
    smaller.add_argument("--out", metavar="FILE", help="write the token as a file, too")
    smaller.add_argument("--json", action="store_true")
    smaller.set_defaults(do=_shrink)

    repro = commands.add_parser("repro", help="run or print a finding's stand-alone script")
    repro.add_argument("finding", metavar="FINDING-ID")
    repro.add_argument("--run", metavar="DIR")
    repro.add_argument("--print", action="store_true", dest="show")
    repro.set_defaults(do=_repro)

    probed = commands.add_parser("probe", help="any async function, cancelled at every point")
    probed.add_argument("target", metavar="MODULE:FUNCTION|FILE.py:FUNCTION")
    probed.add_argument("--args", metavar="JSON", help="an object (by name) or a list")
    probed.add_argument("--runs", type=_count, default=RUNS, help="perturbed schedules")
    probed.add_argument("--points-max", type=_positive, default=POINTS_MAX, metavar="N")
    probed.add_argument("--horizon", type=_seconds, default=HORIZON_S, metavar="TIME")
    probed.add_argument("--steps-max", type=_positive, default=STEPS_MAX, metavar="N")
    probed.add_argument("--budget", type=_seconds, default=BUDGET_S, metavar="TIME")
    probed.add_argument("--may-raise", action="store_true", help="undisturbed, it raises: right so")
    probed.add_argument("--python", metavar="PATH", help="interpreter to run the function with")
    probed.add_argument("--seed", type=_count, help="first perturbed schedule, or that of one run")
    alone = probed.add_argument_group("one run only (as a report's line 'again' says)")
    alone.add_argument("--once", action="store_true", help="no cancel")
    alone.add_argument("--point", type=_count, metavar="N", help="the caller cancels there")
    alone.add_argument("--second", type=_count, metavar="N", help="and again there")
    alone.add_argument("--timeout", type=_real, metavar="SECONDS", help="the caller's timeout")
    alone.add_argument("--wait-for", action="store_true", help="that timeout by asyncio.wait_for")
    probed.add_argument("--json", action="store_true")
    probed.add_argument("--quiet", action="store_true")
    probed.set_defaults(do=_probe)

    rendered = commands.add_parser("report", help="render a run again, from its data alone")
    rendered.add_argument("run", metavar="RUN")
    rendered.set_defaults(do=_report)

    engines = commands.add_parser("engines", help="what engines there are")
    engines.add_argument("action", choices=["list", "install", "info"])
    engines.add_argument("engine", nargs="?")
    engines.set_defaults(do=_engines)
    for name, do in (("packs", _packs), ("missions", _missions), ("clauses", _clauses)):
        one = commands.add_parser(name, help=f"what {name} there are")
        one.add_argument("action", choices=["list", "show"])
        one.add_argument("name", nargs="?")
        one.set_defaults(do=do)
    return parser


def _known(kind: str, wanted: str, known: Iterable[str]) -> str:
    names = list(known)
    exact = {n.lower(): n for n in names}
    if wanted.lower() in exact:
        return exact[wanted.lower()]
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names[:12])}"
    raise InputError(f"no {kind} {wanted!r}; {hint}")


# run


class _Progress:
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


def _chosen(options: argparse.Namespace) -> list[Scenario]:
    """Return the scenarios that the options name, in the catalogue's order."""
    if options.program:
        return [_own_scenario(Path(options.program))]
    every = scenarios()
    wanted = list(every)
    if options.pack and "all" not in options.pack:
        packs = {_known("pack", p, (x.id for x in PACKS)) for p in options.pack}
        wanted = [s for s in wanted if every[s].pack in packs]
    if options.mission:
        ids = [_known("mission", m, missions()) for m in options.mission]
        named = {s for m in ids for s in _mission_scenarios(missions()[m])}
        wanted = [s for s in wanted if s in named]
    elif options.profile in QUICK and not (options.pack or options.clause or options.scenario):
        named = {s for m in QUICK_MISSIONS for s in _mission_scenarios(missions()[m])}
        wanted = [s for s in wanted if s in named]
    if options.clause:
        clauses = {_known("clause", c, CLAUSES) for c in options.clause}
        wanted = [s for s in wanted if clauses & set(every[s].clauses)]
    if options.scenario:
        names = {_known("scenario", s, every) for s in options.scenario}
        wanted = [s for s in wanted if s in names]
    if not wanted:
        raise InputError("no scenario is left by these options together; leave one of them out")
    return [every[s] for s in wanted]


def _mission_scenarios(mission: Mission) -> list[str]:
    found = dict.fromkeys([*mission.tests.values(), *mission.more_scenarios])
    for pairs in [h.decides for h in mission.hypotheses] + [c.decides for c in mission.claims]:
        found.update({s: None for s, _ in pairs if s not in ("probe", "capability")})
    return list(found)


def _own_scenario(file: Path) -> Scenario:
    """Read a user's program file: {"program": …, "plan": …, "clauses": […]}."""
    try:
        data = json.loads(file.read_text("utf-8"))
    except OSError as exc:
        raise InputError(f"--program {file}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise InputError(f"--program {file}: not valid JSON: {exc}") from exc
    if not isinstance(data, dict) or "program" not in data:
        raise InputError(f"--program {file}: expected an object with 'program' (and 'plan')")
    chosen = data.get("clauses", ["CLEAN-5"])
    if not isinstance(chosen, list) or not chosen:
        raise InputError(f"--program {file}: 'clauses' must be a list of clause ids")
    try:
        program = Program.from_json(data["program"])
        plan = Plan.from_json(data.get("plan", {}))
    except InputError as exc:
        raise InputError(f"--program {file}: {exc}") from exc
    return Scenario(
        id=f"own/{re.sub(r'[^A-Za-z0-9_-]', '-', file.stem)}",
        title=str(data.get("title", file.stem)),
        program=program,
        plan=plan,
        clauses=tuple(_known("clause", str(c), CLAUSES) for c in chosen),
        purpose=str(data.get("purpose", "A program of the user's own.")),
    )


def _folder(options: argparse.Namespace, run_id: str) -> Path:
    folder = Path(options.out) if options.out else RUNS_FOLDER / run_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(
                f"{folder} exists and is not empty; name another --out, or --resume {folder}"
            )
        (folder / ".write").touch()
        (folder / ".write").unlink()
    except OSError as exc:
        raise InputError(
            f"--out {folder}: cannot be written: {exc.strerror}; name a folder that can"
        ) from exc
    return folder


def _run(options: argparse.Namespace) -> int:
    if options.lab != "sim":
        raise InputError(f"--lab {options.lab}: there is no live laboratory yet; use --lab sim")
    if options.resume:
        return _resume(options)
    chosen, swarm_runs = _sought(options)
    refs = [parse_engine(e, CATALOGUE) for e in options.engine or DEFAULT_ENGINES]
    labels = [r.label for r in refs]
    if len(set(labels)) != len(labels):
        raise InputError(f"--engine: named twice: {Counter(labels).most_common(1)[0][0]}")
    started = time.gmtime()
    run_id = f"{time.strftime('%Y%m%d-%H%M%S', started)}-{options.seed}"
    folder = _folder(options, run_id)
    runs = PROFILES[options.profile]
    if options.runs and not swarm_runs:
        runs = max(1, -(-options.runs // len(chosen)))
    request = {
        "engines": [_engine_word(r) for r in refs],
        "scenarios": [s.id for s in chosen],
        "program": str(Path(options.program).resolve()) if options.program else None,
        "search": options.search,
        "swarm_runs": swarm_runs,
        "runs": runs,
        "no_confirm": options.no_confirm,
    }
    metadata = run_metadata(
        run_id=run_id,
        seed=options.seed,
        profile=options.profile,
        started_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", started),
        completed_at=None,
        status="running",
        command=_command(request, options),
        request=request,
    )
    return _campaign(options, folder, refs, chosen, metadata)


def _sought(options: argparse.Namespace) -> tuple[list[Scenario], int]:
    """Return what is to be run, and how many runs of a swarm are among it for each engine."""
    swarm_runs = options.runs or SWARM_RUNS[options.profile]
    if options.search == "swarm":
        if options.budget and not options.runs:
            swarm_runs = max(SWARM_RUNS.values())  # as many as there is time for
        return swarm_units(swarm_runs), swarm_runs
    chosen = _chosen(options)
    if options.search == "points":
        units = points_units(chosen)
        if not units:
            raise InputError("--search points: none of these scenarios is small enough for it")
        return units, 0
    named = options.pack or options.mission or options.clause or options.scenario or options.program
    if options.profile in SEARCHING and not named:
        return [*chosen, *swarm_units(SWARM_RUNS[options.profile])], SWARM_RUNS[options.profile]
    return chosen, 0


def _engine_word(ref: Any) -> str:
    if "file" in ref.adapter:
        return f"{ref.adapter['file']}:{ref.adapter['attr']}"
    return str(ref.label)


def _command(request: Mapping[str, Any], options: argparse.Namespace) -> str:
    engines = " ".join(f"--engine {Path(e).name}" for e in request["engines"])
    search = f" --search {request['search']}" if request["search"] else ""
    return f"dagstorm run {engines}{search} --profile {options.profile} --seed {options.seed}"


def _resume(options: argparse.Namespace) -> int:
    folder = Path(options.resume)
    try:
        metadata = json.loads((folder / "run.json").read_text("utf-8"))
        request = metadata["request"]
    except (OSError, ValueError, KeyError) as exc:
        raise InputError(f"--resume {folder}: not a run directory (no usable run.json)") from exc
    if metadata["status"] == "completed":
        raise InputError(f"--resume {folder}: that run is completed; nothing is left to do")
    options.seed, options.profile = metadata["seed"], metadata["profile"]
    options.no_confirm = request["no_confirm"]
    every = scenarios()
    if request["program"]:
        one = _own_scenario(Path(request["program"]))
        every = {one.id: one}
    sought = [*swarm_units(request.get("swarm_runs", 0)), *points_units(every.values())]
    every = {**every, **{one.id: one for one in sought}}
    chosen = [every[_known("scenario", s, every)] for s in request["scenarios"]]
    refs = [parse_engine(e, CATALOGUE) for e in request["engines"]]
    metadata["status"] = "running"
    return _campaign(options, folder, refs, chosen, metadata)


def _campaign(
    options: argparse.Namespace,
    folder: Path,
    refs: Sequence[Any],
    chosen: Sequence[Scenario],
    metadata: dict[str, Any],
) -> int:
    progress = _Progress(options.quiet)
    write_json(folder / "run.json", metadata)
    engines = [Engine(ref) for ref in refs]
    campaign = Campaign(
        folder,
        engines,
        chosen,
        seed=options.seed,
        runs=metadata["request"]["runs"],
        workers=options.workers,
        report=progress.unit,
        budget_s=options.budget,
    )
    status = "completed"
    try:
        campaign.prepare(progress.say)
        campaign.run()
    except KeyboardInterrupt:
        status = "interrupted"
    except DagstormError as exc:
        if isinstance(exc, InputError) and not campaign.units:
            # Nothing was run: the next try may have the folder.
            (folder / "run.json").unlink()
            with contextlib.suppress(OSError):
                folder.rmdir()
        else:
            write_json(folder / "run.json", {**metadata, "status": "failed"})
        raise
    metadata |= {
        "status": status,
        "completed_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "engines": [
            {
                "name": e.ref.name,
                "version": e.ref.version,
                "capabilities": e.description()["capabilities"],
            }
            for e in engines
        ],
        "left_out": campaign.left_out,
    }
    found = _conclude(folder, campaign, metadata, progress, confirming=not options.no_confirm)
    if status == "interrupted":
        print(
            f"dagstorm: interrupted; what is done is in {folder}; "
            f"go on with: dagstorm run --resume {folder}",
            file=sys.stderr,
        )
        return 130
    _summary(options, folder, campaign, found)
    return _exit_code(options.fail_on, found)


def _conclude(
    folder: Path,
    campaign: Campaign,
    metadata: dict[str, Any],
    progress: _Progress,
    *,
    confirming: bool,
) -> list[dict[str, Any]]:
    """Write findings and reports of what was run; returns the findings as plain data."""
    units = campaign.units
    engines = [e.description() for e in campaign.engines]
    mine = {s.id for s in campaign.scenarios}
    plain_missions = [
        dataclasses.asdict(m) for m in missions().values() if mine & set(m.tests.values())
    ]
    plain_scenarios = [
        {
            **scenario_data(s),
            **{k: getattr(s, k) for k in ("pack", "title", "purpose", "category", "tests")},
        }
        for s in campaign.scenarios
    ]
    answers: dict[str, dict[str, Any]] = {}
    if confirming and metadata["status"] == "completed":
        drafts = findings.build_findings(
            units, engines, CLAUSES, missions=plain_missions, seen=metadata["run_id"]
        )
        bugs = [f.to_json() for f in drafts if f.kind == "bug"]
        answers = confirmations(folder, campaign.engines, bugs, progress.say)
    totals = Counter(u["verdict"] for u in units)
    metadata["totals"] = dict(sorted(totals.items()))
    shown = {k: v for k, v in metadata.items() if k != "request"}
    findings.write_run_files(
        folder, units, engines, plain_missions, plain_scenarios, CLAUSES, answers, shown
    )
    write_json(folder / "run.json", metadata)
    report.render_run(folder)
    document = json.loads((folder / "findings.json").read_text("utf-8"))
    found: list[dict[str, Any]] = document["findings"]
    return found


def _summary(
    options: argparse.Namespace,
    folder: Path,
    campaign: Campaign,
    found: Sequence[Mapping[str, Any]],
) -> None:
    bugs = [f for f in found if f["kind"] == "bug"]
    if options.json:
        data = {
            "run": str(folder),
            "verdicts": {
                e.ref.label: dict(
                    Counter(
                        u["verdict"]
                        for u in campaign.units
                        if (u["engine"], u["engine_version"]) == e.key
                    )
                )
                for e in campaign.engines
            },
            "bugs": [
                {k: b[k] for k in ("id", "clause", "severity", "title", "engine", "confirmation")}
                for b in bugs
            ],
            "left_out": campaign.left_out,
        }
        print(json.dumps(data, indent=1))
        return
    for engine in campaign.engines:
        mine = [u for u in campaign.units if (u["engine"], u["engine_version"]) == engine.key]
        counts = Counter(u["verdict"] for u in mine)
        words = ", ".join(f"{n} {v}" for v, n in sorted(counts.items()))
        runs = sum(u["runs"] for u in mine)
        print(f"{engine.ref.label}: {words} ({runs} runs)")
        if engine.fault:
            print(f"  could not be run: {engine.fault}")
    for bug in bugs:
        where = f"{bug['engine']} {', '.join(v for v in bug['engine_versions'] if v)}".strip()
        print(
            f"{bug['id']}  {bug['severity']:<8}  {bug['clause']:<9} {bug['title']} "
            f"[{where}] ({bug['confirmation']})"
        )
    if campaign.left_out:
        print(f"the budget left out {campaign.left_out} scenarios")
    print(f"reports: {folder}/missions, findings: {folder}/findings.json")


def _exit_code(fail_on: str, found: Sequence[Mapping[str, Any]]) -> int:
    if fail_on == "never":
        return 0
    bugs = [f for f in found if f["kind"] == "bug"]
    if fail_on in ("critical", "high"):
        grave = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
        bugs = [b for b in bugs if b["severity"] in grave]
    return 1 if bugs else 0


# replay, repro, report


def _run_folder(named: str | None) -> Path:
    if named:
        folder = Path(named)
        if not (folder / "findings.json").is_file():
            raise InputError(f"--run {folder}: no findings.json there")
        return folder
    runs = sorted(RUNS_FOLDER.glob("*/findings.json"), key=lambda p: p.stat().st_mtime)
    if not runs:
        raise InputError(f"no run under {RUNS_FOLDER}; make one by dagstorm run, or give --run")
    return runs[-1].parent


def _finding(folder: Path, wanted: str) -> dict[str, Any]:
    document = json.loads((folder / "findings.json").read_text("utf-8"))
    by_id = {f["id"]: f for f in document["findings"]}
    found: dict[str, Any] = by_id[_known("finding", wanted, by_id)]
    return found


def _token_of(options: argparse.Namespace) -> tuple[Token, dict[str, Any] | None]:
    """Return the token that a text, a file or a finding's id names, and that finding."""
    text = options.what
    if is_token(text):
        return decode(text), None
    if text.endswith(".json"):
        return read_token(Path(text)), None
    finding = _finding(_run_folder(options.run), text)
    named = (finding["reproduction"] or {}).get("token") or ""
    if not named:
        raise InputError(f"{text} has no run to replay: it is a {finding['kind']}")
    return decode(named), finding


def _case_of(options: argparse.Namespace, token: Token) -> tuple[dict[str, Any], Any]:
    """Return a token's case as plain data, and the engine that it is to be run on."""
    known = {name: partial(scenario_data, one) for name, one in scenarios().items()}
    case = case_of(token, known)
    label = f"{token.engine}@{token.version}" if token.version else token.engine
    return case, parse_engine(options.engine or label, CATALOGUE)


def _replay(options: argparse.Namespace) -> int:
    token, finding = _token_of(options)
    case, ref = _case_of(options, token)
    done = replay(token, case, ref, _to_stderr)
    if options.trace and done.answer:
        proof = {i for v in done.violations for i in v["at"]}
        for line in journal_lines(done.answer["journal"], proof):
            print(line)
        file = _write_trace(options, token, finding, done)
        print(f"trace: {file} (open it at ui.perfetto.dev or in chrome://tracing)", file=sys.stderr)
    for violation in done.violations:
        print(
            f"{violation['clause']}: expected: {violation['expected']}; "
            f"actual: {violation['actual']}"
        )
    print(f"{done.verdict} (digest {', '.join(done.digests)}) on {ref.label}")
    return 0


def _write_trace(
    options: argparse.Namespace, token: Token, finding: Mapping[str, Any] | None, done: Replayed
) -> Path:
    if options.out:
        file = Path(options.out)
    elif finding is not None:
        file = _run_folder(options.run) / "traces" / f"{finding['id']}.json"
    else:
        file = RUNS_FOLDER.parent / "traces" / f"{done.digests[0]}.json"
    about = {
        "engine": f"{token.engine} {token.version}".strip(),
        "scenario": token.scenario,
        "seed": token.seed,
        "digest": done.digests[0],
        "verdict": done.verdict,
    }
    data = trace(
        done.answer["journal"],
        violations=done.violations,
        leaks=done.answer["leaks"],
        about=about,
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, data)
    except OSError as exc:
        raise InputError(f"--out {file}: cannot be written: {exc.strerror}") from exc
    return file


def _shrink(options: argparse.Namespace) -> int:
    token, _ = _token_of(options)
    case, ref = _case_of(options, token)
    row = shrink_again(token, case, ref, _to_stderr, tries_max=options.tries)
    small = token_of(ref.name, ref.version, token.scenario, row)
    text = encode(small)
    file = Path(options.out) if options.out else None
    if file is None and len(text) > TEXT_MAX:
        file = Path(f"{row['digest']}{FILE_SUFFIX}")
    if file is not None:
        try:
            write_token(small, file)
        except OSError as exc:
            raise InputError(f"--out {file}: cannot be written: {exc.strerror}") from exc
    if options.json:
        print(json.dumps({**row, "token": text, "file": str(file or "")}, indent=1))
        return 0
    before, after = row["shrunk"]["before"], row["shrunk"]["after"]
    took = ", ".join(f"{name} {before[name]} -> {after[name]}" for name in after)
    print(f"{row['key'][0]} {row['key'][1]} on {ref.label}")
    print(f"{took} ({row['shrunk']['tries']} tries, {row['shrunk']['ended']})")
    print("program:")
    for stage in row["program"]["stages"]:
        print(f"  {json.dumps(stage)}")
    print(f"plan: {json.dumps({k: v for k, v in row['plan'].items() if k != 'version'})}")
    print(f"tape: {json.dumps(row['tape'])}")
    print(f"expected: {row['expected']}\nactual: {row['actual']}")
    if row["nondeterministic"]:
        print("note: two runs of it went differently, so it proves nothing", file=sys.stderr)
    print(f"dagstorm replay {file or text}")
    return 0


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def _repro(options: argparse.Namespace) -> int:
    folder = _run_folder(options.run)
    finding = _finding(folder, options.finding)
    name = finding["reproduction"].get("script")
    if not name or not (folder / name).is_file():
        note = finding.get("confirmation_note") or "it has no script"
        raise InputError(f"{finding['id']}: no stand-alone script: {note}")
    file = folder / name
    if options.show:
        print(file.read_text("utf-8"), end="")
        return 0
    ref = parse_engine(finding["reproduction"]["environment"]["engine"], CATALOGUE)
    try:
        done = subprocess.run(
            [python_of(ref, _to_stderr), str(file)], timeout=SCRIPT_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFault(f"{file}: it did not end within {SCRIPT_LIMIT_S} s") from None
    return done.returncode


def _report(options: argparse.Namespace) -> int:
    folder = Path(options.run)
    if not (folder / "findings.json").is_file():
        raise InputError(f"{folder}: no findings.json there; give a run directory")
    try:
        written = report.render_run(folder)
    except ValueError as exc:
        raise InputError(str(exc)) from exc
    for path in written:
        print(path)
    return 0


# probe


def _probe(options: argparse.Namespace) -> int:
    only: dict[str, Any] | None = None
    if options.second is not None and options.point is None:
        raise InputError("--second needs --point: the first cancel's")
    if options.wait_for and options.timeout is None:
        raise InputError("--wait-for needs --timeout SECONDS")
    if (options.point is not None) + (options.timeout is not None) + options.once > 1:
        raise InputError("--point, --timeout and --once name different runs; give one of them")
    if options.once or options.point is not None or options.timeout is not None:
        only = {
            "seed": options.seed or 0,
            "point": options.point,
            "second": options.second,
            "timeout_s": options.timeout,
            "wait_for": options.wait_for,
        }
    progress = _Progress(options.quiet or not sys.stderr.isatty())
    found = probe(
        options.target,
        args=_arguments(options.args),
        runs=options.runs,
        seed=1 if options.seed is None else options.seed,
        points_max=options.points_max,
        horizon_s=options.horizon,
        steps_max=options.steps_max,
        budget_s=options.budget,
        may_raise=options.may_raise,
        only=only,
        python=options.python,
        progress=lambda p: progress.say(f"{p['runs']} runs, {p['defects']} defects"),
    )
    print(json.dumps(found.answer, indent=1) if options.json else str(found))
    return 1 if found.defects else 0


def _arguments(text: str | None) -> Any:
    try:
        value = json.loads(text) if text else []
    except ValueError as exc:
        raise InputError(f"--args {text!r}: not valid JSON: {exc}") from exc
    if not isinstance(value, (list, dict)):
        raise InputError(f"--args {text!r}: expected a JSON object (by name) or list (in order)")
    return value


# engines, packs, missions, clauses


def _engines(options: argparse.Namespace) -> int:
    if options.action == "list":
        for name, (distribution, _, says) in ENGINES.items():
            ready = ", ".join(installed(distribution)) if distribution else ""
            print(f"{name:<18} {says}" + (f" (installed: {ready})" if ready else ""))
        for name in known_engines({})[len(ENGINES) :]:
            print(f"{name:<18} registered by another package")
        print("\nbroken on purpose (--engine broken:NAME), and what caught each:")
        record = Path(engine_file).parent / "broken" / "caught.json"
        caught = json.loads(record.read_text("utf-8")) if record.is_file() else {}
        for name, defect in CATALOGUE.items():
            by = caught.get(name)
            how = f"{by['clause']} in {by['scenario']}" if by else "not caught yet"
            print(f"broken:{name:<28} {defect.says} Caught by {how}.")
        return 0
    if not options.engine:
        raise InputError(f"engines {options.action}: name an engine")
    ref = parse_engine(options.engine, CATALOGUE)
    python = python_of(ref, _to_stderr)
    if options.action == "install":
        print(f"{ref.label}: ready")
        return 0
    worker = Worker(python, ref.adapter, isolated=ref.isolated)
    try:
        info = worker.hello()["info"]
    except WorkerDied as exc:
        raise EnvironmentFault(f"{ref.label}: {exc}") from exc
    finally:
        worker.close()
    print(f"{ref.label} ({info['package']} {info['version']})")
    for capability, meaning in CAPABILITIES.items():
        has = capability in info["capabilities"]
        why = "" if has else f"; {info['missing'].get(capability, 'not offered')}"
        print(f"  {'yes' if has else 'no ':<4} {capability:<20} {meaning}{why}")
    if ref.distribution:
        print(f"released: {', '.join(versions(ref.distribution))}")
    return 0


def _listed(
    options: argparse.Namespace, kind: str, known: Mapping[str, Any], line: Callable[[Any], str]
) -> Any | None:
    if options.action == "list":
        for name, one in known.items():
            print(f"{name:<18} {line(one)}")
        return None
    if not options.name:
        raise InputError(f"{kind}s show: name a {kind}")
    return known[_known(kind, options.name, known)]


def _packs(options: argparse.Namespace) -> int:
    pack = _listed(options, "pack", {p.id: p for p in PACKS}, lambda p: p.title)
    if pack is not None:
        print(f"{pack.id}: {pack.title}\n\n{pack.page}\n")
        for one in pack.scenarios:
            print(f"  {one.id:<44} {one.category:<9} {', '.join(one.clauses)}\n      {one.purpose}")
    return 0


def _missions(options: argparse.Namespace) -> int:
    mission = _listed(options, "mission", missions(), lambda m: m.title)
    if mission is not None:
        print(f"{mission.id}: {mission.title}\n\n{mission.summary}\n\ntests:")
        for test, scenario in mission.tests.items():
            print(f"  {test:<32} {scenario}")
        print("hypotheses:")
        for one in mission.hypotheses:
            print(f"  {one.id:<4} {one.statement}")
        print("claims:")
        for claim in mission.claims:
            print(f"  {claim.id:<10} {claim.says}")
    return 0


def _clauses(options: argparse.Namespace) -> int:
    clause = _listed(options, "clause", CLAUSES, lambda c: f"{c.severity:<9} {c.must}")
    if clause is not None:
        print(f"{clause.id} ({clause.severity}): the engine must {clause.must}.")
        print(f"needs: {', '.join(sorted(clause.needs)) or 'nothing'}")
        print(f"a violation means: {clause.impact}")
        print(f"what to do: {clause.recommendation}")
        judged = [s.id for s in scenarios().values() if clause.id in s.clauses]
        print(f"judged by: {', '.join(judged) or 'no scenario yet'}")
        caught = [n for n, d in CATALOGUE.items() if clause.id in d.breaks]
        print(f"broken engines that it must catch: {', '.join(caught) or 'none yet'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
