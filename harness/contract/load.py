"""LOAD: what an engine must keep when many runs of many tenants are under way for long.

No single run shows these: they are about all requests of a load, and about the process that
served them. So nothing here judges a reading; `dagstorm load` judges users' records against the
ledger of what ran, and names these clauses. They stand apart from the catalogue, whose clauses
every campaign puts to the test.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.contract.clause import Clause, Judgement, untested
from harness.contract.reading import Reading

__all__ = ["LOAD"]


def _no_reading(_reading: Reading) -> Judgement:
    return untested()


_ALL = (
    Clause(
        "LOAD-1",
        "LOAD",
        "live on through a load, and answer after it",
        "critical",
        "reliability",
        _no_reading,
        {
            "": "The engine takes its process down under load",
            "silent-after-load": "After a load the engine's process does not answer any more",
        },
        "All runs of all users end with the process.",
        "Let nothing that one run does, or how many there are, reach the process.",
        effort="large",
        data_risk="medium",
        availability_risk="high",
        workaround="Run several processes behind a balancer that starts them again.",
    ),
    Clause(
        "LOAD-2",
        "LOAD",
        "answer each request of a load by the outputs of its own run, and bring every run to its "
        "end",
        "high",
        "correctness",
        _no_reading,
        {
            "": "Under load requests are lost",
            "output-lost": "Under load a run that went well lacks its own outputs",
            "never-answered": "Under load a request is never answered, and no run of it ends",
            "run-never-ended": "Runs are still under way after the load",
        },
        "Users wait for answers that never come, or get one without what they asked for.",
        "Hand each run's outputs to who asked for it, and bound how long a run may wait.",
        effort="medium",
        data_risk="high",
        availability_risk="high",
    ),
    Clause(
        "LOAD-3",
        "LOAD",
        "run each request of a load once, and begin each stage once in it and none after it",
        "high",
        "correctness",
        _no_reading,
        {
            "": "Under load work is done twice",
            "answered-twice": "Under load one request is answered twice",
            "stage-ran-twice": "Under load a stage is begun twice in one run",
            "handed-to-another-run": "Under load one request's input is handed to several runs",
            "stage-after-its-run": "Under load stages are begun for runs that are over",
        },
        "What must happen once (a payment, a message) happens twice.",
        "Keep what has begun in objects of the run, and take none that is over.",
        effort="medium",
        data_risk="high",
    ),
    Clause(
        "LOAD-4",
        "LOAD",
        "keep the requests that go wrong without a fault's doing within the error budget",
        "high",
        "reliability",
        _no_reading,
        {"": "Under load more requests go wrong than the error budget allows"},
        "More users are refused or get errors than was agreed on.",
        "Find what the errors have in common; where it is load, queue or refuse early.",
        effort="medium",
        availability_risk="high",
        workaround="Admit fewer runs at a time.",
    ),
    Clause(
        "LOAD-5",
        "LOAD",
        "give back what runs took: memory, descriptors, objects",
        "high",
        "reliability",
        _no_reading,
        {
            "": "The engine keeps what runs took",
            "memory-kept": "Memory is not given back after a load",
            "descriptors-kept": "Descriptors stay open after a load",
            "objects-leak": "Each run leaves objects behind",
            "memory-leak": "Each run leaves memory behind",
            "descriptors-leak": "Each run leaves descriptors open",
            "memory-grows": "Memory grows for as long as the load goes on",
        },
        "A process that serves for long runs out, and takes its runs with it.",
        "Drop what belongs to a run when it is over: caches, registries, closed-over contexts.",
        effort="medium",
        availability_risk="high",
        workaround="Start the process anew now and then.",
    ),
)

LOAD: Mapping[str, Clause] = {clause.id: clause for clause in _ALL}
