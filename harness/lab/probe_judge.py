"""Two judgements that need the user's frames: was a cancel swallowed, was a cleanup cut off.

Swallowed: the run's caller cancelled it (or its timeout did), `cancel()` said that it was
accepted, and yet the function returned, raised something else or went on; and a frame of
the user's was the last one that the cancel reached, and that frame caught it. Where no
frame of the user's was reached (it came after the last await) or a library replaced it
(a task group with errors of its own), nothing is said. A cancel that arrives while the
function awaits a task that it has itself cancelled cannot be told from that task's own:
if the function then ends at the same moment, that is a note, no defect.

Cut off: the cancel reached an await in a cleanup block, or in something called from one,
and statements that come later in that block ran in the same run without this cancel, but
not in this one. An inner `except` in the same block that catches the cancel is taken for
the user's answer to it, so what it guards does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.lab.probe_sources import Function, Sources, Span
from harness.lab.probe_trace import CANCELLED, LINE, RAISED, RETURNED, UNWOUND, Event, FrameLog

__all__ = ["Absorbed", "Baseline", "CutOff", "absorbed", "baseline_of", "cut_off"]

# Of each frame, by the order in which they began: its function, and the lines it ran.
Baseline = Mapping[int, tuple[str, Sequence[int]]]


@dataclass(frozen=True, slots=True)
class Absorbed:
    """A cancel that arrived at one place and was caught at another."""

    arrived: str
    caught: str
    replaced_by: str = ""


@dataclass(frozen=True, slots=True)
class CutOff:
    """A cleanup that a cancel interrupted, and its lines that never ran."""

    place: str
    lost: tuple[int, ...]


def baseline_of(frames: Sequence[FrameLog]) -> Baseline:
    """Return what each frame ran, for the same run with one cancel more to be compared with."""
    return {f.ordinal: (_name(f), f.lines()) for f in frames}


def _name(log: FrameLog) -> str:
    return f"{log.code.co_filename}:{log.code.co_firstlineno}"


def absorbed(frames: Sequence[FrameLog], task: int, mark: int, sources: Sources) -> Absorbed | None:
    """Find the user's frame of a task that caught the cancel sent after event `mark`."""
    mine = [f for f in frames if f.task == task]
    events = sorted(
        ((e, f) for f in mine for e in f.events if e.number > mark), key=lambda p: p[0].number
    )
    reached: FrameLog | None = None
    arrival: Event | None = None
    for event, log in events:
        if event.kind == CANCELLED and (reached is None or reached.parent is log):
            reached, arrival = log, event
        elif reached is not None and log is reached.parent and event.kind in (LINE, RETURNED):
            break
    if reached is None or arrival is None:
        return None
    return _caught(reached, arrival, sources)


def _caught(log: FrameLog, arrival: Event, sources: Sources) -> Absorbed | None:
    function = sources.function(log.code)
    after = [e for e in log.events if e.number > arrival.number]
    arrived = sources.place(log.code, arrival.line)
    if function is None:
        ended = any(e.kind == RETURNED for e in after)
        return Absorbed(arrived, arrived) if ended else None
    caught, replaced_by = 0, ""
    for event in after:
        if event.kind == LINE and not caught:
            caught = next(
                (
                    c.line
                    for c in function.clauses
                    if arrival.line in c.guards and event.line in c.body
                ),
                0,
            )
        elif event.kind == CANCELLED:
            # A cancel that comes later is another one.
            break
        elif event.kind == RAISED:
            if not caught and _head_of_with(function, event.line, arrival.line):
                return None
            replaced_by = event.name
    left = next((e for e in after if e.kind in (RETURNED, UNWOUND)), None)
    if left is not None and left.kind == UNWOUND and not replaced_by:
        return None
    if left is None and function.cleanup_at(log.lines()[-1]) is not None:
        return None  # it is still cleaning up, and may yet let the cancel go on
    if left is not None and left.kind == RETURNED:
        replaced_by = ""
    if not caught:
        caught = _left_by(function, after, arrival.line)
    return Absorbed(arrived, sources.place(log.code, caught), replaced_by)


def _head_of_with(function: Function, line: int, inside: int) -> bool:
    return any(head == line and inside in body for head, body in function.withs)


def _left_by(function: Function, after: Sequence[Event], arrival: int) -> int:
    """Name the line that let the cancel go: the head of a `with`, or of a `finally`'s exit."""
    lines = [e.line for e in after if e.kind == LINE and e.line != arrival]
    for line in lines:
        if _head_of_with(function, line, arrival):
            return line
    return lines[-1] if lines else arrival


def cut_off(
    frames: Sequence[FrameLog], mark: int, baseline: Baseline, sources: Sources
) -> list[CutOff]:
    """Find the cleanups that the cancel sent after event `mark` interrupted, inner ones first."""
    found = []
    hit: set[int] = set()
    for log in reversed(frames):
        arrival = next((e for e in log.events if e.kind == CANCELLED and e.number > mark), None)
        function = sources.function(log.code)
        if arrival is None or function is None:
            continue
        block = function.span if log.in_cleanup else function.cleanup_at(arrival.line)
        if block is None or _handled_outside(log, sources):
            continue
        lost = _lost(log, arrival, function, block, baseline)
        if lost and log.ordinal not in hit:
            found.append(CutOff(sources.place(log.code, arrival.line), lost))
        # What awaited it is cut off by the same cancel, at the same moment.
        parent = log.parent
        while lost and parent is not None:
            hit.add(parent.ordinal)
            parent = parent.parent
    return found


def _handled_outside(log: FrameLog, sources: Sources) -> bool:
    """Say whether a caller within the same cleanup has an `except` for the cancel."""
    while log.in_cleanup and log.parent is not None:
        function = sources.function(log.parent.code)
        if function is None:
            return False
        line = log.parent_line
        block = function.span if log.parent.in_cleanup else function.cleanup_at(line)
        if block is not None and function.handled_within(line, block):
            return True
        log = log.parent
    return False


def _lost(
    log: FrameLog, arrival: Event, function: Function, block: Span, baseline: Baseline
) -> tuple[int, ...]:
    """Return the first lines of the statements that only the run without this cancel ran."""
    name, lines = baseline.get(log.ordinal, ("", ()))
    before = [e.line for e in log.events if e.kind == LINE and e.number < arrival.number]
    if name != _name(log) or list(lines[: len(before)]) != before:
        return ()  # the two runs had already parted: nothing can be said
    would = _later(lines[len(before) :], arrival.line, function)
    did = {
        function.statements.get(e.line, -1)
        for e in log.events
        if e.kind == LINE and e.number > arrival.number
    }
    return tuple(
        sorted(
            function.first_line[s]
            for s in would - did
            if s in function.working
            and function.first_line[s] in block
            and not function.handled_within(function.first_line[s], block)
        )
    )


def _later(lines: Sequence[int], arrival: int, function: Function) -> set[int]:
    """Return the statements begun after the interrupted one had gone on."""
    interrupted: Any = function.statements.get(arrival)
    begun: set[int] = set()
    same = True
    for line in lines:
        statement = function.statements.get(line, -1)
        same = same and statement == interrupted
        if not same:
            begun.add(statement)
    return begun
