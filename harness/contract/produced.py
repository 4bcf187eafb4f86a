"""Everything that a run produced, as text, and whether another run's values are in it.

Each run is given values of its own (its inputs). They are looked for wherever text can be: in
every field of what the engine told of a run, keys included, and in all that its stages, sinks,
layers and consumers noted; plainly, in another case, backwards, as hexadecimal digits or in
base64. Where a value goes is not asked: a channel that nobody thought of is searched as well.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.contract.reading import Reading
from harness.kernel.journal import Entry
from harness.kernel.plan import RunSpec

__all__ = ["Found", "Searched", "by_run", "ids_seen", "owner", "planted"]

# A shorter text may be anywhere by chance; one that is planted as a marker is meant to be found.
CHARS_MIN = 6
MARKER_CHARS_MIN = 3
DEPTH_MAX = 12
PREFIX_CHARS_MIN = 6

# What an attack on the store sees is judged by TENANT-3 alone.
NOT_SEARCHED = frozenset({"trespass"})
_TO_STANDARD = str.maketrans("-_", "+/")

# Where in an outcome, or in which kind of entry, a value was found -> the channel.
CHANNELS: Mapping[str, str] = {
    "stages": "outputs",
    "read": "outputs",
    "returned": "outputs",
    "chunk": "outputs",
    "consume": "outputs",
    "events": "events",
    "event_reports": "events",
    "deliver.begin": "events",
    "deliver.end": "events",
    "deliver.cut": "events",
    "deliver.fail": "events",
    "logs": "logs",
    "metrics": "metrics",
    "sink": "metrics",
    "spans": "spans",
    "raised": "errors",
    "failures": "errors",
    "reason": "errors",
    "error_ids": "errors",
    "cleanup_failures": "errors",
    "compensation_failures": "errors",
    "stored": "store",
    "input": "context",
    "identity": "context",
    "context": "context",
}


def owner(run: str, specs: Mapping[str, RunSpec]) -> str | None:
    """Return the run of the plan that a run id belongs to: itself, or the child of which it is.

    A child's id begins with its parent's, or it is nobody's that is known.
    """
    while run not in specs:
        run, slash, _ = run.rpartition("/")
        if not slash:
            return None
    return run


def by_run(r: Reading, kind: str) -> dict[str, list[tuple[int, Entry]]]:
    """Return the entries of one kind with their positions, by the plan's run that they are of."""
    specs = {spec.id: spec for spec in r.plan.runs}
    out: dict[str, list[tuple[int, Entry]]] = {}
    for i, entry in enumerate(r.entries):
        if entry.kind == kind and (run := owner(entry.run, specs)) is not None:
            out.setdefault(run, []).append((i, entry))
    return out


def texts(value: Any, depth: int = DEPTH_MAX) -> Iterator[str]:
    """Yield every text in a value, however deep, keys and numbers too."""
    if isinstance(value, str):
        yield value
    elif value is None or isinstance(value, bool) or not depth:
        return
    elif isinstance(value, (int, float)):
        yield str(value)
    elif isinstance(value, (bytes, bytearray)):
        yield bytes(value).decode("latin-1")
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from texts(key, depth - 1)
            yield from texts(one, depth - 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for one in value:
            yield from texts(one, depth - 1)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from texts(getattr(value, name, None), depth - 1)
    else:
        yield repr(value)
        if isinstance(value, BaseException):
            yield from texts(value.args, depth - 1)
        yield from texts(getattr(value, "__dict__", None), depth - 1)


def planted(spec: RunSpec) -> list[str]:
    """Return the values that were planted in a run: the texts of its inputs, not their names."""
    return [
        text
        for key, value in spec.inputs.items()
        for text in texts(value)
        if len(text) >= (MARKER_CHARS_MIN if key == "marker" else CHARS_MIN)
    ]


def _plain_forms(value: str) -> list[str]:
    folded = value.casefold()
    if len(value) < CHARS_MIN:
        return [folded]
    return [folded, folded[::-1], value.encode().hex()]


def _base64_forms(value: str) -> list[str]:
    """Return the digits that a text has in base64 whatever stands before and after it."""
    forms: list[str] = []
    if len(value) < CHARS_MIN:
        return forms
    data = value.encode()
    for before in range(3):
        digits = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
        # The first digits also hold bits of what stands before, the last of what follows.
        first = -(-before * 8 // 6)
        forms.append(digits[first : (before + len(data)) * 8 // 6])
    return forms


def _prefix(values: list[str]) -> str:
    """Return what all values begin with; the least and the greatest of them tell."""
    low, high = min(values, default=""), max(values, default="")
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), None)
    return low if same is None else low[:same]


class _Text:
    """The text of one run, ready to be searched."""

    __slots__ = ("folded", "raw")

    def __init__(self, parts: Iterable[str]) -> None:
        whole = "\0".join(parts)
        self.folded = whole.casefold()
        self.raw = whole.translate(_TO_STANDARD)

    def has(self, value: str) -> bool:
        return any(form in self.folded for form in _plain_forms(value)) or any(
            form in self.raw for form in _base64_forms(value)
        )

    def without(self, values: Iterable[str]) -> _Text:
        """Return the text with a run's own values taken out of it."""
        rest = _Text(())
        rest.folded, rest.raw = self.folded, self.raw
        for value in values:
            for form in _plain_forms(value):
                rest.folded = rest.folded.replace(form, "")
            for form in _base64_forms(value):
                rest.raw = rest.raw.replace(form, "")
        return rest


@dataclass(frozen=True, slots=True)
class Found:
    """A value of run `of` in what run `run` produced.

    Attributes:
        where: the field of the outcome, or the kind of entry.
        at: position of the entry in the journal, or -1.
    """

    run: str
    of: str
    value: str
    where: str
    stage: str = ""
    at: int = -1

    @property
    def channel(self) -> str:
        return CHANNELS.get(self.where, "context")


class Searched:
    """What each run of a plan produced, and what was planted in it."""

    def __init__(self, r: Reading, *, leave_out: frozenset[str] = frozenset()) -> None:
        self._r = r
        self._leave_out = leave_out | NOT_SEARCHED
        self.specs = {spec.id: spec for spec in r.plan.runs}
        self.values = {run: planted(spec) for run, spec in self.specs.items()}
        self._entries: dict[str, list[tuple[int, Entry]]] = {run: [] for run in self.specs}
        for i, entry in enumerate(r.entries):
            run = owner(entry.run, self.specs)
            if run is not None and entry.kind not in self._leave_out:
                self._entries[run].append((i, entry))

    def runs(self) -> list[str]:
        """Return the runs that had values planted and that produced anything."""
        return [run for run in self.specs if self.values[run] and self._entries[run]]

    def foreign(self, may_see: Callable[[RunSpec, RunSpec], bool]) -> list[Found]:
        """Return one finding for each run in which another one's value was found.

        Args:
            may_see: (run, other) -> whether a value of the other is no secret from the run.
        """
        found: list[Found] = []
        runs = self.runs()
        prefix = _prefix([value for run in runs for value in self.values[run]])
        for run in runs:
            mine = self.specs[run]
            open_ = [o for o in runs if o == run or may_see(mine, self.specs[o])]
            known = [value for o in open_ for value in self.values[o]]
            others = [o for o in runs if o not in open_]
            if not others:
                continue
            whole = _Text(self._texts(run))
            rest = whole.without(known)
            longer = [v for o in others for v in self.values[o] if any(own in v for own in known)]
            # All markers begin alike as a rule: then one look tells whether any is there.
            if len(prefix) >= PREFIX_CHARS_MIN and not longer and not rest.has(prefix):
                continue
            found += self._look(run, others, known, (whole, rest))
        return found

    def _look(
        self, run: str, others: list[str], known: list[str], text: tuple[_Text, _Text]
    ) -> list[Found]:
        whole, rest = text
        for other in others:
            for value in self.values[other]:
                # A value that holds one of the run's own is gone from what is left of the text.
                held = any(own in value for own in known)
                if any(value in own for own in known) or not (whole if held else rest).has(value):
                    continue
                if value in repr(self._r.program.to_json()):
                    continue  # the program itself says it
                return [self._place(run, other, value, known)]
        return []

    def _place(self, run: str, of: str, value: str, known: list[str]) -> Found:
        """Say where the value is, as exactly as can be."""
        known = [own for own in known if own not in value]
        for i, entry in self._entries[run]:
            if _Text(texts(entry.detail)).without(known).has(value):
                return Found(run, of, value, entry.kind, entry.stage, i)
        outcome = self._r.outcome(run)
        for name in self._fields(outcome):
            if _Text(texts(getattr(outcome, name))).without(known).has(value):
                return Found(run, of, value, name)
        return Found(run, of, value, "")

    def _texts(self, run: str) -> Iterator[str]:
        for _, entry in self._entries[run]:
            if entry.detail is not None:
                yield from texts(entry.detail)
        outcome = self._r.outcome(run)
        for name in self._fields(outcome):
            yield from texts(getattr(outcome, name))

    def _fields(self, outcome: Any) -> list[str]:
        if outcome is None:
            return []
        return [name for name in outcome.__dataclass_fields__ if name not in self._leave_out]


def ids_seen(r: Reading, specs: Mapping[str, RunSpec]) -> Iterator[tuple[str, str, str, Any, int]]:
    """Yield (run of the plan, place, stage, ids, journal position or -1) wherever ids were seen:
    by code of its stages, on its events, log records, measurements and error."""
    for i, entry in enumerate(r.entries):
        if entry.kind == "identity":
            run = owner(entry.run, specs)
            if run is not None:
                place, ids = entry.detail
                yield run, place, entry.stage, ids, i
    for run in specs:
        outcome = r.outcome(run)
        if outcome is None:
            continue
        for event in outcome.event_reports:
            yield run, "event", "", event.ids, -1
        for record in outcome.logs:
            yield run, "log", "", record.ids, -1
        for measured in outcome.metrics:
            yield run, "metric", "", measured.labels, -1
        if outcome.error_ids:
            yield run, "error", "", outcome.error_ids, -1
