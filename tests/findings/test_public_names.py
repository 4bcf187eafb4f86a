"""What the two rooms offer to the others is named once, in order, and is there."""

from __future__ import annotations

from types import ModuleType

import pytest

import harness.findings
import harness.report


@pytest.mark.parametrize("room", [harness.findings, harness.report])
def test_public_names_are_sorted_and_exist(room: ModuleType) -> None:
    assert room.__all__ == sorted(room.__all__)
    assert [name for name in room.__all__ if not hasattr(room, name)] == []
