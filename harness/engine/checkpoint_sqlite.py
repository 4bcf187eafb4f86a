"""Checkpoints in a SQLite file, which outlive the process, also one that is killed.

Each write is one transaction, synced to the disk before it counts. Values are kept as
JSON, or by a codec of the user's: what would not come back equal is refused when it is
written, not found out by a redrive. Nothing in the file is ever executed.

A claim is a lock of the operating system's on a file of its own, beside the database: it
ends with the process that holds it, however that ends, and needs no clock.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from harness.engine.checkpoint import (
    Checkpointed,
    CheckpointError,
    Kept,
    RunHead,
    claimed,
    known,
    unknown,
)

try:
    import fcntl
except ImportError:  # Windows: there a claim is refused
    fcntl = None  # type: ignore[assignment]

__all__ = ["SqliteCheckpoints"]

VERSION = 1
BUSY_S = 5.0

SCHEMA = """
CREATE TABLE runs (root TEXT PRIMARY KEY, head TEXT NOT NULL);
CREATE TABLE names (run TEXT PRIMARY KEY, root TEXT NOT NULL REFERENCES runs);
CREATE TABLE stages (
    number INTEGER PRIMARY KEY,
    root TEXT NOT NULL REFERENCES runs,
    stage TEXT NOT NULL,
    status TEXT NOT NULL,
    output TEXT NOT NULL,
    reason TEXT NOT NULL,
    UNIQUE (root, stage)
);
"""


class SqliteCheckpoints:
    """Checkpoints in the file `path`, which several processes may use at once.

    Args:
        encode, decode: a text for a value and back; JSON by default. The value that comes
            back must equal the one that was encoded.

    Raises:
        CheckpointError: from every method, if the file cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        encode: Callable[[Any], str] = json.dumps,
        decode: Callable[[str], Any] = json.loads,
    ) -> None:
        self.path = os.fspath(path)
        self._encode = encode
        self._decode = decode
        self._claims: dict[str, int] = {}
        with self._told():
            self._db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA journal_mode = WAL")
        with self._transaction():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise CheckpointError(
                    f"{self.path}: version {version} of the checkpoints, this engine has {VERSION}"
                )

    def begin(self, run_id: str, head: RunHead) -> None:
        text = json.dumps(
            {"pipeline": head.pipeline, "needs": dict(head.needs), "tenant": head.tenant}
            | {"inputs": self._text(dict(head.inputs), f"run {run_id!r}: its inputs")}
        )
        self.claim(run_id)
        try:
            with self._transaction():
                if self._root(run_id) is not None:
                    raise known(run_id)
                self._db.execute("INSERT INTO runs VALUES (?, ?)", (run_id, text))
                self._db.execute("INSERT INTO names VALUES (?, ?)", (run_id, run_id))
        except BaseException:
            self.release(run_id)
            raise

    def look(self, run_id: str) -> Checkpointed:
        with self._transaction():
            root = self._root(run_id)
            if root is None:
                raise unknown(run_id, self.path)
            (text,) = self._db.execute("SELECT head FROM runs WHERE root = ?", (root,)).fetchone()
            rows = self._db.execute(
                "SELECT stage, status, output, reason FROM stages WHERE root = ? ORDER BY number",
                (root,),
            ).fetchall()
        head = json.loads(text)
        needs = {stage: tuple(names) for stage, names in head["needs"].items()}
        return Checkpointed(
            root,
            RunHead(head["pipeline"], needs, self._decode(head["inputs"]), head["tenant"]),
            tuple(Kept(stage, status, self._decode(out), why) for stage, status, out, why in rows),
        )

    def claim(self, root: str) -> None:
        if fcntl is None:
            raise CheckpointError(f"{self.path}: claims need the file locks of a POSIX system")
        if root in self._claims:
            raise claimed(root)
        name = self._claim_file(root)
        with self._told():
            os.makedirs(os.path.dirname(name), exist_ok=True)
            while True:
                file = os.open(name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(file)
                    raise claimed(root) from None
                # Its holder may have removed it between our open and our lock.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file), os.stat(name)):
                        break
                os.close(file)
        self._claims[root] = file

    def name(self, root: str, run_id: str) -> None:
        with self._transaction():
            if self._root(run_id) is not None:
                raise known(run_id)
            self._db.execute("INSERT INTO names VALUES (?, ?)", (run_id, root))

    def keep(self, root: str, stage: Kept) -> None:
        output = self._text(stage.output, f"stage {stage.stage!r}: its output")
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO stages (root, stage, status, output, reason) "
                "VALUES (?, ?, ?, ?, ?)",
                (root, stage.stage, stage.status, output, stage.reason),
            )

    def withdraw(self, root: str, stages: Iterable[str]) -> None:
        with self._transaction():
            self._db.executemany(
                "DELETE FROM stages WHERE root = ? AND stage = ?", [(root, s) for s in stages]
            )

    def release(self, root: str) -> None:
        file = self._claims.pop(root, None)
        if file is not None:
            # Removed while it is locked: who waits for it sees that it is no longer the one.
            with suppress(OSError):
                os.unlink(self._claim_file(root))
            os.close(file)

    def close(self) -> None:
        """Give up all claims and close the file."""
        for root in list(self._claims):
            self.release(root)
        self._db.close()

    def _root(self, run_id: str) -> str | None:
        row = self._db.execute("SELECT root FROM names WHERE run = ?", (run_id,)).fetchone()
        return None if row is None else str(row[0])

    def _claim_file(self, root: str) -> str:
        return os.path.join(f"{self.path}.claims", hashlib.sha256(root.encode()).hexdigest())

    def _text(self, value: Any, what: str) -> str:
        try:
            text = self._encode(value)
            back = self._decode(text)
        except Exception as exc:
            raise CheckpointError(
                f"{what} cannot be kept ({type(value).__name__}: {exc}); hand on plain data, or "
                "give SqliteCheckpoints an encode and decode"
            ) from exc
        if back != value:
            raise CheckpointError(
                f"{what} would not come back from its checkpoint as it is; hand on plain data "
                "(lists for tuples, texts as keys), or give SqliteCheckpoints an encode and decode"
            )
        return text

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise CheckpointError(f"{self.path}: {type(exc).__name__}: {exc}") from exc
