"""The shape of a program: what checks ask of it again and again, found once."""

from __future__ import annotations

from harness.kernel.program import Program

__all__ = ["ProgramShape"]


class ProgramShape:
    """Facts about a program that no run changes.

    Attributes:
        faults: what makes its graph ill-formed (`Program.faults`).
        ops: the operations that occur anywhere in it, subpipelines' not.
        by_op: operation -> names of the stages in which it occurs.
        skippable: stages that may end without having run: those that can skip or cancel
            their branch, and all that depend on them.
    """

    __slots__ = ("by_op", "faults", "ops", "skippable")

    def __init__(self, program: Program) -> None:
        self.faults = program.faults()
        self.by_op: dict[str, set[str]] = {}
        for stage, one in program.walk():
            self.by_op.setdefault(one.op, set()).add(stage.name)
        self.ops = frozenset(self.by_op)
        ends = self.by_op.get("skip", set()) | self.by_op.get("cancel_branch", set())
        self.skippable = ends | {d for name in ends for d in program.descendants(name)}

    def stages_with(self, *ops: str) -> set[str]:
        """Return the stages in which any of these operations occurs."""
        return set().union(*(self.by_op.get(op, set()) for op in ops))
