"""A program: the stages of a pipeline and what each does, as plain, versioned data.

A program says nothing of any engine. An adapter turns it into the engine's own
pipeline. Ill-formed graphs (cycles, unknown dependencies, duplicates) are allowed
here, because that an engine refuses them is a clause of the contract; `Program.faults`
names them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from harness.kernel.errors import InputError
from harness.kernel.steps import LIMIT_STEPS, OPS, Step, parse_block, walk

__all__ = ["PROGRAM_VERSION", "Program", "Retry", "Stage"]

PROGRAM_VERSION = 1
LIMIT_STAGES = 5_000
# What still is a number of seconds to a clock; infinity and NaN are cases of their own.
LIMIT_TIMEOUT_S = 1e300


@dataclass(frozen=True, slots=True)
class Retry:
    """How the engine is to retry a stage that fails.

    Attributes:
        attempts: executions in all, the first included.
        backoff_s: seconds from a failure to the next execution; times `factor` after each.
        jitter_s: how many seconds the engine may add to a wait by chance.
    """

    attempts: int = 3
    backoff_s: float = 0.1
    factor: float = 2.0
    jitter_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage.

    Attributes:
        name: unique within the program.
        steps: what the stage does; a stage that runs off the end finishes ok with None.
        needs: names of the stages whose completion it waits for.
        timeout_s: the stage's own timeout in seconds, or None. Numbers that no engine
            should take (negative, NaN) are allowed: refusing them is a clause.
        idle_timeout_s: seconds without a heartbeat after which it is ended, or None.
        retry: how the engine is to retry it, or None for not at all.
    """

    name: str
    steps: tuple[Step, ...] = ()
    needs: tuple[str, ...] = ()
    timeout_s: float | None = None
    idle_timeout_s: float | None = None
    retry: Retry | None = None

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"name": self.name, "steps": [s.to_json() for s in self.steps]}
        if self.needs:
            out["needs"] = list(self.needs)
        if self.timeout_s is not None:
            out["timeout_s"] = self.timeout_s
        if self.idle_timeout_s is not None:
            out["idle_timeout_s"] = self.idle_timeout_s
        if self.retry is not None:
            out["retry"] = asdict(self.retry)
        return out


@dataclass(frozen=True, slots=True)
class Program:
    """Stages in order of declaration."""

    stages: tuple[Stage, ...]
    name: str = "program"

    def stage(self, name: str) -> Stage:
        """Return the first stage of that name; raises `KeyError` if there is none."""
        for one in self.stages:
            if one.name == name:
                return one
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.stages)

    def walk(self) -> Iterator[tuple[Stage, Step]]:
        """Yield (stage, step) for every step, nested ones included, subpipelines not."""
        for stage in self.stages:
            for one in walk(stage.steps):
                yield stage, one

    def descendants(self, name: str) -> frozenset[str]:
        """Return the names of all stages that depend on `name`, directly or not."""
        children: dict[str, list[str]] = {}
        for one in self.stages:
            for need in one.needs:
                children.setdefault(need, []).append(one.name)
        found: set[str] = set()
        frontier = list(children.get(name, ()))
        while frontier:
            child = frontier.pop()
            if child not in found:
                found.add(child)
                frontier += children.get(child, ())
        return frozenset(found)

    def faults(self) -> tuple[str, ...]:
        """Name what makes the graph ill-formed: empty, duplicate, unknown dependency, cycle."""
        found: list[str] = []
        if not self.stages:
            found.append("empty")
        names = self.names
        found += [f"duplicate {n}" for n, count in Counter(names).items() if count > 1]
        known = set(names)
        for stage in self.stages:
            found += [f"unknown {dep}" for dep in stage.needs if dep not in known]
        on_cycle = [n for n in self._unsorted() if n in self.descendants(n)]
        if on_cycle:
            found.append(f"cycle {' '.join(on_cycle)}")
        return tuple(found)

    def _unsorted(self) -> list[str]:
        """Return the stages that no topological order can place: those on or below a cycle."""
        known = set(self.names)
        left = {s.name: {n for n in s.needs if n in known} for s in self.stages}
        children: dict[str, list[str]] = {}
        for name, needs in left.items():
            for need in needs:
                children.setdefault(need, []).append(name)
        ready = [name for name, needs in left.items() if not needs]
        while ready:
            done = ready.pop()
            del left[done]
            for child in children.get(done, ()):
                if child in left:
                    left[child].discard(done)
                    if not left[child]:
                        ready.append(child)
        return list(left)

    def with_durations(self, chosen: Mapping[int, float]) -> Program:
        """Return the program with each list of durations replaced by the one chosen in a run
        (`RunRecord.chosen`), the first where none was; so a script does what that run did."""

        def settle(value: Any) -> Any:
            if isinstance(value, Step):
                shapes = OPS[value.op].fields
                args = {
                    k: chosen.get(id(v), v[0])
                    if shapes[k].shape == "duration" and isinstance(v, tuple)
                    else settle(v)
                    for k, v in value.args.items()
                }
                return Step(value.op, args)
            if isinstance(value, tuple):
                return tuple(settle(v) for v in value)
            if isinstance(value, Program):
                return value.with_durations(chosen)
            return value

        stages = tuple(replace(s, steps=settle(s.steps)) for s in self.stages)
        return Program(stages, self.name)

    def to_json(self) -> dict[str, Any]:
        return {
            "version": PROGRAM_VERSION,
            "name": self.name,
            "stages": [s.to_json() for s in self.stages],
        }

    @classmethod
    def from_json(cls, data: object, *, where: str = "program") -> Program:
        """Check and build a program from JSON data.

        Raises:
            InputError: naming the place, what was expected and what came.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"{where}: expected an object with 'stages'")
        unknown = set(data) - {"version", "name", "stages"}
        if unknown:
            raise InputError(f"{where}: unknown field {sorted(unknown)[0]!r}")
        version = data.get("version", PROGRAM_VERSION)
        if version != PROGRAM_VERSION:
            raise InputError(f"{where}: version {version!r} is not {PROGRAM_VERSION}")
        stages = data.get("stages")
        if not isinstance(stages, (list, tuple)):
            raise InputError(f"{where}.stages: expected a list of stages")
        if len(stages) > LIMIT_STAGES:
            raise InputError(f"{where}.stages: at most {LIMIT_STAGES}, got {len(stages)}")
        name = data.get("name", "program")
        if not isinstance(name, str):
            raise InputError(f"{where}.name: expected a text, got {name!r}")
        try:
            program = cls(
                tuple(_stage(s, where=f"{where}.stages[{i}]") for i, s in enumerate(stages)), name
            )
            count = sum(1 for _ in program.walk())
        except RecursionError:
            raise InputError(f"{where}: its steps or values are nested too deeply") from None
        if count > LIMIT_STEPS:
            raise InputError(f"{where}: at most {LIMIT_STEPS} steps, got {count}")
        return program


def _stage(data: object, *, where: str) -> Stage:
    if isinstance(data, Stage):
        return data
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: expected an object with 'name' and 'steps'")
    unknown = set(data) - {"name", "steps", "needs", "timeout_s", "idle_timeout_s", "retry"}
    if unknown:
        raise InputError(f"{where}: unknown field {sorted(unknown)[0]!r}")
    name = data.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= 100:
        raise InputError(f"{where}.name: expected 1 to 100 characters, got {name!r}")
    needs = data.get("needs", ())
    if not isinstance(needs, (list, tuple)) or not all(isinstance(n, str) for n in needs):
        raise InputError(f"{where}.needs: expected a list of stage names, got {needs!r}")
    limits: dict[str, float | None] = {}
    for key in ("timeout_s", "idle_timeout_s"):
        value = data.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise InputError(f"{where}.{key}: expected seconds as a number, got {value!r}")
        if value is not None and LIMIT_TIMEOUT_S < abs(value) < math.inf:
            raise InputError(f"{where}.{key}: expected at most {LIMIT_TIMEOUT_S:g} s, got more")
        limits[key] = value
    return Stage(
        name=name,
        steps=parse_block(data.get("steps", ()), where=f"{where}.steps"),
        needs=tuple(needs),
        retry=_retry(data.get("retry"), where=f"{where}.retry"),
        **limits,
    )


def _retry(data: object, *, where: str) -> Retry | None:
    if data is None or isinstance(data, Retry):
        return data
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: expected an object, got {data!r}")
    known = {f.name for f in fields(Retry)}
    if unknown := set(data) - known:
        raise InputError(f"{where}: unknown field {sorted(unknown)[0]!r}; known: {sorted(known)}")
    for name, value in data.items():
        low, high = (1, 1_000) if name in ("attempts", "factor") else (0, 86_400)
        whole = name == "attempts"
        ok = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not ok or not low <= value <= high:
            kind = "whole number" if whole else "number"
            raise InputError(
                f"{where}.{name}: expected a {kind} from {low} to {high}, got {value!r}"
            )
    return Retry(**data)


def needed_capabilities(program: Program) -> frozenset[str]:
    """Return the engine capabilities that the program's own steps and stages need."""
    needs: set[str] = set()
    for _, one in program.walk():
        capability = OPS[one.op].needs
        if capability is not None:
            needs.add(capability)
        if one.op == "call" and one.args["timeout_s"] is not None:
            needs.add("tool_timeout")
        if one.args.get("identify"):
            needs.add("identity")
        if one.op == "subpipeline":
            needs |= needed_capabilities(one.args["program"])
    for stage in program.stages:
        if stage.timeout_s is not None:
            needs.add("stage_timeout_each")
        if stage.idle_timeout_s is not None:
            needs.add("heartbeat")
        if stage.retry is not None:
            needs.add("retry")
    return frozenset(needs)
