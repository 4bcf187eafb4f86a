"""The engine's public surface, and that the engine knows nothing of its defects."""

from __future__ import annotations

import re
from pathlib import Path

import harness.engine

ENGINE = Path(harness.engine.__file__).parent


def test_public_names_are_sorted_and_there() -> None:
    names = harness.engine.__all__
    assert names == sorted(names)
    assert all(hasattr(harness.engine, name) for name in names)


def test_the_engine_knows_nothing_of_its_defects() -> None:
    for path in ENGINE.glob("*.py"):
        assert not re.search(r"broken|defect", path.read_text(encoding="utf-8")), path.name
