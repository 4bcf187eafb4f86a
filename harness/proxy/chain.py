"""The toxics of one proxy, and their way onto its open links.

A toxic is listed from its creation on. It works from its start (at once, or after
`start_after_ms`) to its removal (by a request, by a reset, or after `duration_ms`). Every
change is made on all open links before the request is answered, and none of them waits for
anybody: a reader that has stalled holds nothing up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from harness.proxy.core import Core
from harness.proxy.errors import (
    INVALID_STREAM,
    INVALID_TYPE,
    TOXIC_EXISTS,
    TOXIC_NOT_FOUND,
    ApiError,
)
from harness.proxy.gojson import BodyError, fields
from harness.proxy.link import Link
from harness.proxy.toxics import ATTRIBUTES, DIRECTIONS, Toxic, attributes_of

__all__ = ["Chain"]

_TIMES = {"start_after_ms": "int", "duration_ms": "int"}
_CREATED = {
    "name": "string",
    "type": "string",
    "stream": "string",
    "toxicity": "float32",
    "attributes": "object",
    **_TIMES,
}
_UPDATED = {"toxicity": "float32", "attributes": "object", **_TIMES}


class Chain:
    """What is between a proxy's clients and its upstream.

    Attributes:
        working: direction to the toxics that are at work, in the order in which they started.
    """

    def __init__(self, core: Core, links: Callable[[str], Iterable[Link]]) -> None:
        self._core = core
        self._links = links
        self._toxics: list[Toxic] = []
        self.working: dict[str, list[Toxic]] = {direction: [] for direction in DIRECTIONS}

    def as_json(self) -> list[dict[str, Any]]:
        """Return the toxics, those of the upstream direction first."""
        ordered = sorted(self._toxics, key=lambda toxic: DIRECTIONS.index(toxic.direction))
        return [toxic.as_json() for toxic in ordered]

    def get(self, name: str) -> Toxic:
        for toxic in self._toxics:
            if toxic.name == name:
                return toxic
        raise ApiError(*TOXIC_NOT_FOUND)

    def add(self, value: Any) -> Toxic:
        """Create a toxic from a parsed body. Raises ApiError, and then nothing has changed."""
        given = _fields(value, _CREATED)
        stream: str = given.get("stream", "downstream")
        if stream.lower() not in DIRECTIONS:
            raise ApiError(*INVALID_STREAM)
        type_: str = given.get("type", "")
        name: str = given.get("name") or f"{type_}_{stream}"
        if type_ not in ATTRIBUTES:
            raise ApiError(*INVALID_TYPE)
        if any(toxic.name == name for toxic in self._toxics):
            raise ApiError(*TOXIC_EXISTS)
        if len(self._toxics) >= self._core.limits.toxics_per_proxy_max:
            raise ApiError(507, f"too many toxics: a proxy has {len(self._toxics)} at most")
        toxic = Toxic(
            name=name,
            type=type_,
            stream=stream,
            toxicity=given.get("toxicity", 1.0),
            attributes=_attributes(type_, given.get("attributes")),
            start_after_ms=given.get("start_after_ms"),
            duration_ms=given.get("duration_ms"),
        )
        self._toxics.append(toxic)
        if toxic.start_after_ms is not None and toxic.start_after_ms > 0:
            self._after(toxic.start_after_ms, toxic, self._start)
        else:
            self._start(toxic)
        return toxic

    def update(self, name: str, value: Callable[[], Any]) -> Toxic:
        """Change attributes, toxicity or times; what is not given keeps its value.

        New times count from now; a toxic that works keeps working.
        """
        toxic = self.get(name)
        given = _fields(value(), _UPDATED)
        attributes = _attributes(toxic.type, given.get("attributes"), toxic.attributes)
        toxic.attributes = attributes
        toxic.toxicity = given.get("toxicity", toxic.toxicity)
        if "duration_ms" in given or ("start_after_ms" in given and not toxic.started):
            toxic.duration_ms = given.get("duration_ms", toxic.duration_ms)
            if not toxic.started:
                toxic.start_after_ms = given.get("start_after_ms", toxic.start_after_ms)
            self._time(toxic)
        if toxic.started:
            for link in self._links(toxic.direction):
                link.update(toxic)
        return toxic

    def remove(self, name: str) -> None:
        self._remove(self.get(name))

    def clear(self) -> None:
        for toxic in list(self._toxics):
            self._remove(toxic)

    def _start(self, toxic: Toxic) -> None:
        toxic.started = True
        self.working[toxic.direction].append(toxic)
        for link in self._links(toxic.direction):
            link.add(toxic)
        self._time(toxic)

    def _time(self, toxic: Toxic) -> None:
        """Set the alarms that the toxic's times ask for, from now on."""
        for alarm in toxic.alarms:
            alarm.cancel()
        toxic.alarms.clear()
        if not toxic.started:
            self._after(toxic.start_after_ms or 0, toxic, self._start)
        elif toxic.duration_ms is not None:
            self._after(toxic.duration_ms, toxic, self._remove)

    def _after(self, delay_ms: int, toxic: Toxic, do: Callable[[Toxic], None]) -> None:
        when = time.monotonic() + max(0, delay_ms) / 1000
        toxic.alarms.append(self._core.alarms.at(when, lambda: do(toxic)))

    def _remove(self, toxic: Toxic) -> None:
        for alarm in toxic.alarms:
            alarm.cancel()
        toxic.alarms.clear()
        self._toxics.remove(toxic)
        if toxic.started:
            self.working[toxic.direction].remove(toxic)
            for link in self._links(toxic.direction):
                link.remove(toxic)


def _fields(value: Any, kinds: dict[str, str]) -> dict[str, Any]:
    try:
        return fields(value, kinds, "", "toxics.ToxicWrapper")
    except BodyError as exc:
        raise ApiError(400, f"bad request body: {exc}") from None


def _attributes(
    type_: str, given: Any, present: dict[str, int | float] | None = None
) -> dict[str, int | float]:
    try:
        return attributes_of(type_, given, present)
    except BodyError as exc:
        raise ApiError(400, f"bad request body: {exc}") from None
