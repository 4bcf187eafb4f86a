"""The journal: what really happened in a run, recorded by stage bodies and mocks.

An append-only list of entries in the order of their happening. Nothing in it comes
from the engine: the bodies that dagstorm wrote note what they did and when, so a
clause can hold the engine's report against it.

Kinds of entry (`stage` is "" for what belongs to the run as a whole):

========================  =====================================================================
kind                      detail
========================  =====================================================================
run.begin, run.end        end: "returned", or the name of the exception that came out
engine.end                None: the engine's own call for the run has come out; only where the
                          adapter had still to end what is the user's beside it, before run.end
cancel.sent               (number of the cancel, what `Task.cancel()` returned)
cancel.stage              the same, for a stage whose task is cancelled from outside the engine;
                          False if its body was not under way in a task of its own
caller.end                (how the caller's deadline works, what the caller found): "returned", or
                          the name of the exception; only where there is a deadline
fault.fired               (tool, call number); ("memory", 1) for an `allocate` that failed
net.felt                  (tool, call number, how): the plan's toxics changed a call: "late", "cut"
                          (closed too early), "reset", "silent" (no answer when it was given up)
stage.start, stage.end    end: ok, fail, skip, cancel_run, cancel_branch, cancelled, raise:<type>
returned                  the value that an ok stage returns, just before its end
acquire                   resource name
release.begin/.end        resource name; `.end` only if the cleanup ran to its end
release.cut               resource name; the cleanup was cancelled before its end
release.fail              resource name; the cleanup raised, as the program told it to
chunk                     the value of a partial result, handed to the engine's stream
item                      a value from a generator or tool that the stage keeps by itself
register                  name of a cleanup registered with the engine
emit, heartbeat           event type; None
read                      (stage, key, value)
call.begin, call.end      (tool, number); end: (tool, number, how) with how in ok, timeout,
                          cancelled, raise:<type>
scope.enter, .expired     (label, seconds); of the stage's own timeouts
scope.exit                (label, exception type or ""): left without expiring
scope.leak                (label, exception type): a TimeoutError that is not this scope's came out
spawn, spawn.end          name of a task of the stage's own
thread.begin, .end        seconds that the job takes
interrupt                 a CancelledError reached the stage where it was waiting, just before the
                          release.cut if that was in a cleanup; not noted in tasks of its own
self_cancel               the stage is about to raise CancelledError by itself
swallowed                 number of cancellations swallowed so far in this block
sub.begin, sub.end        child program's name; end: (name, how)
context                   what the context offered, as plain data
input                     (key, value) of the run's own input, as the engine handed it over
identity                  (place, ids) for whom the code works by the engine's word
log                       the message of a log record
offer.begin, offer.end    (producer, number); end: (producer, number, answer): "taken", "refused"
                          or raise:<type>
account                   (offered, delivered, dropped, pending, queue_max) by the engine's word
deliver.begin, .end       (producer, number) of an event that reached the sink; `.end` only if the
deliver.cut, .fail        sink took it; `.cut` if its delivery was cancelled, `.fail` if the sink
                          raised. The stage is "" and the run is the one of the sink: "" for a
                          sink that all runs share
consume, consume.stop     the value of a partial result; how many had been consumed
layer.enter, .exit        name of the layer; exit: (name, "ok" or raise:<type>)
layer.raise, layer.deny   name of the layer that is about to fail, or to deny
store                     (key, value)
trespass                  (how, tenant, refused, values seen, rows changed)
compensate                name of a compensation that the stage declared
undo.begin, .end          name of a compensation; `.end` only if it ran to its end
undo.cut, undo.fail       it was cancelled before its end; it raised, as the program told it to
flaky                     (number of the execution, whether it raises)
mutated                   (stage, key, whether the change was possible)
========================  =====================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Entry", "Journal"]

LIMIT_ENTRIES = 200_000


class Entry(NamedTuple):
    """One thing that happened: when (seconds), in which run and stage, what."""

    at_s: float
    run: str
    stage: str
    kind: str
    detail: Any


_new_entry: Any = tuple.__new__


class Journal:
    """An append-only record of one laboratory run.

    After `LIMIT_ENTRIES` entries nothing more is taken and `overflowed` is set, so a
    program that floods cannot exhaust memory; clauses then judge it inconclusive. Once
    `closed` is set nothing is taken either: what a teardown stirs up is not part of the run.
    """

    __slots__ = ("closed", "entries", "overflowed")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.overflowed = False
        self.closed = False

    def add(self, at_s: float, run: str, stage: str, kind: str, detail: Any = None) -> None:
        entries = self.entries
        if self.closed or len(entries) >= LIMIT_ENTRIES:
            self.overflowed = self.overflowed or not self.closed
            return
        # Plain tuple construction is half the price of Entry(...), and this is the hot path.
        entries.append(_new_entry(Entry, (at_s, run, stage, kind, detail)))

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def of(self, kind: str, *, run: str | None = None, stage: str | None = None) -> list[Entry]:
        """Return the entries of one kind, of one run and stage if given, in order."""
        return [
            e
            for e in self.entries
            if e.kind == kind
            and (run is None or e.run == run)
            and (stage is None or e.stage == stage)
        ]

    def to_json(self) -> list[list[Any]]:
        """Return `[at_s, run, stage, kind, detail]` rows."""
        return [list(e) for e in self.entries]
