"""Random programs with retries, flaky stages and compensations, under plans with redrives."""

from __future__ import annotations

from typing import Any

from harness.kernel.plan import Plan
from harness.kernel.program import Program
from tests.engine.random_programs import Writer

__all__ = ["random_recovery"]


class RecoveryWriter(Writer):
    """Lets stages of any program fail for a while, be tried again, and be undone."""

    def program(self, depth: int, most: int) -> dict[str, Any]:
        rng = self.rng
        found = super().program(depth, most)
        for stage in found["stages"]:
            steps: list[dict[str, Any]] = stage["steps"]
            for _ in range(rng.choice([0, 0, 1, 2])):
                undo = {"op": "compensate", "name": self.name("undo")}
                undo |= {"seconds": rng.choice([0, 0.5, 1]), "fails": rng.random() < 0.1}
                steps.insert(rng.randint(0, len(steps) - 1), undo)
            if rng.random() < 0.5:
                flaky = {"op": "flaky", "times": rng.randint(0, 4)}
                steps.insert(rng.randint(0, len(steps) - 1), flaky)
            if rng.random() < 0.5:
                stage["retry"] = {
                    "attempts": rng.randint(1, 4),
                    "backoff_s": rng.choice([0, 0.25, 0.5, 1]),
                    "factor": rng.choice([1, 2]),
                    "jitter_s": rng.choice([0, 0, 0.5]),
                }
        return found

    def plan(self) -> dict[str, Any]:
        rng = self.rng
        plan = super().plan()
        runs = [{"id": "r0"}]
        for i in range(1, rng.choice([1, 2, 3, 4])):
            runs.append({"id": f"r{i}", "redrives": f"r{rng.randint(0, i - 1)}"})
        return plan | {"runs": runs}


def random_recovery(seed: int) -> tuple[Program, Plan]:
    """Return the program and plan of a seed."""
    writer = RecoveryWriter(seed)
    program = Program.from_json(writer.program(2, 5))
    return program, Plan.from_json(writer.plan())
