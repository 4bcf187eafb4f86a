"""How a stage was reached through its layers, in the layers' own words.

A *way* is one passage from the first layer that was entered towards the stage and back. An
engine that tries a stage again goes a way anew, from whichever layer its retry is put at. Hooks
called one after the other leave the same trace as functions nested in each other do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.contract.reading import Reading
from harness.kernel.plan import Layer

__all__ = ["ENGINES_OWN", "Way", "find_ways", "layers_of"]

# Layers of the engine's own, which note nothing in the journal.
ENGINES_OWN = ("circuit_breaker", "rate_limit", "idempotency")


@dataclass(slots=True, eq=False)
class Way:
    """One passage through the layers of one stage.

    Attributes:
        entered, exited: names of layers, in the order of their entries in the journal.
        again: a layer that was entered a second time began this way.
        refused: (position, layer, "raise" or "deny") of the layer that refused before the stage.
        started: position of the stage's start, or -1.
        outside: layers within which the stage should have started and did not.
        failed_after: (position, layer) of the layer that failed after the stage, or (-1, "").
    """

    run: str
    stage: str
    again: bool = False
    entered: list[str] = field(default_factory=list)
    exited: list[str] = field(default_factory=list)
    refused: tuple[int, str, str] = (-1, "", "")
    started: int = -1
    outside: tuple[str, ...] = ()
    failed_after: tuple[int, str] = (-1, "")


def layers_of(r: Reading, stage: str, *kinds: str) -> list[Layer]:
    """Return the plan's layers around a stage, outermost first; of some kinds if any is given."""
    return [
        one
        for one in r.plan.layers
        if (not one.stages or stage in one.stages) and (not kinds or one.kind in kinds)
    ]


def find_ways(r: Reading) -> dict[tuple[str, str], list[Way]]:
    """Return, by run and stage, the ways on which layers of the user's were to be passed."""
    noted = {
        name: [one.name for one in layers_of(r, name) if one.kind not in ENGINES_OWN]
        for name in r.program.names
    }
    ways: dict[tuple[str, str], list[Way]] = {}
    open_: dict[tuple[str, str, str], int] = {}
    for i, (_, run, stage, kind, detail) in enumerate(r.entries):
        if run not in r.runs or not noted.get(stage):
            continue
        here = ways.setdefault((run, stage), [])
        if kind == "layer.enter":
            twice = bool(here) and detail in here[-1].entered
            if not here or twice or here[-1].started >= 0:
                here.append(Way(run, stage, twice and here[-1].started < 0))
            here[-1].entered.append(detail)
            open_[run, stage, detail] = open_.get((run, stage, detail), 0) + 1
        elif kind == "stage.start":
            if not here or here[-1].started >= 0:
                here.append(Way(run, stage))
            here[-1].started = i
            here[-1].outside = tuple(n for n in noted[stage] if not open_.get((run, stage, n)))
        elif kind.startswith("layer.") and here:
            _note(here[-1], kind, i, detail)
            if kind == "layer.exit":
                key = (run, stage, detail[0])
                open_[key] = max(0, open_.get(key, 0) - 1)
    return {key: found for key, found in ways.items() if found}


def _note(way: Way, kind: str, position: int, detail: object) -> None:
    if kind == "layer.exit":
        assert isinstance(detail, tuple)  # (name, how), see the journal
        way.exited.append(detail[0])
    elif kind == "layer.deny":
        way.refused = (position, str(detail), "deny")
    elif kind == "layer.raise":
        if detail in way.exited:
            way.failed_after = (position, str(detail))
        else:
            way.refused = (position, str(detail), "raise")
