"""`dagstorm replay`, `shrink` and `repro`: one run or one script again."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harness.commands.words import (
    RUNS_FOLDER,
    Once,
    data_of,
    finding_of,
    positive,
    run_folder,
    to_stderr,
)
from harness.engine.broken import CATALOGUE
from harness.kernel.errors import EnvironmentFault, InputError
from harness.lab.campaign import (
    scenario_data,
)
from harness.lab.conclude import write_json
from harness.lab.confirm import SCRIPT_LIMIT_S
from harness.lab.engines import parse_engine, python_of
from harness.lab.minimal import token_of
from harness.lab.replay import Replayed, case_of, replay, shrink_again
from harness.lab.token import FILE_SUFFIX, TEXT_MAX, Token, decode, encode, is_token
from harness.lab.token import read as read_token
from harness.lab.token import write as write_token
from harness.lab.trace import journal_lines, trace
from scenarios import scenarios

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add this module's commands to the parser."""
    again = commands.add_parser("replay", help="the same run again, twice, and its digest")
    smaller = commands.add_parser("shrink", help="the smallest run that still shows it")
    for one in (again, smaller):
        one.add_argument("what", metavar="TOKEN|FILE|FINDING-ID")
        one.add_argument("--run", metavar="DIR")
        one.add_argument(
            "--engine", action=Once, metavar="NAME[@VERSION]", help="another than the token's"
        )
    again.add_argument("--trace", action="store_true", help="print the journal, write a trace")
    again.add_argument("--out", metavar="FILE", help="where the trace goes")
    again.set_defaults(do=_replay)
    smaller.add_argument("--tries", type=positive, help="so many simpler runs at most")
    smaller.add_argument("--out", metavar="FILE", help="write the token as a file, too")
    smaller.add_argument("--json", action="store_true")
    smaller.set_defaults(do=_shrink)

    repro = commands.add_parser("repro", help="run or print a finding's stand-alone script")
    repro.add_argument("finding", metavar="FINDING-ID")
    repro.add_argument("--run", metavar="DIR")
    repro.add_argument("--print", action="store_true", dest="show")
    repro.set_defaults(do=_repro)


def _token_of(options: argparse.Namespace) -> tuple[Token, dict[str, Any] | None]:
    """Return the token that a text, a file or a finding's id names, and that finding."""
    text = options.what
    if is_token(text):
        return decode(text), None
    if text.endswith(".json"):
        return read_token(Path(text)), None
    folder = run_folder(options.run)
    finding = finding_of(folder, text)
    with data_of(folder / "findings.json"):
        named = str((finding["reproduction"] or {}).get("token") or "")
        kind = str(finding["kind"])
    if not named:
        raise InputError(f"{text} has no run to replay: it is of the kind {kind}")
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
    done = replay(token, case, ref, to_stderr)
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
        file = run_folder(options.run) / "traces" / f"{finding['id']}.json"
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
    row = shrink_again(token, case, ref, to_stderr, tries_max=options.tries)
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


def _repro(options: argparse.Namespace) -> int:
    folder = run_folder(options.run)
    finding = finding_of(folder, options.finding)
    with data_of(folder / "findings.json"):
        told = finding.get("reproduction") or {}
        name = told.get("script") or ""
        file = folder / name
        there = bool(name) and file.is_file()
        engine = str(told["environment"]["engine"]) if there else ""
    if not there:
        note = finding.get("confirmation_note") or "no run of a program showed it"
        raise InputError(f"{finding['id']}: no stand-alone script: {note}")
    if options.show:
        with data_of(file):
            print(file.read_text("utf-8"), end="")
        return 0
    ref = parse_engine(engine, CATALOGUE)
    try:
        done = subprocess.run(
            [python_of(ref, to_stderr), str(file)], timeout=SCRIPT_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFault(f"{file}: it did not end within {SCRIPT_LIMIT_S} s") from None
    return done.returncode
