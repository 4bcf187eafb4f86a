"""What a defect is: one method of the reference engine, overridden wrongly.

The engine itself knows nothing of its defects: there are no switches in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.engine.context import Context
from harness.engine.job import Job
from harness.engine.pipeline import Pipeline
from harness.engine.run import Run

__all__ = ["Defect", "defect"]


@dataclass(frozen=True, slots=True)
class Defect:
    """A deliberately broken engine.

    Attributes:
        breaks: ids of the clauses that it breaks, the one it is there for first.
        says: what it does wrong, in one sentence.
        engine: the broken engine, used in place of `Pipeline`.
    """

    name: str
    breaks: tuple[str, ...]
    says: str
    engine: type[Pipeline]


def defect(
    name: str,
    breaks: str,
    says: str,
    *,
    pipeline: type[Pipeline] = Pipeline,
    run: type[Run] = Run,
    context: type[Context] = Context,
    job: type[Job] = Job,
) -> Defect:
    """Put a broken engine together from the parts that are broken; `breaks` is a list of ids."""
    if context is not Context or job is not Job:
        run = type("BrokenRun", (run,), {"context_type": context, "job_type": job})
    engine = type("BrokenPipeline", (pipeline,), {"run_type": run})
    return Defect(name, tuple(breaks.split()), says, engine)
