"""A report says in words who cancels what, and by what means."""

from __future__ import annotations

from typing import Any

import pytest

from harness.findings.setting import _cancel


@pytest.mark.parametrize(
    ("cancel", "said"),
    [
        ({"at_s": 1.5}, "the caller cancels after 1.5 s"),
        ({"at_s": 2, "by": "timeout"}, "the caller's asyncio.timeout expires after 2 s"),
        ({"at_s": 2, "by": "wait_for"}, "the caller's asyncio.wait_for gives up after 2 s"),
        ({"at_s": 2, "by": "group"}, "another task of the caller's task group fails after 2 s"),
        (
            {"target": "stage", "stage": "a", "at_point": 7},
            "the task of stage a is cancelled from outside the engine after 7 callbacks "
            "of the loop",
        ),
        (
            {"target": "stage", "stage": "a", "at_s": 0.5},
            "the task of stage a is cancelled from outside the engine after 0.5 s",
        ),
    ],
)
def test_a_cancel_is_told(cancel: dict[str, Any], said: str) -> None:
    assert _cancel(cancel) == said
