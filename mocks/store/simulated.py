"""The tenants' store of one simulated run: a real SQLite store that is gone when it is closed."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

from mocks.store.sqlite import SqliteStore

__all__ = ["SimulatedStore"]


class SimulatedStore(SqliteStore):
    """A `SqliteStore` in a folder of its own. Nothing waits for the disk: it need not survive."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="dagstorm-store-"))
        try:
            super().__init__(self._folder / "tenants.sqlite")
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _connect(self) -> sqlite3.Connection:
        con = super()._connect()
        con.execute("PRAGMA synchronous = OFF")
        return con
