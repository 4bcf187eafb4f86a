"""The registry as a text that can be committed, and the merge of two registries.

One line of JSON a finding, in order of fingerprint, so that what two branches add stands in
different places and git merges it by itself; `merge=union` in .gitattributes settles the
rest, because lines of one finding that stand twice are merged by the import. Merging gives
the same result in either direction, and importing a file twice changes nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.findings.finding import KINDS
from harness.findings.known import LOG_MAX, Decision, Known, Life, shortest
from harness.findings.registry import RegistryError, id_of

__all__ = ["TEXT_VERSION", "Book", "merge", "read_text", "to_text"]

TEXT_VERSION = 1
HEAD = "dagstorm_registry"
LINE_MAX = 4_000_000


@dataclass(slots=True)
class Book:
    """A registry in memory: findings by fingerprint, runs that ended, last number per kind."""

    known: dict[str, Known] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)


def to_text(book: Book) -> str:
    """Return the whole registry, the same text for the same content."""
    lines: list[Any] = [{HEAD: TEXT_VERSION}, {"numbers": book.numbers}]
    lines += [{"finding": book.known[mark].to_json()} for mark in sorted(book.known)]
    lines += [{"run": row} for row in sorted(book.runs, key=lambda r: str(r["run_id"]))]
    return "".join(json.dumps(x, sort_keys=True, ensure_ascii=False) + "\n" for x in lines)


def read_text(text: str, name: str) -> Book:
    """Read an exported registry; lines of one finding that stand twice are merged.

    Args:
        name: of the file, for error messages.

    Raises:
        RegistryError: if a line is not what it should be; it names the line.
    """
    book, headed = Book(), False
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}: line {number}"
        if line.startswith(("<<<<<<<", "=======", ">>>>>>>", "|||||||")):
            raise RegistryError(
                f"{where}: a conflict that git left; delete these marks, keep the lines of both "
                "sides, and import again (merge=union in .gitattributes does it by itself)"
            )
        try:
            data = json.loads(line) if len(line) <= LINE_MAX else None
            headed = _line(book, data) or headed
        except RegistryError as exc:
            raise RegistryError(f"{where}: {exc}") from None
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise RegistryError(
                f"{where}: not a line of an exported registry ({type(exc).__name__}: {exc})"
            ) from exc
        if not headed:
            raise RegistryError(f"{where}: not an exported registry: its first line must be a head")
    if not headed:
        raise RegistryError(f"{name}: not an exported registry: it is empty")
    return book


def _line(book: Book, data: Any) -> bool:
    """Take one line into the book; says whether it was a head."""
    ((what, value),) = data.items()
    if what == HEAD:
        if value != TEXT_VERSION:
            raise RegistryError(
                f"an export of version {value!r}; this dagstorm reads {TEXT_VERSION}; update it"
            )
        return True
    if what == "numbers":
        for kind, last in value.items():
            book.numbers[kind] = max(book.numbers.get(kind, 0), int(last))
            id_of(kind, int(last))
    elif what == "finding":
        one = Known.from_json(value)
        _number(one.id)
        if not one.id.startswith(f"{KINDS[one.kind]}-"):
            raise ValueError(f"id {one.id} of a {one.kind}")
        there = book.known.get(one.fingerprint)
        book.known[one.fingerprint] = one if there is None else _one(there, one)
    elif what == "run":
        book.runs = _runs(book.runs, [{**value, "run_id": str(value["run_id"])}])
    else:
        raise ValueError(f"unknown line {what!r}")
    return False


def merge(mine: Book, other: Book) -> Book:
    """Return the union of two registries; ids that collide are told apart by age.

    Of two findings of one id, the one that was seen first keeps it (then the one of the
    smaller fingerprint); the other gets an id that it alone had, else the next number that no
    registry ever gave.
    """
    known = {mark: one for mark, one in mine.known.items() if mark not in other.known}
    for mark, one in other.known.items():
        there = mine.known.get(mark)
        known[mark] = one if there is None else _one(there, one)
    numbers = {kind: max(mine.numbers.get(kind, 0), other.numbers.get(kind, 0)) for kind in KINDS}
    for one in known.values():
        for name in (one.id, *one.formerly):
            numbers[one.kind] = max(numbers[one.kind], _number(name))
    names = Counter(name for one in known.values() for name in (one.id, *one.formerly))
    keepers: dict[str, str] = {}
    by_age = sorted(known.values(), key=lambda k: (k.first_at, k.first_seen, k.fingerprint))
    for one in by_age:
        if keepers.setdefault(one.id, one.fingerprint) != one.fingerprint:
            own = [name for name in one.formerly if names[name] == 1]
            if not own:
                numbers[one.kind] += 1
            name = own[0] if own else id_of(one.kind, numbers[one.kind])
            formerly = sorted({*one.formerly, one.id} - {name})
            known[one.fingerprint] = replace(one, id=name, formerly=formerly)
    return Book(known, _runs(mine.runs, other.runs), {k: n for k, n in numbers.items() if n})


def _number(name: str) -> int:
    return int(name.partition("-")[2])


def _one(a: Known, b: Known) -> Known:
    """Return one finding out of what two registries know of it."""
    a, b = sorted((a, b), key=lambda k: (k.last_at, k.last_seen, _text(k.to_json())))
    first = min((a, b), key=lambda k: (k.first_at, k.first_seen))
    # An id that one of them has given up stays given up, or the next merge would undo this one.
    given_up = {*a.formerly, *b.formerly}
    name = min({a.id, b.id} - given_up or {a.id, b.id}, key=_number)
    log = {_text(x): x for x in (*a.log, *b.log)}
    return replace(
        b,
        id=name,
        formerly=sorted({*a.formerly, *b.formerly, a.id, b.id} - {name}),
        first_seen=first.first_seen,
        first_at=first.first_at,
        occurrences=max(a.occurrences, b.occurrences),
        reported=a.reported or b.reported,
        versions={
            v: _life(a.versions.get(v), b.versions.get(v)) for v in {**a.versions, **b.versions}
        },
        decision=_decision(a.decision, b.decision),
        log=[log[key] for key in sorted(log, key=lambda k: (log[k]["at"], k))][-LOG_MAX:],
    )


def _life(a: Life | None, b: Life | None) -> Life:
    if a is None or b is None:
        life = a or b
        assert life is not None
        return life
    a, b = sorted((a, b), key=lambda x: (x.at, x.state, x.last_seen, x.by_run))
    sights = dict(a.sights)
    for scenario, sight in b.sights.items():
        there = sights.get(scenario, sight)
        sights[scenario] = max(
            (there, sight), key=lambda s: (s.run, s.runs, s.exercised, s.violations, s.seed)
        )
    return replace(
        b,
        first_seen=min((x.first_seen for x in (a, b) if x.first_seen), default=""),
        last_seen=max(a.last_seen, b.last_seen),
        occurrences=max(a.occurrences, b.occurrences),
        sights=sights,
        seeds=shortest(sorted((*a.seeds, *b.seeds), key=lambda s: (s.run, s.verdict))),
    )


def _decision(a: Decision | None, b: Decision | None) -> Decision | None:
    made = [d for d in (a, b) if d is not None]
    return max(made, key=lambda d: (d.since, d.kind, d.reason, d.until, d.told), default=None)


def _runs(
    mine: Sequence[Mapping[str, Any]], other: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the runs of both; in the order of mine if the other brings nothing new."""
    found = {str(row["run_id"]): dict(row) for row in mine}
    more = False
    for row in other:
        name = str(row["run_id"])
        more = more or name not in found
        found[name] = max(found.get(name, dict(row)), dict(row), key=_text)
    if not more:
        return list(found.values())
    return sorted(found.values(), key=lambda r: (str(r["started_at"]), str(r["run_id"])))


def _text(data: Any) -> str:
    return json.dumps(data, sort_keys=True)
