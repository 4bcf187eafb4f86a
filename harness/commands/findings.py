"""`dagstorm findings`: the registry's findings, what people decide of them, and its files."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from harness.commands.books import add_registry, as_input, registry_of
from harness.commands.settings import today
from harness.commands.words import known
from harness.findings.files import write_whole
from harness.findings.finding import KINDS
from harness.findings.known import Decision, Known
from harness.findings.order import SEVERITIES, by_severity
from harness.findings.registry import find
from harness.findings.registry_text import Book, merge, read_text, to_text
from harness.kernel.errors import InputError
from harness.report.registry import as_csv, as_markdown, row_of

__all__ = ["add"]

STATUSES = ("open", "confirmed", "regressed", "resolved", "wont_fix")
FORMATS = ("csv", "json", "md", "text")


def add(commands: Any) -> None:
    """Add this module's commands to the parser."""
    group = commands.add_parser("findings", help="the registry: what was found, and its life")
    verbs = group.add_subparsers(dest="verb", required=True, parser_class=type(group))

    def verb(name: str, text: str, do: Callable[[argparse.Namespace], int]) -> Any:
        one = verbs.add_parser(name, help=text)
        add_registry(one)
        one.set_defaults(do=do)
        return one

    for one in (
        verb("list", "what there is, open ones first", _list),
        verb("export", "all of it as csv, json, md, or as text for git", _export),
    ):
        one.add_argument("--status", action="append", metavar="STATUS")
        one.add_argument("--kind", action="append", metavar="KIND")
        one.add_argument("--engine", action="append", metavar="NAME")
        one.add_argument("--severity", action="append", metavar="SEVERITY")
        if one.prog.endswith("list"):
            one.add_argument("--json", action="store_true")
        else:
            one.add_argument("--format", default="json", choices=FORMATS)
            one.add_argument("--out", metavar="FILE", help="default: standard output")
    show = verb("show", "one finding and what happened to it", _show)
    show.add_argument("id", metavar="FINDING-ID")
    show.add_argument("--json", action="store_true")
    ledger = verb(
        "ledger", "the runs that failed, shortest first, as nightly replays them", _ledger
    )
    ledger.add_argument("--json", action="store_true")
    for name, text, do in (
        ("resolve", "say that it is gone", _resolve),
        ("reopen", "take back resolve, wontfix and waive", _reopen),
        ("wontfix", "say that it will stay", _wontfix),
        ("waive", "let it pass the gate until a day", _waive),
    ):
        one = verb(name, text, do)
        one.add_argument("id", metavar="FINDING-ID")
        one.add_argument("--reason", required=name in ("wontfix", "waive"), default="")
        if name in ("wontfix", "waive"):
            one.add_argument("--until", required=name == "waive", metavar="YYYY-MM-DD")
    taken = verb("import", "merge an exported text into the registry", _import)
    taken.add_argument("file", metavar="FILE")


def _chosen(options: argparse.Namespace, book: dict[str, Known]) -> list[Known]:
    """Return the findings that the options name: open ones first, then by severity and id."""
    day = today()
    statuses = {known("status", s, STATUSES) for s in options.status or ()}
    kinds = {known("kind", k, KINDS) for k in options.kind or ()}
    severities = {known("severity", s, SEVERITIES) for s in options.severity or ()}
    engines = {e.partition("@")[0] for e in options.engine or ()}
    found = [
        one
        for one in book.values()
        if (not statuses or one.status(day) in statuses)
        and (not kinds or one.kind in kinds)
        and (not severities or one.severity in severities)
        and (not engines or one.engine in engines)
    ]
    first = ("regressed", "open", "confirmed", "wont_fix", "resolved")
    return sorted(
        found,
        key=lambda k: (
            tuple(KINDS).index(k.kind),
            max(0, first.index(k.status(day)) - 2),
            by_severity(k.severity),
            (len(k.id), k.id),
        ),
    )


def _list(options: argparse.Namespace) -> int:
    with as_input():
        book = registry_of(options).known()
    if not options.kind:
        options.kind = ["bug", "dx", "improvement"]
    found = _chosen(options, book)
    if options.json:
        print(json.dumps([row_of(one, today()) for one in found], indent=1, ensure_ascii=False))
        return 0
    for one in found:
        row = row_of(one, today())
        print(
            f"{one.id}  {row['status']:<9}  {one.severity:<8}  {one.clause:<9} {one.title} "
            f"[{one.engine} {row['versions']}".rstrip()
            + f"] seen {one.occurrences}x, last in {one.last_seen}"
            + (f"; waived until {row['waived_until']}" if row["waived_until"] else "")
        )
    if not found:
        print("no finding", file=sys.stderr)
    return 0


def _show(options: argparse.Namespace) -> int:
    with as_input():
        one = find(registry_of(options).known(), options.id)
    if options.json:
        data = {**one.to_json(), "status": one.status(today())}
        print(json.dumps(data, indent=1, ensure_ascii=False))
        return 0
    print(f"{one.id}  {one.status(today())}  {one.severity}  {one.clause} {one.title}")
    if one.formerly:
        print(f"formerly: {', '.join(one.formerly)}")
    for name in ("description", "expected", "actual", "location"):
        if one.entry.get(name):
            print(f"{name}: {one.entry[name]}")
    print(f"engine: {one.engine}; fingerprint: {one.fingerprint}")
    print(f"first seen: {one.first_seen}; last seen: {one.last_seen}; in {one.occurrences} runs")
    for version, life in one.versions.items():
        gone = f", gone in {life.by_run}" if life.by_run else ""
        seen = (
            f"seen {life.occurrences}x, last in {life.last_seen}" if life.last_seen else "not seen"
        )
        print(f"  {version or one.engine}: {life.state}, {seen}{gone}")
        for scenario, sight in life.sights.items():
            print(f"    {scenario}: {sight.violations} of {sight.exercised} runs in {sight.run}")
    if one.decision:
        until = f" until {one.decision.until}" if one.decision.until else ""
        over = "" if one.decision.holds(today()) else " (over)"
        print(f"{one.decision.kind}{until}{over}: {one.decision.reason}")
    for line in one.log:
        about = " ".join(x for x in (line["version"], line["run"], line["note"]) if x)
        print(f"{line['at']}  {line['what']}  {about}".rstrip())
    token = (one.entry.get("reproduction") or {}).get("token")
    if token:
        print(f"dagstorm replay {token}")
    return 0


def _ledger(options: argparse.Namespace) -> int:
    with as_input():
        book = registry_of(options).known()
    rows = [
        {
            "id": one.id,
            "engine": one.engine,
            "version": version,
            "profile": seed.profile,
            "seed": seed.seed,
            "scenario": seed.scenario,
            "run": seed.run,
            "size": seed.size,
            "last_replay": seed.verdict,
            "token": seed.token,
        }
        for one in book.values()
        for version, life in one.versions.items()
        if life.shows and one.kind != "strength"
        for seed in life.seeds
    ]
    rows.sort(key=lambda r: (r["size"], r["id"], r["token"]))
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        where = f"{row['engine']}@{row['version']}" if row["version"] else row["engine"]
        print(
            f"{row['id']}  {where}  {row['scenario']}  {row['profile']} seed {row['seed']}  "
            f"size {row['size']}  {row['last_replay'] or 'not replayed'}"
        )
    return 0


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _decide(options: argparse.Namespace, do: Callable[[Known], None], what: str) -> int:
    def change(one: Known) -> None:
        do(one)
        one.note(_now(), what, note=options.reason)

    with as_input():
        one = registry_of(options).change(options.id, change)
    print(f"{one.id}  {one.status(today())}  {one.title}")
    return 0


def _resolve(options: argparse.Namespace) -> int:
    def resolve(one: Known) -> None:
        for life in one.versions.values():
            if life.shows:
                life.state, life.at, life.by_run = "resolved", _now(), ""

    return _decide(options, resolve, "resolved by hand")


def _reopen(options: argparse.Namespace) -> int:
    def reopen(one: Known) -> None:
        one.decision = None
        if not any(life.shows for life in one.versions.values()):
            for life in one.versions.values():
                if life.state == "resolved":
                    life.state, life.at, life.by_run = "open", _now(), ""

    return _decide(options, reopen, "reopened by hand")


def _wontfix(options: argparse.Namespace) -> int:
    return _let_be(options, "wont_fix")


def _waive(options: argparse.Namespace) -> int:
    return _let_be(options, "waiver")


def _let_be(options: argparse.Namespace, kind: str) -> int:
    reason, until = options.reason.strip(), options.until or ""
    if not reason:
        raise InputError(f"--reason {options.reason!r}: say why, in a few words")
    if until:
        try:
            day = date.fromisoformat(until)
        except ValueError:
            raise InputError(f"--until {until}: expected a date such as 2026-12-31") from None
        if day < today():
            raise InputError(f"--until {until}: that day is over; name today or a later one")
        until = day.isoformat()

    def let_be(one: Known) -> None:
        one.decision = Decision(kind, reason, until, _now())

    options.reason = f"until {until}: {reason}" if until else reason
    return _decide(options, let_be, kind)


def _export(options: argparse.Namespace) -> int:
    with as_input():
        book = Book(*registry_of(options).everything())
    named = (options.status, options.kind, options.engine, options.severity)
    if options.format == "text":
        if any(named):
            raise InputError("--format text: it is the whole registry; leave the filters out")
        page = to_text(book)
    else:
        found = _chosen(options, book.known)
        if options.format == "csv":
            page = as_csv(found, today())
        elif options.format == "md":
            page = as_markdown(found, today())
        else:
            rows = [{**row_of(one, today()), "finding": dict(one.entry)} for one in found]
            data = {"schema_version": 1, "findings": rows}
            page = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    if not options.out:
        print(page, end="")
        return 0
    try:
        print(write_whole(Path(options.out), page))
    except OSError as exc:
        raise InputError(f"--out {options.out}: cannot be written: {exc.strerror}") from exc
    return 0


def _import(options: argparse.Namespace) -> int:
    file = Path(options.file)
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{file}: cannot be read: {exc}") from exc
    said: list[str] = []

    def merged(*mine: Any) -> Any:
        before = Book(*mine)
        after = merge(before, other)
        for mark, one in sorted(after.known.items()):
            for book in (before, other):
                old = book.known.get(mark)
                if old is not None and old.id != one.id:
                    said.append(f"{old.id} is now {one.id}: {one.title}")
        new = len(after.known) - len(before.known)
        said.append(f"{len(other.known)} findings read, {new} of them new here")
        return after.known, after.runs, after.numbers

    with as_input():
        other = read_text(text, str(file))
        registry_of(options).replace(merged)
    for line in dict.fromkeys(said):
        print(line)
    return 0
