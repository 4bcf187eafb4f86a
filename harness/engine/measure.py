"""Measurements: what a run and its stages took, and how they ended, by tenant.

Handed to a plain callable, as one would hand them to a metrics library. The labels have few
values: whom a run was for, its pipeline, the stage and how it ended. Ids of runs are none, for
each would begin a series of its own; and nothing that a stage was handed or put out ever is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Measurement", "Measures"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured value.

    Attributes:
        name: `stage.duration_s` or `run.duration_s`.
        labels: tenant, pipeline, status; of a stage its name as well.
    """

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


Measures = Callable[[Measurement], None]
