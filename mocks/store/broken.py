"""Stores with one defect each, as they are found in the world: what the attacks must show.

A sound store proves nothing on which no attack could have shown anything, nor does an attack
that no store ever fell to. Each class here is one of the two sound stores with one thing done
as its docstring says; a test holds which attacks show which defect, and that each attack
shows one.
"""

from __future__ import annotations

from mocks.store.broken_postgres import BROKEN_POSTGRES
from mocks.store.broken_sqlite import BROKEN_SQLITE

__all__ = ["BROKEN_POSTGRES", "BROKEN_SQLITE"]
