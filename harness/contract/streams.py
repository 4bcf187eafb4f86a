"""STREAM-3 and STREAM-4: what an engine must do with a stage and the consumer of its chunks."""

from __future__ import annotations

from harness.contract import scripts
from harness.contract.clause import Clause, Judgement, Violation, untested, violated
from harness.contract.reading import Ran, Reading
from harness.kernel.journal import Entry

__all__ = ["CONSUMED"]


def _marks(r: Reading, run: str) -> tuple[dict[str, int], dict[str, int], int]:
    """Return chunk -> where it was produced, chunk -> where it was consumed, and where the
    consumer stopped, or -1; chunks by their text, which in a program of ours is their own."""
    spec = r.plan.consumer
    assert spec is not None  # the callers have checked it
    produced: dict[str, int] = {}
    consumed: dict[str, int] = {}
    stopped = -1
    for i, one in enumerate(r.entries):
        if one.run != run or one.stage != spec.stage:
            continue
        if one.kind == "chunk":
            produced[repr(one.detail)] = i
        elif one.kind == "consume":
            consumed.setdefault(repr(one.detail), i)
        elif one.kind == "consume.stop":
            stopped = i
    return produced, consumed, stopped


def check_stream_3(r: Reading) -> Judgement:
    """What was handed over and consumed only later has been buffered meanwhile. What nobody
    ever consumes may have been dropped, and is not counted."""
    spec = r.plan.consumer
    if not r.sound or spec is None:
        return untested()
    bad: list[Violation] = []
    handed = 0
    for run in r.runs:
        produced, consumed, _ = _marks(r, run)
        through = [key for key in produced if key in consumed]
        if len(through) <= spec.buffer_max + 1:
            continue  # so few fit into any buffer
        handed += len(through)
        most, where = _most_buffered([(produced[k], consumed[k]) for k in through])
        # One is in the hands of who consumes; another may be on its way there.
        if most > spec.buffer_max + 1 and not bad:
            bad.append(
                Violation(
                    "unbounded-buffer",
                    f"at most {spec.buffer_max} chunks of stage {spec.stage} wait for their "
                    "consumer, and one more is on its way to it",
                    f"{most} did",
                    spec.stage,
                    "",
                    {"buffered": most, "buffer_max": spec.buffer_max},
                    (where,),
                )
            )
    return violated(bad, chunks_consumed=handed) if handed else untested()


def _most_buffered(spans: list[tuple[int, int]]) -> tuple[int, int]:
    """Return how many chunks were handed over and not consumed at once, at most, and where. The
    one that is being handed over at that moment may be waiting for room."""
    changes = sorted([(made, 1) for made, _ in spans] + [(used, -1) for _, used in spans])
    waiting = most = where = 0
    for at, change in changes:
        if change > 0 and waiting > most:
            most, where = waiting, at
        waiting += change
    return most, where


def check_stream_4(r: Reading) -> Judgement:
    spec = r.plan.consumer
    if not r.sound or spec is None or r.record.ended != "over":
        return untested()
    bad: list[Violation] = []
    stops = 0
    for run, facts in r.runs.items():
        _, consumed, stop = _marks(r, run)
        ones = r.ran.get((run, spec.stage), [])
        if stop < 0 or not ones or facts.cancels or ones[-1].start > stop:
            continue
        if spec.stop_after is None or r.entries[stop].detail < spec.stop_after:
            continue  # it has not stopped: its stream has ended, with the run at the latest
        one = ones[-1]
        if 0 <= one.end < stop:
            continue  # it had ended before the consumer did
        told = [e for e in r.entries[stop:] if e.run == run and e.stage == spec.stage]
        stops += 1
        bad += _not_stopped(r, one, stop, told, len(consumed))
    return violated(bad[:3], consumers_stopped=stops) if stops else untested()


def _not_stopped(
    r: Reading, one: Ran, stop: int, told: list[Entry], consumed: int
) -> list[Violation]:
    """Find what a producer did after its consumer had stopped. An engine may tell it when it
    hands over its next chunk, but not later; and it is over before the run is."""
    if one.swallowed or one.called_off >= 0:
        return []  # that it does not stop is CANCEL-4's
    more = [e for e in told if e.kind == "chunk"]
    at = (stop, one.end)
    if len(more) > 1:
        return [
            Violation(
                "producer-not-stopped",
                f"stage {one.stage} is stopped when its consumer has stopped, after "
                f"{consumed} chunks",
                f"it produced {len(more)} more chunks",
                one.stage,
                "",
                {"chunks_after": len(more)},
                at,
            )
        ]
    over = r.runs[one.run].end
    grace_s = r.plan.cleanup_grace_s - r.tolerance_s
    if one.interrupts and r.time_of(over) >= r.time_of(one.interrupts[0]) + grace_s:
        return []  # it was given up after the grace
    if one.end < 0 or one.end > over:
        return [
            Violation(
                "producer-not-awaited",
                f"stage {one.stage}, whose consumer has stopped, has ended when the run is over",
                "it had not",
                one.stage,
                r.left_location(one.run, one.stage),
                {},
                (stop, over),
            )
        ]
    done_s = r.time_of(stop) + r.plan.cleanup_grace_s + r.tolerance_s
    # A cancel that comes later than that, from a timeout for one, is not for the consumer's sake.
    in_time = bool(one.interrupts) and r.time_of(one.interrupts[0]) <= done_s
    if not in_time and not more and not one.children and one.end_s > done_s:
        to = "until something else ended it" if one.interrupts else "to its own end"
        return [
            Violation(
                "producer-ran-on",
                f"stage {one.stage} is stopped when its consumer has stopped",
                f"it ran on for {one.end_s - r.time_of(stop):g} s, {to}",
                one.stage,
                "",
                {},
                at,
            )
        ]
    held = [h for h in r.held if h.run == one.run and h.stage == one.stage and not h.registered]
    open_ = [h for h in held if h.ended < 0 and h.failed < 0 and h.cut < 0]
    if open_:
        return [
            Violation(
                "producer-not-closed",
                f"what stage {one.stage} holds is released when its consumer has stopped",
                f"{open_[0].name} was not",
                one.stage,
                "",
                {"held": len(held), "left": len(open_)},
                (open_[0].at, over),
            )
        ]
    return []


CONSUMED: tuple[Clause, ...] = (
    Clause(
        "STREAM-3",
        "STREAM",
        "bound what it buffers when the consumer is slower than the producer",
        "high",
        "reliability",
        check_stream_3,
        {"": "Chunks are buffered without bound when their consumer is slow"},
        "A slow client makes the process's memory grow with the length of every answer.",
        "Let the producer wait when the consumer's buffer is full.",
        effort="medium",
        needs=frozenset({"streaming", "stream_consumer"}),
        availability_risk="high",
        script=scripts.stream_3,
    ),
    Clause(
        "STREAM-4",
        "STREAM",
        "close the producer when the consumer stops",
        "high",
        "reliability",
        check_stream_4,
        {
            "": "A stage goes on producing after its consumer has stopped",
            "producer-not-closed": "A stage whose consumer has stopped keeps what it holds",
        },
        "Models go on generating, and sockets stay open, for clients that have gone.",
        "Cancel the producing stage when its consumer goes, and await its end.",
        effort="medium",
        needs=frozenset({"streaming", "stream_consumer"}),
        availability_risk="medium",
        script_of_shape=scripts.stream_4,
    ),
)
