"""`dagstorm engines`, `packs`, `missions` and `clauses`: what there is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.commands.words import (
    known,
    to_stderr,
)
from harness.contract.clauses import CLAUSES
from harness.contract.load import LOAD
from harness.engine import __file__ as engine_file
from harness.engine.broken import CATALOGUE
from harness.kernel.adapter import CAPABILITIES
from harness.kernel.errors import EnvironmentFault, InputError
from harness.lab.engines import ENGINES, known_engines, parse_engine, python_of
from harness.lab.environments import installed, versions
from harness.lab.worker import Worker, WorkerDied
from scenarios import PACKS, missions, scenarios

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add this module's commands to the parser."""
    engines = commands.add_parser("engines", help="what engines there are")
    engines.add_argument("action", choices=["list", "install", "info"])
    engines.add_argument("engine", nargs="?")
    engines.set_defaults(do=_engines)
    for name, do in (("packs", _packs), ("missions", _missions), ("clauses", _clauses)):
        one = commands.add_parser(name, help=f"what {name} there are")
        one.add_argument("action", choices=["list", "show"])
        one.add_argument("name", nargs="?")
        one.set_defaults(do=do)


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
    python = python_of(ref, to_stderr)
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
    options: argparse.Namespace, kind: str, there: Mapping[str, Any], line: Callable[[Any], str]
) -> Any | None:
    if options.action == "list":
        for name, one in there.items():
            print(f"{name:<18} {line(one)}")
        return None
    if not options.name:
        raise InputError(f"{kind}s show: name a {kind}")
    return there[known(kind, options.name, there)]


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
    every = {**CLAUSES, **LOAD}
    clause = _listed(options, "clause", every, lambda c: f"{c.severity:<9} {c.must}")
    if clause is not None:
        print(f"{clause.id} ({clause.severity}): the engine must {clause.must}.")
        print(f"needs: {', '.join(sorted(clause.needs)) or 'nothing'}")
        print(f"a violation means: {clause.impact}")
        print(f"what to do: {clause.recommendation}")
        judged = [s.id for s in scenarios().values() if clause.id in s.clauses]
        by = "dagstorm load" if clause.id in LOAD else ", ".join(judged)
        print(f"judged by: {by or 'no scenario yet'}")
        if clause.id in LOAD:
            return 0
        caught = [n for n, d in CATALOGUE.items() if clause.id in d.breaks]
        print(f"broken engines that it must catch: {', '.join(caught) or 'none yet'}")
    return 0
