"""A network with toxics, in virtual time: what a plan's toxics do to one call of a tool.

The live twin is a Toxiproxy between the stages and the mock services. Here a call is a
connection: what is asked goes up once, what is answered comes down in messages, and the
service's closing of the connection ends the answer, as in HTTP/1.0. All that a stage can
tell of it is when each message comes and how the connection ends, so that is what is
computed, for the whole call at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.kernel.plan import Toxic
from harness.kernel.tape import Tape

__all__ = ["ASKED_BYTES", "FELT_S", "HEAD_BYTES", "MESSAGE_BYTES", "Coming", "comings"]

# Roughly what the live services send as well, so that a rate or a limit in bytes means the
# same in both laboratories: the request, an answer's head, each message of the answer.
ASKED_BYTES = 512
HEAD_BYTES = 256
MESSAGE_BYTES = 256
# A message that is later than this was made so by the network.
FELT_S = 0.02
# Where in its jitter a delay may lie; the undisturbed run has none.
JITTERS = (0.0, 1.0, -1.0, 0.5, -0.5)


@dataclass(frozen=True, slots=True)
class Coming:
    """What comes out of the network at the caller's end.

    Attributes:
        at_s: when, in seconds since the call began; None for never.
        sent_s: when it would have come by a network without toxics.
        what: "head", "item", "answer" or "close"; "cut" or "reset" if the connection ends
            otherwise; "silent" if nothing comes any more and it does not end.
    """

    at_s: float | None
    sent_s: float
    what: str


def comings(
    toxics: Sequence[Toxic], tape: Tape, *, seconds: float, items: int, closes: bool
) -> list[Coming]:
    """Return what a caller gets of an answer that takes `seconds`, in order; the last one ends it.

    Args:
        items: how many items come on the way, evenly spread over the time.
        closes: whether the service's closing ends the answer, and not its last message.
    """
    up = [_Hop(toxic, tape) for toxic in toxics if toxic.stream == "upstream"]
    down = [_Hop(toxic, tape) for toxic in toxics if toxic.stream == "downstream"]
    at_s = _through(up, 0.0, ASKED_BYTES)
    ending = _ending(up)
    sends: list[tuple[float, str, int]] = []
    if at_s is not None:
        gap_s = seconds / (items + 1)
        if items:
            sends += [(0.0, "head", HEAD_BYTES)]
            sends += [(gap_s * (i + 1), "item", MESSAGE_BYTES) for i in range(items)]
        last = MESSAGE_BYTES if items else HEAD_BYTES + MESSAGE_BYTES
        sends += [(seconds, "answer", last)]
        sends += [(seconds, "close", 0)] if closes else []
    found: list[Coming] = []
    for after_s, what, size in sends:
        due_s = _through(down, (at_s or 0.0) + after_s, size)
        ending = min((e for e in (ending, _ending(down)) if e is not None), default=None)
        if ending is not None and (due_s is None or ending[0] < due_s):
            break
        if due_s is not None:
            # What a silent line swallowed is missing; the end that comes after it is a cut.
            lost = what == "close" and not any(c.what == "answer" for c in found)
            found.append(Coming(due_s, after_s, "cut" if lost else what))
    if found and found[-1].what in ("close", "cut"):
        return found
    if ending is not None:
        return [*found, Coming(ending[0], 0.0, ending[1])]
    if not closes and found and found[-1].what == "answer":
        return found
    return [*found, Coming(None, seconds, "silent")]


class _Hop:
    """One toxic on the way of one direction of one connection."""

    def __init__(self, toxic: Toxic, tape: Tape) -> None:
        self.type = toxic.type
        self.tape = tape
        had = toxic.attributes.get
        self.latency_s, self.jitter_s = had("latency", 0) / 1000, had("jitter", 0) / 1000
        self.rate = had("rate", 0) * 1000
        self.wait_s = (had("delay", 0) if toxic.type == "slow_close" else had("timeout", 0)) / 1000
        self.bytes_left = had("bytes", 0)
        self.free_s = 0.0
        self.ending: tuple[float, str] | None = None

    def leaves(self, at_s: float, size: int) -> float | None:
        """Return when what comes at `at_s` goes on, or None; a size of 0 is the closing."""
        match self.type:
            case "latency" if size:
                jitter = JITTERS[self.tape.choose("network", 5)] if self.jitter_s else 0.0
                at_s += max(0.0, self.latency_s + jitter * self.jitter_s)
            case "bandwidth" if size:
                if not self.rate:
                    return None
                at_s = max(self.free_s, at_s) + size / self.rate
            case "slow_close" if not size:
                at_s += self.wait_s
            case "timeout" if size:
                if self.wait_s:
                    self.ending = (at_s + self.wait_s, "cut")
                return None
            case "reset_peer":
                self.ending = self.ending or (at_s + self.wait_s, "reset")
                return None
            case "limit_data" if size:
                self.bytes_left -= size
                if self.bytes_left <= 0:
                    self.ending = self.ending or (at_s, "cut")
                    return at_s if self.bytes_left == 0 else None
        self.free_s = at_s = max(self.free_s, at_s)  # order is kept
        return at_s


def _through(hops: Sequence[_Hop], at_s: float, size: int) -> float | None:
    for hop in hops:
        gone_s = hop.leaves(at_s, size)
        if gone_s is None:
            return None
        at_s = gone_s
    return at_s


def _ending(hops: Sequence[_Hop]) -> tuple[float, str] | None:
    return min((hop.ending for hop in hops if hop.ending is not None), default=None)
