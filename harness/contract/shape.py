"""The shape of a program: what checks ask of it again and again, found once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.kernel.program import Program
from harness.kernel.steps import Step, blocks

__all__ = ["ProgramShape"]


class ProgramShape:
    """Facts about a program that no run changes.

    Attributes:
        faults: what makes its graph ill-formed (`Program.faults`).
        ops: the operations that occur anywhere in it, subpipelines' not.
        by_op: operation -> names of the stages in which it occurs.
        skippable: stages that may end without having run: those that can skip or cancel
            their branch, and all that depend on them.
        tool_limits: (stage, tool) -> the timeouts, in seconds, that calls of it may have.
        attempts: stage -> how often the engine may run it in a run, for those that are to be
            retried; those of subpipelines' too.
        unordered: stages that hold resources in tasks of their own, or release them early, those
            of subpipelines too: their cleanups have no order among each other.
        detaches: a stage starts a task that it does not wait for; subpipelines' too.
        own_calls: (stage, tool) that are called in tasks of the stage's own; subpipelines' too.
        own_children: (stage, name) of subpipelines that only such tasks run; subpipelines' too.
        own_scopes: (stage, label) of timeouts that only such tasks set: they reach those, and
            never the stage; subpipelines' too.
    """

    __slots__ = (
        "attempts",
        "by_op",
        "detaches",
        "faults",
        "ops",
        "own_calls",
        "own_children",
        "own_scopes",
        "skippable",
        "tool_limits",
        "unordered",
    )

    def __init__(self, program: Program) -> None:
        self.faults = program.faults()
        self.by_op: dict[str, set[str]] = {}
        for stage, one in program.walk():
            self.by_op.setdefault(one.op, set()).add(stage.name)
        self.ops = frozenset(self.by_op)
        ends = self.by_op.get("skip", set()) | self.by_op.get("cancel_branch", set())
        self.skippable = ends | {d for name in ends for d in program.descendants(name)}
        self.attempts = dict(_attempts(program))
        self.tool_limits: dict[tuple[str, str], set[float]] = {}
        for caller, one in _calls(program):
            limit = one.args["timeout_s"]
            limits = limit if isinstance(limit, tuple) else (limit,)
            self.tool_limits.setdefault((caller, one.args["tool"]), set()).update(limits)
        self.detaches = any(
            one.op == "spawn" and not one.args["join"] for _, one, _ in _placed(program)
        )
        self.own_calls = frozenset(
            (stage, one.args["tool"])
            for stage, one, own in _placed(program)
            if own and one.op == "call"
        )
        self.own_scopes = _only_in_tasks(program, "timeout")
        self.own_children = _only_in_tasks(program, "subpipeline")
        self.unordered = frozenset(_unordered(program))

    def stages_with(self, *ops: str) -> set[str]:
        """Return the stages in which any of these operations occurs."""
        return set().union(*(self.by_op.get(op, set()) for op in ops))


def _unordered(program: Program) -> Iterator[str]:
    for stage, one in program.walk():
        if one.op in ("parallel", "spawn", "release"):
            yield stage.name
        elif one.op == "subpipeline":
            yield from _unordered(one.args["program"])


def _calls(program: Program) -> Iterator[tuple[str, Step]]:
    """Yield (stage, step) for calls with a timeout of their own, subpipelines' too."""
    for stage, one in program.walk():
        if one.op == "call" and one.args["timeout_s"] is not None:
            yield stage.name, one
        elif one.op == "subpipeline":
            yield from _calls(one.args["program"])


def _only_in_tasks(program: Program, op: str) -> frozenset[tuple[str, str]]:
    """Return (stage, label or name) of what steps of an operation set up in tasks of stages'
    own, and nowhere else."""
    by_place: dict[bool, set[tuple[str, str]]] = {True: set(), False: set()}
    for stage, one, own in _placed(program):
        if one.op == op:
            name = one.args["label"] if op == "timeout" else one.args["program"].name
            by_place[own].add((stage, name))
    return frozenset(by_place[True] - by_place[False])


def _placed(program: Program) -> Iterator[tuple[str, Step, bool]]:
    """Yield (stage, step, whether a task of the stage's own takes it), subpipelines' too."""
    for stage in program.stages:
        for one, own in _with_place(stage.steps, own=False):
            yield stage.name, one, own
            if one.op == "subpipeline":
                yield from _placed(one.args["program"])


def _with_place(block: Sequence[Step], *, own: bool) -> Iterator[tuple[Step, bool]]:
    """Yield every step of a block, and whether a task of the stage's own takes it."""
    for one in block:
        yield one, own
        inner = own or one.op in ("parallel", "spawn")
        for part in blocks(one):
            yield from _with_place(part, own=inner)


def _attempts(program: Program) -> Iterator[tuple[str, int]]:
    for stage in program.stages:
        if stage.retry is not None:
            yield stage.name, stage.retry.attempts
    for _, one in program.walk():
        if one.op == "subpipeline":
            yield from _attempts(one.args["program"])
