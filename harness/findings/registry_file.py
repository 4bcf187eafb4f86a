"""The registry's file: one SQLite database, opened with care and never repaired by guessing.

SQLite's rollback journal makes a change whole or undone, also after `kill -9`, and keeps
the registry one file. Whoever writes takes the lock before it reads (`BEGIN IMMEDIATE`),
so two runs that end at once do so one after the other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

__all__ = ["SCHEMA_VERSION", "RegistryError", "opened"]

# "DSTR", which tells a registry from any other SQLite file.
APPLICATION_ID = 0x44535452
SCHEMA_VERSION = 1
HEADER = b"SQLite format 3\x00"
# Longer than any transaction here takes; a run that waits longer says so.
WAIT_S = 60.0

TABLES = (
    """CREATE TABLE findings (
        fingerprint TEXT PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        engine TEXT NOT NULL,
        clause TEXT NOT NULL,
        severity TEXT NOT NULL,
        title TEXT NOT NULL,
        first_seen TEXT NOT NULL,
        last_seen TEXT NOT NULL,
        occurrences INTEGER NOT NULL,
        body TEXT NOT NULL
    )""",
    """CREATE TABLE runs (
        run_id TEXT PRIMARY KEY,
        place INTEGER UNIQUE,
        state TEXT NOT NULL,
        started_at TEXT NOT NULL,
        body TEXT NOT NULL
    )""",
    "CREATE TABLE numbers (kind TEXT PRIMARY KEY, last INTEGER NOT NULL)",
)


class RegistryError(ValueError):
    """The registry cannot be used; one line says why and what to do."""


@contextmanager
def opened(path: Path, *, write: bool = True, check: bool = False) -> Iterator[sqlite3.Connection]:
    """Open the registry for one transaction, which is committed if nothing is raised.

    Args:
        write: take the lock; make the registry where there is none.
        check: look through the whole file for damage first.

    Raises:
        RegistryError: if it is something else, damaged, of a newer version, or in the way.
    """
    _is_ours(path, write)
    try:
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
        with closing(_connect(path, write)) as base:
            base.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                _look(path, base, check=check, write=write)
                yield base
            except BaseException:
                base.rollback()
                raise
            base.commit()
    except sqlite3.OperationalError as exc:
        if "locked" in str(exc):
            raise RegistryError(
                f"registry {path}: another process has held it for {WAIT_S:.0f} s; try again"
            ) from exc
        raise RegistryError(
            f"registry {path}: cannot be used: {exc}; name another by --registry, "
            "or run with --no-registry"
        ) from exc
    except sqlite3.DatabaseError as exc:
        raise _damaged(path, str(exc)) from exc
    except OSError as exc:
        raise RegistryError(
            f"registry {path}: cannot be written: {exc.strerror}; name another by --registry, "
            "or run with --no-registry"
        ) from exc


def _connect(path: Path, write: bool) -> sqlite3.Connection:
    if write:
        return sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
    # Not mode=ro: a reader must be able to undo what a killed writer left half done.
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=WAIT_S, isolation_level=None
    )


def _is_ours(path: Path, write: bool) -> None:
    """Refuse what is no SQLite file before SQLite gets to touch it."""
    try:
        with path.open("rb") as file:
            head = file.read(len(HEADER))
    except FileNotFoundError:
        head = b""
    except OSError as exc:
        raise RegistryError(
            f"registry {path}: cannot be read: {exc.strerror}; name another by --registry"
        ) from exc
    if not head and not write:
        raise RegistryError(
            f"registry {path}: there is none; dagstorm run makes one, or name another by --registry"
        )
    if head and head != HEADER:
        raise RegistryError(
            f"registry {path}: not a dagstorm registry (no SQLite file); it is left as it is: "
            "move it away, or name another by --registry"
        )


def _look(path: Path, base: sqlite3.Connection, *, check: bool, write: bool) -> None:
    """Refuse other databases and newer registries; make the tables of an empty one."""
    (application,) = base.execute("PRAGMA application_id").fetchone()
    (version,) = base.execute("PRAGMA user_version").fetchone()
    (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise RegistryError(
            f"registry {path}: an SQLite file of something else; it is left as it is: "
            "name another by --registry"
        )
    if version > SCHEMA_VERSION:
        raise RegistryError(
            f"registry {path}: made by a newer dagstorm (version {version} of its schema; this "
            f"one knows up to {SCHEMA_VERSION}); update dagstorm, or name another by --registry"
        )
    if check and tables:
        (found,) = base.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise _damaged(path, str(found))
    if not tables and write:
        for table in TABLES:
            base.execute(table)
        base.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        base.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _damaged(path: Path, how: str) -> RegistryError:
    return RegistryError(
        f"registry {path}: damaged ({' '.join(how.split())[:120]}); it is left as it is: restore "
        "a copy, or move it away and dagstorm findings import what was exported"
    )
