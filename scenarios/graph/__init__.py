"""The graph itself: faulty ones are refused, sound ones run in order, side by side, at any size."""

from __future__ import annotations

from harness.contract.scenario import Pack, Scenario
from harness.kernel.plan import Plan
from harness.kernel.program import Stage
from scenarios.notation import ok, program, read, sleep, stage

__all__ = ["PACK"]

CHAIN = 1_000
WIDTH = 500


def _fault(name: str, title: str, purpose: str, *stages: Stage) -> Scenario:
    return Scenario(
        id=f"graph/{name}",
        title=title,
        program=program(name, *stages),
        # A graph that can never end must not take the laboratory's hour to say so.
        plan=Plan(horizon_s=60.0),
        clauses=("GRAPH-1",),
        purpose=purpose,
        category="baseline",
    )


FAULTS: tuple[Scenario, ...] = (
    _fault(
        "cycle",
        "Two stages wait for each other",
        "A pipeline with a cycle of two is built, beside a stage that could run.",
        stage("fetch", ok("page")),
        stage("parse", ok("text"), needs="fetch rank"),
        stage("rank", ok("ranked"), needs="parse"),
    ),
    _fault(
        "self_cycle",
        "A stage waits for itself",
        "A pipeline is built in which a stage names itself as a dependency.",
        stage("fetch", ok("page")),
        stage("parse", ok("text"), needs="parse"),
    ),
    _fault(
        "long_cycle",
        "Five stages in a ring",
        "A pipeline with a cycle of five is built; no stage of it can ever start.",
        *(stage(f"ring{i}", ok(i), needs=f"ring{(i + 1) % 5}") for i in range(5)),
    ),
    _fault(
        "unknown_dependency",
        "A dependency that does not exist",
        "A pipeline is built in which a stage waits for a name that nobody declared.",
        stage("fetch", ok("page")),
        stage("parse", ok("text"), needs="fetch normalise"),
    ),
    _fault(
        "duplicate_stage",
        "Two stages of one name",
        "A pipeline is built with the same name twice, for two different things.",
        stage("fetch", ok("first")),
        stage("fetch", ok("second")),
        stage("parse", ok("text"), needs="fetch"),
    ),
    _fault("empty", "No stages at all", "A pipeline without stages is built."),
)

RUNS: tuple[Scenario, ...] = (
    Scenario(
        id="graph/diamond_order",
        title="Order and concurrency in a diamond",
        program=program(
            "diamond_order",
            stage("fetch", sleep(0.2), ok("page")),
            stage("left", sleep(0.3, 0.0), read("fetch"), ok("left"), needs="fetch"),
            stage("right", sleep(0.4, 0.3), read("fetch"), ok("right"), needs="fetch"),
            stage("join", read("left"), read("right"), ok("joined"), needs="left right"),
        ),
        plan=Plan(),
        clauses=("GRAPH-2", "GRAPH-3", "CLEAN-5"),
        purpose="Each stage starts when what it needs has completed; the branches overlap.",
        category="baseline",
    ),
    Scenario(
        id="graph/layers",
        title="Three layers, each joined to all of the next",
        program=program(
            "layers",
            *(stage(f"a{i}", sleep(0.1, 0.2), ok(f"a{i}")) for i in range(4)),
            *(stage(f"b{i}", sleep(0.2, 0.1), ok(f"b{i}"), needs="a0 a1 a2 a3") for i in range(4)),
            *(stage(f"c{i}", sleep(0.1), ok(f"c{i}"), needs="b0 b1 b2 b3") for i in range(4)),
        ),
        plan=Plan(),
        clauses=("GRAPH-2", "GRAPH-3", "CLEAN-5"),
        purpose="Twelve stages in three layers, with ends that tie or come apart.",
    ),
    Scenario(
        id="graph/uneven_branches",
        title="A short branch beside a long one",
        program=program(
            "uneven_branches",
            stage("fetch", sleep(0.1), ok("page")),
            stage("title", sleep(0.1), ok("title"), needs="fetch"),
            stage("body", sleep(0.5, 0.1), ok("body"), needs="fetch"),
            stage("links", sleep(0.2), ok("links"), needs="title"),
            stage("store", ok("stored"), needs="links body"),
        ),
        plan=Plan(),
        clauses=("GRAPH-2", "CLEAN-5"),
        purpose="A short branch must go on to its next stage while the long one is at work.",
    ),
    Scenario(
        id="graph/declared_backwards",
        title="Stages declared last to first",
        program=program(
            "declared_backwards",
            stage("join", read("left"), read("right"), ok("joined"), needs="right left"),
            stage("right", sleep(0.2, 0.1), read("fetch"), ok("right"), needs="fetch"),
            stage("left", sleep(0.1), read("fetch"), ok("left"), needs="fetch"),
            stage("fetch", sleep(0.1), ok("page")),
        ),
        plan=Plan(),
        clauses=("GRAPH-3", "GRAPH-2", "CLEAN-5"),
        purpose="A diamond is declared in reverse order of its dependencies.",
    ),
    Scenario(
        id="graph/falsy_outputs",
        title="Outputs that are empty, zero or nothing",
        program=program(
            "falsy_outputs",
            stage("none", ok(None)),
            stage("zero", ok(0)),
            stage("blank", ok("")),
            stage("empty", ok([])),
            stage("reader", read("zero"), read("blank"), ok(False), needs="none zero blank empty"),
        ),
        plan=Plan(),
        clauses=("GRAPH-3", "GRAPH-2", "CLEAN-5"),
        purpose="An output that counts as false is an output like any other.",
        category="baseline",
    ),
    Scenario(
        id="graph/long_chain",
        title=f"A chain of {CHAIN:,} stages",
        program=program(
            "long_chain",
            stage("link0", ok(0)),
            *(stage(f"link{i}", ok(i), needs=f"link{i - 1}") for i in range(1, CHAIN)),
        ),
        plan=Plan(),
        clauses=("GRAPH-4", "GRAPH-2", "CLEAN-5"),
        purpose=f"{CHAIN:,} stages, each waiting for the one before.",
    ),
    Scenario(
        id="graph/wide",
        title=f"{WIDTH} stages side by side",
        program=program(
            "wide",
            *(stage(f"branch{i}", sleep(0.1), ok(i)) for i in range(WIDTH)),
            stage("join", ok("joined"), needs=" ".join(f"branch{i}" for i in range(WIDTH))),
        ),
        plan=Plan(),
        clauses=("GRAPH-4", "GRAPH-2", "CLEAN-5"),
        purpose=f"{WIDTH} stages at once, and one that waits for them all.",
    ),
)

PACK = Pack(
    id="graph",
    title="The graph itself",
    page=(
        "The ground that all else stands on: a faulty graph is refused where it is built, with "
        "the names of the stages at fault; a stage starts when all that it needs has completed "
        "and not before; independent stages run side by side; neither the order of declaration "
        "nor the schedule changes the outcome; and size costs no more than size."
    ),
    scenarios=(*FAULTS, *RUNS),
)
