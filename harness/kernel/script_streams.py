"""Chunks in a stand-alone script: the stage that hands them on, and who consumes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.kernel.plan import Consumer
from harness.kernel.steps import Step

__all__ = ["Chunks", "chunks_in_a_row", "consuming"]


@dataclass(frozen=True, slots=True)
class Chunks:
    """Steps that a loop can stand for: chunks, each after the same sleep.

    Attributes:
        steps: how many steps they are.
        values: what is handed on, in order.
        before: the sleep before each, or None.
    """

    steps: int
    values: tuple[Any, ...]
    before: Any

    def numbered(self) -> tuple[str, int, int] | None:
        """Return (text, from, to) where the values are a text and numbers in a row, or None."""
        found = [re.fullmatch(r"([^{}]*?)(\d+)", str(one)) for one in self.values]
        heads = {one[1] for one in found if one is not None}
        start = min((int(one[2]) for one in found if one is not None), default=0)
        whole = [f"{head}{start + i}" for head in heads for i in range(len(self.values))]
        if whole != list(self.values):
            return None
        return heads.pop(), start, start + len(self.values)


def chunks_in_a_row(steps: Sequence[Step]) -> Chunks | None:
    """Return the chunks, two or more, with which steps begin, or None."""
    width = 2 if steps and steps[0].op == "sleep" else 1
    values: list[Any] = []
    for i in range(0, len(steps) - width + 1, width):
        *before, last = steps[i : i + width]
        if last.op != "chunk" or list(before) != list(steps[: width - 1]):
            break
        values.append(last.args["value"])
    if len(values) < 2:
        return None
    before_s = steps[0].args["seconds"] if width == 2 else None
    return Chunks(len(values) * width, tuple(values), before_s)


def consuming(consumer: Consumer, notes: Iterable[str], me: str) -> list[str]:
    """Return lines that consume `chunks` as a plan's consumer does.

    Args:
        notes: the kinds of notes that are wanted.
        me: source of the name in them.
    """
    seconds, most, wanted = consumer.every_s, consumer.stop_after, set(notes)
    stopped = [f'note({me}, "consume.stop")'] if "consume.stop" in wanted else []
    if most == 0:
        return stopped or ["pass"]
    if most == 1 and "consume" not in wanted:
        waits = [f"await asyncio.sleep({seconds!r})"] if seconds else []
        return ["await anext(chunks)", *waits, *stopped]
    counts = most is not None and most > 1
    loop = [
        *([f'note({me}, "consume", chunk)'] if "consume" in wanted else ()),
        *([f"await asyncio.sleep({seconds!r})"] if seconds else ()),
        *(["taken += 1", f"if taken == {most}:", "    break"] if counts else ()),
        *(["break"] if most == 1 else ()),
    ]
    return [
        *(["taken = 0"] if counts else ()),
        f"async for {'chunk' if 'consume' in wanted else '_'} in chunks:",
        *(f"    {line}" for line in loop or ["pass"]),
        *stopped,
    ]
