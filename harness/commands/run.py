"""`dagstorm run`: a campaign from the options to the summary."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness.commands.books import Books, add_books, work_of
from harness.commands.choice import (
    SEARCHES,
    fit_together,
    own_scenario,
    plan_line,
    sought,
    wants_growth,
)
from harness.commands.conclusion import Measured, conclude
from harness.commands.progress import Progress
from harness.commands.settings import FAIL_ON, FILE, settle
from harness.commands.summary import print_summary
from harness.commands.words import (
    RUNS_FOLDER,
    known,
    positive,
    seconds,
    whole,
)
from harness.contract.scenario import Scenario
from harness.engine.broken import CATALOGUE
from harness.kernel.errors import DagstormError, InputError
from harness.lab.again import Again
from harness.lab.campaign import (
    PROFILES,
    Campaign,
    Engine,
    run_metadata,
    scenario_data,
)
from harness.lab.conclude import write_json
from harness.lab.engines import parse_engine, parse_engines
from harness.lab.growth import growth_rows
from harness.lab.live_path import LivePath
from harness.lab.order import TIERS
from harness.lab.pool import Pool
from harness.lab.profiles import PLANS, shares_of
from harness.lab.search.units import points_units, swarm_units
from harness.lab.watching import Watching
from mocks.services import services
from scenarios import scenarios

__all__ = ["add"]

DEFAULT_ENGINES = ("reference", "stageflow@0.5.1", "stageflow@1.2.0")
LABS = {"sim": ("sim",), "live": ("live",), "both": ("sim", "live")}


def add(commands: Any) -> None:
    """Add this module's commands to the parser."""
    run = commands.add_parser("run", help="a campaign: run, judge, confirm, report")
    run.add_argument("--engine", action="append", metavar="NAME[@VERSION|@all|@A..B]")
    run.add_argument("--pack", action="append", metavar="PACK", help="`all` for all of them")
    run.add_argument("--mission", action="append", metavar="MISSION")
    run.add_argument("--clause", action="append", metavar="CLAUSE")
    run.add_argument("--scenario", action="append", metavar="PACK/NAME")
    run.add_argument("--program", metavar="FILE", help="a program and plan of your own (JSON)")
    run.add_argument("--search", choices=SEARCHES, help="what nobody wrote, or every point")
    run.add_argument(
        "--tier", default="legal", choices=TIERS, help="order: also out of asyncio's order (notes)"
    )
    run.add_argument("--profile", choices=list(PROFILES), help="default: default")
    run.add_argument("--day", metavar="DAY", help="of the weekly profile; default: today's")
    run.add_argument("--seed", type=whole, help="default: 1; of a nightly: the date")
    run.add_argument("--runs", type=positive, help="spread so many runs over the scenarios")
    run.add_argument("--budget", type=seconds, metavar="TIME")
    run.add_argument("--workers", type=positive, default=os.cpu_count() or 1)
    run.add_argument("--lab", default="sim", choices=list(LABS))
    run.add_argument("--out", metavar="DIR")
    run.add_argument("--resume", metavar="DIR")
    run.add_argument("--config", metavar="FILE", help=f"default: {FILE}, if there is one")
    add_books(run)
    run.add_argument("--fail-on", choices=FAIL_ON, help="default: the profile's")
    run.add_argument("--json", action="store_true")
    run.add_argument("--quiet", action="store_true")
    run.add_argument("--no-confirm", action="store_true", help="leave out the scripts")
    run.set_defaults(do=_run)


def _folder(folder: Path) -> Path:
    """Make a run's folder and see that it is empty and can be written."""
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
    fit_together(options)
    day = options.day
    metadata = _unfinished(Path(options.resume)) if options.resume else None
    if metadata is not None:
        options.seed, options.profile = metadata["seed"], metadata["profile"]
    settle(options)
    if day is not None and not PLANS[options.profile].packs:
        raise InputError(f"--day {day}: only --profile weekly has days; leave it out")
    books = Books(options)
    if metadata is not None:
        return _resume(options, books, metadata)
    if options.tier == "order" and options.search:
        raise InputError(
            "--tier order: it does not go with --search: whether a violation leans on the order or "
            "is a race takes hundreds of legal runs of the same program, and a search makes four "
            "of each; run the scenarios with --tier order, the search without"
        )
    chosen, swarm_runs = sought(options)
    if options.lab == "live" and options.search:
        raise InputError(f"--search {options.search}: it needs the speed of --lab sim")
    refs = [r for e in options.engine or DEFAULT_ENGINES for r in parse_engines(e, CATALOGUE)]
    labels = [r.label for r in refs]
    if len(set(labels)) != len(labels):
        raise InputError(f"--engine: named twice: {Counter(labels).most_common(1)[0][0]}")
    started = time.gmtime()
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", started)
    # A folder that cannot be written is to leave no trace in the registry.
    folder = _folder(Path(options.out)) if options.out else None
    try:
        run_id = books.begin(
            f"{time.strftime('%Y%m%d-%H%M%S', started)}-{options.seed}", started_at
        )
    except InputError:
        if folder is not None:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    again = books.failed_before(refs, PLANS[options.profile].replays)
    folder = folder or _folder(RUNS_FOLDER / run_id)
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
        "tier": options.tier,
        "no_confirm": options.no_confirm,
        "again": [dataclasses.asdict(a) for a in again],
        "lab": options.lab,
    }
    metadata = run_metadata(
        run_id=run_id,
        seed=options.seed,
        profile=options.profile,
        started_at=started_at,
        completed_at=None,
        status="running",
        command=_command(request, options),
        request=request,
    )
    metadata["work"] = work_of(metadata, options.budget)
    with contextlib.ExitStack() as entered:
        return _campaign(entered, options, books, folder, refs, chosen, metadata)


def _engine_word(ref: Any) -> str:
    if "file" in ref.adapter:
        return f"{ref.adapter['file']}:{ref.adapter['attr']}"
    return str(ref.label)


def _command(request: Mapping[str, Any], options: argparse.Namespace) -> str:
    """Return the command that runs the same again; of files their names only."""
    words = [f"--engine {Path(e).name}" for e in request["engines"]]
    for name in ("pack", "mission", "clause", "scenario"):
        words += [f"--{name} {one}" for one in getattr(options, name) or ()]
    if options.program:
        words.append(f"--program {Path(options.program).name}")
    if request["search"]:
        words.append(f"--search {request['search']}")
    if request["tier"] != "legal":
        words.append(f"--tier {request['tier']}")
    if options.lab != "sim":
        words.append(f"--lab {options.lab}")
    words += [f"--profile {options.profile}", f"--seed {options.seed}"]
    words += [f"--runs {options.runs}"] if options.runs else []
    words += [f"--budget {options.budget:g}s"] if options.budget else []
    return f"dagstorm run {' '.join(words)}"


def _unfinished(folder: Path) -> dict[str, Any]:
    """Return what run.json says of a run that is to be resumed."""
    try:
        metadata: dict[str, Any] = json.loads((folder / "run.json").read_text("utf-8"))
        completed = metadata["status"] == "completed"
        metadata["request"], metadata["seed"], metadata["profile"]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InputError(f"--resume {folder}: not a run directory (no usable run.json)") from exc
    if completed:
        raise InputError(f"--resume {folder}: that run is completed; nothing is left to do")
    return metadata


def _resume(options: argparse.Namespace, books: Books, metadata: dict[str, Any]) -> int:
    folder, request = Path(options.resume), metadata["request"]
    options.no_confirm = request["no_confirm"]
    options.lab = request.get("lab", "sim")
    every = scenarios()
    if request["program"]:
        one = own_scenario(Path(request["program"]))
        every = {one.id: one}
    sought = [*swarm_units(request.get("swarm_runs", 0)), *points_units(every.values())]
    every = {**every, **{one.id: one for one in sought}}
    chosen = [every[known("scenario", s, every)] for s in request["scenarios"]]
    refs = [parse_engine(e, CATALOGUE) for e in request["engines"]]
    metadata["status"] = "running"
    books.begin(metadata["run_id"], metadata["started_at"], resumed=True)
    with contextlib.ExitStack() as entered:
        return _campaign(entered, options, books, folder, refs, chosen, metadata)


def _campaign(  # noqa: PLR0917 (all that a campaign is made of)
    entered: contextlib.ExitStack,
    options: argparse.Namespace,
    books: Books,
    folder: Path,
    refs: Sequence[Any],
    chosen: Sequence[Scenario],
    metadata: dict[str, Any],
) -> int:
    progress = Progress(options.quiet)
    if line := plan_line(options):
        progress.say(line)
    write_json(folder / "run.json", metadata)
    watching = entered.enter_context(Watching())
    engines = [Engine(ref) for ref in refs]
    campaign = Campaign(
        folder,
        engines,
        chosen,
        seed=options.seed,
        runs=metadata["request"]["runs"],
        workers=options.workers,
        report=progress.unit,
        budget_s=None if options.budget is None else shares_of(options.budget).runs_s,
        tier=metadata["request"].get("tier", "legal"),
        again=[Again(**one) for one in metadata["request"].get("again", ())],
        cases={name: partial(scenario_data, one) for name, one in scenarios().items()},
        without=books.not_again(metadata),
        labs=LABS[options.lab],
        pool=entered.enter_context(Pool(options.workers, watching.worker)),
        window=watching.fault,
    )
    status = "completed"
    proofs_until: float | None = None
    growth: list[dict[str, Any]] = []
    try:
        campaign.prepare(progress.say)
        if options.budget is not None:
            proofs_until = time.monotonic() + shares_of(options.budget).proofs_s
        with _services(options) as path:
            campaign.path = path
            campaign.run()
        if wants_growth(options):
            growth = growth_rows(
                engines, campaign.units, chosen, campaign.pool, workers=options.workers
            )
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
    if "live" in campaign.labs:
        metadata["not_live"] = {
            "scenarios": len(campaign.not_live),
            "why": campaign.not_live,
        }
    campaign.pool.close()
    measured = Measured(watching, growth)
    concluded = conclude(
        options, books, folder, campaign, metadata, progress, measured, proofs_until
    )
    if status == "interrupted":
        print(
            f"dagstorm: interrupted; what is done is in {folder}; "
            f"go on with: dagstorm run --resume {folder}",
            file=sys.stderr,
        )
        return 130
    print_summary(options, folder, campaign, concluded)
    sys.stdout.flush()
    # Only now has anybody been told; a run killed before this leaves its findings new.
    books.end(
        concluded.found,
        campaign.units,
        [e.description() for e in campaign.engines],
        metadata["profile"],
        concluded.summary,
    )
    return int(concluded.gate["exit_code"])


@contextlib.contextmanager
def _services(options: argparse.Namespace) -> Iterator[LivePath | None]:
    """Run the mock services of the live laboratory, and what is between them and the engines."""
    if options.lab == "sim":
        yield None
        return
    with services(seed=options.seed) as hosted, LivePath(hosted.addresses, options.seed) as path:
        yield path
