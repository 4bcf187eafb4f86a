"""The registry: findings keep their id, and are followed from run to run.

A run comes to it three times. It begins, and gets a name that no other run has. It takes
ids, once it knows what it found: from then on the findings are in the registry, marked as
told by nobody. It ends, after its files are written: in one transaction its findings are
held against what is known by then, and sightings, states and history are written. A run
that is killed in between loses no id and no finding, and the next run that sees the same
finding calls it new again, because nobody has been told.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from harness.findings.campaign import Row
from harness.findings.changes import Measured, changes_of
from harness.findings.finding import KINDS
from harness.findings.known import Known
from harness.findings.life import first_sight, live_on
from harness.findings.registry_file import RegistryError, opened

__all__ = ["HISTORY_MAX", "REPEAT", "Registry", "RegistryError", "find", "id_of"]

HISTORY_MAX = 60
# What of a run's entry says which work it did, so that the same work can be done again.
REPEAT = "repeat"


def id_of(kind: str, number: int) -> str:
    return f"{KINDS[kind]}-{number:03d}"


Everything = tuple[dict[str, Known], list[dict[str, Any]], dict[str, int]]
Merge = Callable[[dict[str, Known], list[dict[str, Any]], dict[str, int]], Everything]


class Registry:
    """A registry's file. Every method is one transaction and raises `RegistryError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, run: str, started_at: str, *, resumed: bool = False) -> str:
        """Note that a run has begun; returns its id, made unique if another run has it."""
        with opened(self.path, check=True) as base:
            taken = {r for (r,) in base.execute("SELECT run_id FROM runs")}
            name, more = run, 2
            while name in taken and not resumed:
                name, more = f"{run}-{more}", more + 1
            base.execute(
                "INSERT OR IGNORE INTO runs VALUES (?, NULL, 'begun', ?, '{}')", (name, started_at)
            )
            return name

    def take(self, entries: Sequence[Row], run: str, at: str) -> dict[str, str]:
        """Give each finding its id for good; returns fingerprint -> id.

        Args:
            entries: findings as plain data, in the order in which new ones get their numbers.
        """
        with opened(self.path) as base:
            known = dict(base.execute("SELECT fingerprint, id FROM findings").fetchall())
            ids = {}
            for entry in entries:
                mark = entry["fingerprint"]
                if mark not in known:
                    known[mark] = id_of(entry["kind"], _next(base, entry["kind"]))
                    _put(base, first_sight(entry, known[mark], run, at))
                ids[mark] = known[mark]
            return ids

    def known(self) -> dict[str, Known]:
        """Return fingerprint -> finding."""
        with opened(self.path, write=False) as base:
            return _known(base)

    def end(
        self,
        measured: Measured,
        *,
        run: str,
        at: str,
        profile: str,
        today: date,
        summary: Mapping[str, Any],
    ) -> None:
        """Write a run whose findings have been told; a run that did so before changes nothing.

        Args:
            summary: the run's entry of history.json; what else it holds stays here (REPEAT).
        """
        with opened(self.path) as base:
            done = base.execute("SELECT state FROM runs WHERE run_id = ?", (run,)).fetchone()
            if done is not None and done[0] == "ended":
                return
            known = _known(base)
            changes = changes_of(known, measured, run=run, today=today)
            for one in live_on(
                known, measured, changes, run=run, at=at, profile=profile, today=today
            ):
                _put(base, one)
            (place,) = base.execute("SELECT coalesce(max(place), 0) + 1 FROM runs").fetchone()
            base.execute(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, 'ended', ?, ?)",
                (run, place, summary["started_at"], json.dumps(summary, sort_keys=True)),
            )

    def history(self) -> list[dict[str, Any]]:
        """Return the entries of the last runs that ended, in that order, newest last."""
        with opened(self.path, write=False) as base:
            rows = base.execute(
                "SELECT body FROM runs WHERE state = 'ended' ORDER BY place DESC LIMIT ?",
                (HISTORY_MAX,),
            ).fetchall()
        entries = [json.loads(body) for (body,) in reversed(rows)]
        return [{k: v for k, v in entry.items() if k != REPEAT} for entry in entries]

    def left_out(self, work: str) -> list[list[str]] | None:
        """Return the units that the last run of the same work left out, None if none was done.

        Args:
            work: what names the work: profile, seed, engines, scenarios, time.
        """
        with opened(self.path, write=False) as base:
            for (body,) in base.execute(
                "SELECT body FROM runs WHERE state = 'ended' ORDER BY place DESC"
            ):
                repeat = json.loads(body).get(REPEAT) or {}
                if repeat.get("work") == work:
                    return list(repeat["left_out"])
        return None

    def change(self, wanted: str, do: Callable[[Known], None]) -> Known:
        """Let `do` change the finding of this id.

        Raises:
            RegistryError: if there is none.
        """
        with opened(self.path) as base:
            one = find(_known(base), wanted)
            do(one)
            _put(base, one)
            return one

    def everything(self) -> Everything:
        """Return findings, runs that ended, oldest first, and the last number of each kind."""
        with opened(self.path, write=False) as base:
            return _everything(base)

    def replace(self, merge: Merge) -> None:
        """Put what `merge` makes of findings, runs and numbers in their place."""
        with opened(self.path, check=True) as base:
            known, runs, numbers = merge(*_everything(base))
            base.execute("DELETE FROM findings")
            base.execute("DELETE FROM runs WHERE state = 'ended'")
            for one in known.values():
                _put(base, one)
            for place, row in enumerate(runs, 1):
                base.execute(
                    "INSERT OR REPLACE INTO runs VALUES (?, ?, 'ended', ?, ?)",
                    (row["run_id"], place, row["started_at"], json.dumps(row, sort_keys=True)),
                )
            for kind, last in numbers.items():
                base.execute(
                    "INSERT INTO numbers VALUES (?, ?) ON CONFLICT (kind) "
                    "DO UPDATE SET last = max(last, excluded.last)",
                    (kind, last),
                )


def find(known: Mapping[str, Known], wanted: str) -> Known:
    """Return the finding of an id, or the one that had it before registries were merged.

    Raises:
        RegistryError: if there is none.
    """
    name = wanted.upper()
    for one in known.values():
        if one.id == name:
            return one
    for one in known.values():
        if name in one.formerly:
            return one
    raise RegistryError(f"no finding {wanted!r} in the registry; see dagstorm findings list")


def _next(base: sqlite3.Connection, kind: str) -> int:
    base.execute(
        "INSERT INTO numbers VALUES (?, 1) ON CONFLICT (kind) DO UPDATE SET last = last + 1",
        (kind,),
    )
    (number,) = base.execute("SELECT last FROM numbers WHERE kind = ?", (kind,)).fetchone()
    return int(number)


def _known(base: sqlite3.Connection) -> dict[str, Known]:
    found = {}
    for mark, body in base.execute("SELECT fingerprint, body FROM findings ORDER BY id"):
        try:
            found[mark] = Known.from_json(json.loads(body))
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise sqlite3.DatabaseError(f"finding {mark}: {type(exc).__name__}: {exc}") from exc
    return found


def _put(base: sqlite3.Connection, one: Known) -> None:
    body = json.dumps(one.to_json(), sort_keys=True, ensure_ascii=False)
    # Never OR REPLACE: two findings of one id must fail, not push each other out.
    base.execute(
        "INSERT INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (fingerprint) DO UPDATE SET id = excluded.id, severity = excluded.severity, "
        "title = excluded.title, first_seen = excluded.first_seen, last_seen = excluded.last_seen, "
        "occurrences = excluded.occurrences, body = excluded.body",
        (
            *(one.fingerprint, one.id, one.kind, one.engine, one.clause, one.severity),
            *(one.title, one.first_seen, one.last_seen, one.occurrences, body),
        ),
    )


def _everything(base: sqlite3.Connection) -> Everything:
    runs = base.execute("SELECT body FROM runs WHERE state = 'ended' ORDER BY place").fetchall()
    numbers = base.execute("SELECT kind, last FROM numbers ORDER BY kind").fetchall()
    return _known(base), [json.loads(body) for (body,) in runs], dict(numbers)
