"""Which scenarios a campaign runs: those that the options name, a file of the user's, a search."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from harness.commands.words import (
    known,
)
from harness.contract.clauses import CLAUSES
from harness.contract.scenario import Mission, Scenario
from harness.findings.thresholds import MEMORY_GROWTH
from harness.kernel.errors import InputError
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.lab.profiles import PLANS
from harness.lab.search.units import SWARM_RUNS, points_units, swarm_units
from scenarios import PACKS, missions, scenarios

__all__ = [
    "QUICK",
    "SEARCHES",
    "chosen_scenarios",
    "fit_together",
    "is_named",
    "own_scenario",
    "plan_line",
    "sought",
    "wants_growth",
]

QUICK = ("smoke", "default")
QUICK_MISSIONS = ("DAG-009", "WORK-007", "CONTRACT-003")
SEARCHES = ("points", "swarm")


def fit_together(options: argparse.Namespace) -> None:
    """See that no option would be passed over in silence because of another.

    Raises:
        InputError: naming the two options.
    """
    naming = [n for n in ("pack", "mission", "clause", "scenario") if getattr(options, n)]
    if options.resume:
        rest = ("engine", "program", "search", "day", "runs", "out", "seed", "profile", "baseline")
        given = [*naming, *(n for n in rest if getattr(options, n) is not None)]
        given += [
            n for n, usual in (("lab", "sim"), ("tier", "legal")) if getattr(options, n) != usual
        ]
        if given:
            raise InputError(
                f"--{given[0]} and --resume: a run goes on as it was begun; leave --{given[0]} out"
            )
    if options.program and naming:
        raise InputError(f"--program and --{naming[0]}: the file is all that is run; give one")
    if options.search == "swarm" and (naming or options.program):
        raise InputError(
            f"--search swarm and --{[*naming, 'program'][0]}: a swarm makes its own programs; "
            "give one of the two"
        )
    if options.out == "":
        raise InputError("--out: expected a folder, got ''")


def chosen_scenarios(options: argparse.Namespace) -> list[Scenario]:
    """Return the scenarios that the options name, in the catalogue's order."""
    if options.program:
        return [own_scenario(Path(options.program))]
    every = scenarios()
    wanted = list(every)
    if options.pack and "all" not in options.pack:
        packs = {known("pack", p, (x.id for x in PACKS)) for p in options.pack}
        wanted = [s for s in wanted if every[s].pack in packs]
    if options.mission:
        ids = [known("mission", m, missions()) for m in options.mission]
        named = {s for m in ids for s in _mission_scenarios(missions()[m])}
        wanted = [s for s in wanted if s in named]
    elif options.profile in QUICK and not (options.pack or options.clause or options.scenario):
        named = {s for m in QUICK_MISSIONS for s in _mission_scenarios(missions()[m])}
        wanted = [s for s in wanted if s in named]
    elif not is_named(options):
        wanted = _planned(options, wanted)
    if options.clause:
        clauses = {known("clause", c, CLAUSES) for c in options.clause}
        wanted = [s for s in wanted if clauses & set(every[s].clauses)]
    if options.scenario:
        names = {known("scenario", s, every) for s in options.scenario}
        wanted = [s for s in wanted if s in names]
    if not wanted:
        raise InputError("no scenario is left by these options together; leave one of them out")
    return [every[s] for s in wanted]


def is_named(options: argparse.Namespace) -> bool:
    """Say whether the options name what is to be run, in place of the profile."""
    o = options
    return bool(o.pack or o.mission or o.clause or o.scenario or o.program)


def _planned(options: argparse.Namespace, wanted: list[str]) -> list[str]:
    """Return what the profile plans: a mission's scenarios, the packs of the day, or all."""
    plan = PLANS[options.profile]
    if plan.mission in missions():
        named = set(_mission_scenarios(missions()[plan.mission]))
        return [s for s in wanted if s in named]
    packs = plan.packs[options.day] if plan.packs else ()
    return [s for s in wanted if scenarios()[s].pack in packs] if packs else wanted


def wants_growth(options: argparse.Namespace) -> bool:
    """Say whether memory is to be measured by repeated runs: where a threshold asks for it, and
    in every profile that has the time."""
    if any(one.figure == MEMORY_GROWTH for one in options.thresholds):
        return True
    return not (is_named(options) or options.search or options.profile == "smoke")


def plan_line(options: argparse.Namespace) -> str:
    """Return what the profile runs where that is not plain from its name, or ""."""
    plan = PLANS[options.profile]
    if is_named(options) or options.search:
        return ""
    if plan.mission and plan.mission not in missions():
        return f"{options.profile}: there is no mission {plan.mission} yet: all packs are run"
    if plan.packs:
        packs = ", ".join(plan.packs[options.day]) or "all packs"
        return f"{options.profile}, {options.day}: {packs}"
    return ""


def _mission_scenarios(mission: Mission) -> list[str]:
    found = dict.fromkeys([*mission.tests.values(), *mission.more_scenarios])
    for pairs in [h.decides for h in mission.hypotheses] + [c.decides for c in mission.claims]:
        found.update({s: None for s, _ in pairs if s not in ("probe", "capability")})
    return list(found)


def own_scenario(file: Path) -> Scenario:
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
        clauses=tuple(known("clause", str(c), CLAUSES) for c in chosen),
        purpose=str(data.get("purpose", "A program of the user's own.")),
    )


def sought(options: argparse.Namespace) -> tuple[list[Scenario], int]:
    """Return what is to be run, and how many runs of a swarm are among it for each engine."""
    swarm_runs = options.runs or SWARM_RUNS[options.profile]
    if options.search == "swarm":
        if options.budget and not options.runs:
            swarm_runs = max(SWARM_RUNS.values())  # as many as there is time for
        return swarm_units(swarm_runs), swarm_runs
    chosen = chosen_scenarios(options)
    if options.search == "points":
        units = points_units(chosen)
        if not units:
            raise InputError("--search points: none of these scenarios is small enough for it")
        return units, 0
    searches = "" if is_named(options) else PLANS[options.profile].searches
    if searches == "points":
        return [*chosen, *points_units(chosen)], 0
    if searches == "swarm":
        return [*chosen, *swarm_units(SWARM_RUNS[options.profile])], SWARM_RUNS[options.profile]
    return chosen, 0
