"""Random programs and plans from all of the step language, wilder than any scenario."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

from harness.kernel.plan import Plan
from harness.kernel.program import Program

__all__ = ["Writer", "random_case"]

SECONDS: list[Any] = [0, 0.5, 1, 1, 2, [0, 1, 2], [0.5, 1]]
ENDINGS: list[dict[str, Any]] = [
    *[{"op": "ok", "value": [1]}] * 12,
    {"op": "fail"},
    {"op": "raise", "error": "ValueError"},
    {"op": "raise", "error": "TimeoutError"},
    {"op": "raise", "error": "CancelledError"},
    {"op": "cancel_run", "reason": "why"},
    {"op": "cancel_branch", "reason": "why"},
    {"op": "skip", "reason": "why"},
    {"op": "never"},
]


class Writer:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.numbers: Iterator[int] = itertools.count()

    def name(self, prefix: str) -> str:
        return f"{prefix}{next(self.numbers)}"

    def step(self, depth: int, needs: list[str]) -> dict[str, Any]:
        rng = self.rng
        flat = "sleep sleep sleep acquire acquire cleanup chunk emit call thread heartbeat yield"
        deep = "timeout parallel spawn swallow subpipeline using generate"
        op = rng.choice((flat + (" " + deep if depth else "") + (" read" if needs else "")).split())
        match op:
            case "sleep" | "thread":
                return {"op": op, "seconds": rng.choice(SECONDS)}
            case "acquire" | "cleanup":
                fails, took = rng.random() < 0.1, rng.choice([0, 0.5, 1])
                return {"op": op, "name": self.name("r"), "cleanup_s": took, "fails": fails}
            case "chunk":
                return {"op": op, "value": next(self.numbers)}
            case "emit":
                return {"op": op, "type": "seen"}
            case "call":
                error = rng.choice([None, None, "ValueError", "TimeoutError"])
                limit = rng.choice([None, 0.5, 1])
                took = rng.choice(SECONDS)
                return {"op": op, "tool": "t", "seconds": took, "timeout_s": limit, "error": error}
            case "timeout":
                limit = rng.choice(SECONDS)
                steps = self.block(depth - 1, needs)
                return {"op": op, "label": self.name("l"), "seconds": limit, "steps": steps}
            case "parallel":
                return {"op": op, "branches": [self.block(depth - 1, needs) for _ in range(2)]}
            case "spawn" | "using":
                return {"op": op, "name": self.name("n"), "steps": self.block(depth - 1, needs)}
            case "swallow":
                return {"op": op, "times": 1, "steps": [{"op": "sleep", "seconds": 3}]}
            case "subpipeline":
                keep = rng.random() < 0.3
                return {"op": op, "program": self.program(depth - 1, 2), "keep": keep}
            case "generate":
                return {"op": op, "name": self.name("g"), "items": 2, "every_s": 0.5}
            case "read":
                return {"op": op, "stage": rng.choice(needs)}
            case _:
                return {"op": op}

    def block(self, depth: int, needs: list[str]) -> list[dict[str, Any]]:
        return [self.step(depth, needs) for _ in range(self.rng.randint(0, 4))]

    def program(self, depth: int, most: int) -> dict[str, Any]:
        rng = self.rng
        names = [self.name("s") for _ in range(rng.randint(1, most))]
        stages = []
        for i, name in enumerate(names):
            needs = [other for other in names[:i] if rng.random() < 0.4]
            steps = [*self.block(depth, needs), rng.choice(ENDINGS)]
            stage: dict[str, Any] = {"name": name, "needs": needs, "steps": steps}
            if rng.random() < 0.3:
                stage["timeout_s"] = rng.choice([0, 0.5, 1, 2])
            if rng.random() < 0.1:
                stage["idle_timeout_s"] = rng.choice([0.5, 1])
            stages.append(stage)
        rng.shuffle(stages)
        return {"name": self.name("program"), "stages": stages}

    def plan(self) -> dict[str, Any]:
        rng = self.rng
        plan: dict[str, Any] = {
            "stage_timeout_s": rng.choice([1, 2, 3, 40]),
            "on_failure": rng.choice(["cancel", "continue"]),
        }
        if rng.random() < 0.5:
            cancel: dict[str, Any] = {"times": rng.randint(1, 3), "gap_s": rng.choice([0, 0.25])}
            cancel |= rng.choice(
                [{"at_s": rng.choice([0, 0.5, 1])}, {"at_point": rng.randint(1, 80)}]
            )
            plan["cancels"] = [cancel]
        if rng.random() < 0.2:
            plan["runs"] = [{"id": "r0"}, {"id": "r1", "start_s": rng.choice([0, 0.5])}]
        return plan


def random_case(seed: int) -> tuple[Program, Plan]:
    """Return the program and plan of a seed."""
    writer = Writer(seed)
    program = Program.from_json(writer.program(2, 5))
    return program, Plan.from_json(writer.plan())
