"""Event overflow: more events than the sink takes, and sinks in trouble."""

from __future__ import annotations

from harness.contract.scenario import Pack
from scenarios.event_overflow.mission import EVENT_OVERFLOW
from scenarios.event_overflow.queue import QUEUE
from scenarios.event_overflow.sinks import SINKS

__all__ = ["PACK"]

PACK = Pack(
    id="event_overflow",
    title="Event sinks under load",
    page=(
        "Stages emit faster than the event sink takes; or the sink is slow, hangs, or raises. "
        "Every event has a number, so each is followed from its emission to the sink. Judged is "
        "an identity, not a rate: offered = delivered + dropped + pending, at each moment at "
        "which a stage looks at the engine's account, and against what really arrived. A policy "
        "may drop as much as it likes, as long as the account says so; what it must not do is "
        "lose an event without a trace, hold more than its queue, change a producer's order, or "
        "let the sink's trouble reach the stages. Scenarios that ask for no queue put engines "
        "that call the sink directly to the same tests, as far as these apply."
    ),
    scenarios=(*QUEUE, *SINKS),
    missions=(EVENT_OVERFLOW,),
)
