"""The generator of programs that nobody wrote: some tens of microseconds each.

It writes what a careful user could write, so that what goes wrong is the engine's doing: a
resource is held in a `finally`, what a stage reads it also needs, a stage that waits for ever
has a timeout. Nothing is parsed or checked here, which would cost more than the run; a test
holds what it writes against the checked readers of programs and plans.

Longer than most: a function for each step that can be written, none of them long.
"""

from __future__ import annotations

import random
from typing import Any

from harness.kernel.plan import Plan
from harness.kernel.program import Program, Retry, Stage
from harness.kernel.steps import Step
from harness.lab.search.circumstances import plan_for
from harness.lab.search.features import Swarm

__all__ = ["TOOLS", "generate"]

TOOLS = ("bank", "search")
DEPTH_MAX = 2
# Ways at another tenant's rows: by reading, by writing, by the session itself.
ATTACKS = (
    *("read_all", "read_by_key", "count", "update_all", "delete_victim", "delete_all", "replace"),
    *("drop", "set_tenant", "pooled_connection", "attach_again", "new_view", "infer_by_put"),
)
LARGE_STAGES = 1_100
LARGE_WIDE = 260

Seconds = float | tuple[float, ...]


def generate(
    rng: random.Random, capabilities: frozenset[str], swarm: Swarm
) -> tuple[Program, Plan]:
    """Return a program and the circumstances to run it under.

    Args:
        capabilities: of the engine; nothing is written that needs another one.
        swarm: the features that are switched on, which those capabilities must allow.
    """
    on = swarm.on
    if "large" in on:
        return _large(rng), Plan()
    writer = _Writer(rng, swarm, capabilities)
    program = writer.program("program", 1 + int(rng.random() * swarm.stages_max), 0)
    if "ill_formed" in on:
        return _ill_formed(rng, program), Plan()
    return program, plan_for(rng, swarm, program, writer.labels)


class _Writer:
    """Writes one program; names are numbered through, so that none occurs twice.

    Attributes:
        labels: names of what the plan can aim at: stages with chunks, tools that are called.
    """

    __slots__ = ("capabilities", "chance", "labels", "number", "on", "steps", "swarm")

    def __init__(self, rng: random.Random, swarm: Swarm, capabilities: frozenset[str]) -> None:
        self.chance = rng.random
        self.swarm = swarm
        self.on = swarm.on
        self.capabilities = capabilities
        self.number = 0
        self.labels: dict[str, set[str]] = {"chunks": set(), "tools": set()}
        self.steps = [(name, write) for name, write in _STEPS if name in swarm.on]

    # Small choices.

    def pick(self, items: Any) -> Any:
        return items[int(self.chance() * len(items))]

    def name(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}{self.number}"

    def seconds(self) -> Seconds:
        """Return a duration of the grid, or several for the tape to choose from."""
        grid, chance = self.swarm.grid, self.chance
        one = grid[int(chance() * len(grid))]
        if chance() < self.swarm.listed:
            other = grid[int(chance() * len(grid))]
            # A new tuple each time: a run's choice is kept by the identity of the list.
            return (one, other) if other != one else (one, other + grid[1])
        return one

    def longer(self) -> float:
        return float(self.pick(self.swarm.grid[1:])) * 2

    # Programs and stages.

    def program(self, name: str, count: int, depth: int) -> Program:
        names = [f"s{self.number + i}" if depth else f"s{i}" for i in range(count)]
        if depth:
            self.number += count
            names = [f"c{n}" for n in names]
        shape = int(self.chance() * 5)
        stages = [
            self.stage(one, self.needs(names, i, shape), depth) for i, one in enumerate(names)
        ]
        if self.chance() < 0.3:
            stages.reverse()  # declared last first
        return Program(tuple(stages), name)

    def needs(self, names: list[str], i: int, shape: int) -> tuple[str, ...]:
        """Return what the i-th stage needs: in a chain, side by side, fanning out and in, at
        random."""
        if not i or shape == 0:
            return ()
        if shape == 1:
            return (names[i - 1],)
        if shape == 2:
            return (names[0],) if i < len(names) - 1 or i == 1 else tuple(names[1:i])
        if shape == 3:
            return (names[i - 1],) if i % 2 else ()
        return tuple([n for n in names[:i] if self.chance() < 0.4])

    def stage(self, name: str, needs: tuple[str, ...], depth: int) -> Stage:
        on, chance, rate = self.on, self.chance, self.swarm.rate
        steps: list[Step] = []
        if "input" in on and not depth and chance() < 0.8:
            steps.append(Step("input", {"key": "marker"}))
        if "identify" in on and not depth:
            # Cleanups and threads are asked for their ids only in a program that asks by a step.
            steps.append(Step("identify", {"place": "stage"}))
        if "store" in on and not depth and not needs:
            # There must be something to get at.
            steps.append(Step("store", {"key": self.name("key"), "value": _value(self, "row")}))
        timeout: float | None = None
        if "each_timeout" in on and chance() < rate:
            timeout = self.pick(self.swarm.grid) or self.longer()
        if "odd_timeout" in on and chance() < 0.3:
            timeout = self.pick((0.0, 0.0, -1.0, float("nan")))
        idle = self.longer() if "idle" in on and chance() < rate else None
        retry = None
        if "retry" in on and chance() < max(rate, 0.5):
            retry = Retry(
                self.pick((1, 2, 3, 3, 4)),
                self.pick(self.swarm.grid) or 0.1,
                self.pick((1.0, 2.0)),
                self.pick((0.0, 0.0, 0.5)),
            )
        if "read" in on and needs and chance() < 0.4:
            # What a stage needs is there to be read; later ones may read it again.
            steps.append(Step("read", {"stage": self.pick(needs), "key": "value"}))
        steps += self.block(name, needs, depth, 1 + int(chance() * self.swarm.steps_max))
        if "consumer" in on and not depth and chance() < 0.6:
            steps += self.stream(name)
        steps += self.ending(name, timeout is not None and timeout > 0, depth)
        return Stage(name, tuple(steps), needs, timeout, idle, retry)

    def stream(self, name: str) -> list[Step]:
        """Return more chunks than a small buffer holds."""
        self.labels["chunks"].add(name)
        out: list[Step] = []
        every_s = self.pick((0.0, 0.01, 0.05))
        for _ in range(3 + int(self.chance() * 6)):
            out.append(Step("chunk", {"value": _value(self, "part")}))
            if every_s:
                out.append(Step("sleep", {"seconds": every_s}))
        if self.chance() < 0.3:
            # Longer than any grace: a consumer that has stopped must not have to wait for it.
            out.append(Step("sleep", {"seconds": 20.0}))
        return out

    def block(self, stage: str, needs: tuple[str, ...], depth: int, count: int) -> tuple[Step, ...]:
        chance, rate, known = self.chance, self.swarm.rate, self.steps
        out = []
        for _ in range(count):
            if known and chance() < 0.35 + rate / 2:
                one = known[int(chance() * len(known))][1](self, stage, needs, depth)
                if one is not None:
                    out.append(one)
                    continue
            out.append(Step("sleep", {"seconds": self.seconds()}))
        return tuple(out)

    def ending(self, name: str, timed: bool, depth: int) -> list[Step]:
        on, chance = self.on, self.chance
        if "flaky" in on and not depth and chance() < 0.5:
            error = self.pick(("OSError", "RuntimeError"))
            times = 1 + int(chance() * 3)
            flaky = Step("flaky", {"times": times, "error": error, "message": "flaky"})
            return [flaky, self.ok(name)]
        if chance() < min(0.5, self.swarm.rate):
            kinds = [kind for kind in _ENDINGS if kind in on]
            if kinds:
                return self.ends(self.pick(kinds), name, timed)
        return [self.ok(name)] if chance() < 0.9 else []

    def ends(self, kind: str, name: str, timed: bool) -> list[Step]:
        mark = " of $marker" if "input" in self.on else ""
        if kind == "raise":
            error = self.pick(("ValueError", "RuntimeError", "TimeoutError", "OSError"))
            return [Step("raise", {"error": error, "message": f"{name} broke{mark}"})]
        if kind == "self_cancel":
            return [Step("raise", {"error": "CancelledError", "message": "called off"})]
        if kind == "fail":
            return [Step("fail", {"message": f"{name} failed{mark}"})]
        if kind == "never":
            if timed or ("stage_timeout" in self.on):
                return [Step("never", {})]
            return [Step("sleep", {"seconds": 60.0}), self.ok(name)]
        return [Step(kind, {"reason": f"{name} says so{mark}"})]

    def ok(self, name: str) -> Step:
        at = int(self.chance() * 5)
        mark = "input" in self.on and at < 3
        value: Any = "$marker" if mark else f"out of {name}"
        if at == 1:
            value = {"of": value, "none": None}
        elif at == 2:
            value = [value, 1]
        elif at == 4 and "mutate" not in self.on:
            value = None
        return Step("ok", {"value": value})


# Steps, each as a function of (writer, stage, needs, depth); None if it does not fit there.


def _yield(w: _Writer, *_: Any) -> Step:
    return Step("yield", {"times": 1 + int(w.chance() * 3)})


def _fails(w: _Writer) -> bool:
    return "failing_cleanup" in w.on and w.chance() < 0.25


def _acquire(w: _Writer, *_: Any) -> Step:
    kind = "sync" if w.chance() < 0.25 else "async"
    args = {"name": w.name("r"), "cleanup": kind, "cleanup_s": w.seconds(), "fails": _fails(w)}
    return Step("acquire", args)


def _using(w: _Writer, stage: str, needs: tuple[str, ...], depth: int) -> Step | None:
    if depth >= DEPTH_MAX:
        return None
    steps = w.block(stage, needs, depth + 1, 1 + int(w.chance() * 2))
    args = {"name": w.name("u"), "cleanup_s": w.seconds(), "fails": _fails(w), "steps": steps}
    return Step("using", args)


def _cleanup(w: _Writer, *_: Any) -> Step:
    identify = "identify" in w.on and w.chance() < 0.6
    args = {"name": w.name("k"), "cleanup_s": w.seconds(), "fails": _fails(w)}
    return Step("cleanup", {**args, "identify": identify})


def _generate(w: _Writer, *_: Any) -> Step:
    args = {"name": w.name("g"), "items": int(w.chance() * 4), "every_s": w.seconds()}
    return Step("generate", args)


def _value(w: _Writer, prefix: str) -> Any:
    return f"{w.name(prefix)} of $marker" if "input" in w.on else w.name(prefix)


def _chunk(w: _Writer, stage: str, _needs: tuple[str, ...], depth: int) -> Step | None:
    if depth:
        return None
    w.labels["chunks"].add(stage)
    return Step("chunk", {"value": _value(w, "part")})


def _emit(w: _Writer, *_: Any) -> Step:
    return Step("emit", {"type": "seen", "data": _value(w, "event")})


def _flood(w: _Writer, _stage: str, _needs: tuple[str, ...], depth: int) -> Step | None:
    if depth:
        return None
    if w.chance() < 0.25:
        # Several producers of one stage: they wait for room beside each other.
        several = [(_producer(w),) for _ in range(w.pick((2, 2, 3)))]
        return Step("parallel", {"branches": tuple(several)})
    return _producer(w)


def _producer(w: _Writer) -> Step:
    count = (3, 8, 20)[int(w.chance() * 3)]
    every: Seconds = w.pick((0.0, 0.0, 0.005, 0.01, 0.05))
    return Step("flood", {"producer": w.name("p"), "count": count, "every_s": every})


def _read(w: _Writer, _stage: str, needs: tuple[str, ...], depth: int) -> Step | None:
    return Step("read", {"stage": w.pick(needs), "key": "value"}) if needs else None


def _mutate(w: _Writer, _stage: str, needs: tuple[str, ...], depth: int) -> Step | None:
    return Step("mutate", {"stage": w.pick(needs), "key": "value"}) if needs else None


def _call(w: _Writer, *_: Any) -> Step:
    chance = w.chance
    # A call with a timeout of its own has a tool of its own: checks know calls by their tools.
    tool = w.name("tool") if "tool_timeout" in w.on else w.pick(TOOLS)
    w.labels["tools"].add(tool)
    limit = w.pick(w.swarm.grid) or None if "tool_timeout" in w.on and chance() < 0.6 else None
    error = None
    if "raise" in w.on and chance() < 0.1:
        error = w.pick(("ValueError", "OSError", "TimeoutError"))
    return Step(
        "call",
        {
            "tool": tool,
            "seconds": w.seconds(),
            "timeout_s": limit,
            "chunks": int(chance() * 3) if chance() < 0.3 else 0,
            "holds": chance() < 0.3,
            "cleanup_s": w.pick(w.swarm.grid),
            "error": error,
        },
    )


def _parallel(w: _Writer, stage: str, needs: tuple[str, ...], depth: int) -> Step | None:
    if depth >= DEPTH_MAX:
        return None
    count = 2 + int(w.chance() * 2)
    branches = [w.block(stage, needs, depth + 1, 1 + int(w.chance() * 2)) for _ in range(count)]
    return Step("parallel", {"branches": tuple(branches)})


def _spawn(w: _Writer, stage: str, needs: tuple[str, ...], depth: int) -> Step | None:
    if depth >= DEPTH_MAX:
        return None
    steps = w.block(stage, needs, depth + 1, 1 + int(w.chance() * 2))
    if "identify" in w.on:
        steps = (*steps, Step("identify", {"place": "task"}))
    return Step("spawn", {"name": w.name("t"), "join": True, "steps": steps})


def _thread(w: _Writer, *_: Any) -> Step:
    return Step("thread", {"seconds": w.seconds(), "identify": "identify" in w.on})


def _heartbeat(_w: _Writer, *_: Any) -> Step:
    return Step("heartbeat", {})


def _scope(w: _Writer, stage: str, needs: tuple[str, ...], depth: int) -> Step | None:
    if depth >= DEPTH_MAX:
        return None
    steps = w.block(stage, needs, depth + 1, 1 + int(w.chance() * 2))
    otherwise = (Step("sleep", {"seconds": w.seconds()}),) if w.chance() < 0.3 else ()
    args = {"label": w.name("l"), "seconds": w.pick(w.swarm.grid), "steps": steps}
    return Step("timeout", {**args, "otherwise": otherwise})


def _sub(w: _Writer, _stage: str, _needs: tuple[str, ...], depth: int) -> Step | None:
    if depth >= DEPTH_MAX:
        return None
    child = w.program(w.name("child"), 1 + int(w.chance() * 3), depth + 1)
    return Step("subpipeline", {"program": child, "keep": w.chance() < 0.2})


def _swallow(w: _Writer, *_: Any) -> Step:
    steps = (Step("sleep", {"seconds": w.longer() * w.pick((1, 1, 8))}),)
    return Step("swallow", {"times": w.pick((1, 1, 2, 3)), "steps": steps})


def _context(_w: _Writer, *_: Any) -> Step:
    return Step("context", {})


def _identify(w: _Writer, _stage: str, _needs: tuple[str, ...], depth: int) -> Step:
    return Step("identify", {"place": "subpipeline" if depth else "stage"})


def _log(w: _Writer, *_: Any) -> Step:
    return Step("log", {"message": _value(w, "record")})


def _store(w: _Writer, _stage: str, _needs: tuple[str, ...], depth: int) -> Step:
    if w.chance() < 0.5:
        return Step("store", {"key": w.name("key"), "value": _value(w, "row")})
    how = w.pick(ATTACKS)
    return Step("trespass", {"how": how, "tenant": "$other"})


def _compensate(w: _Writer, _stage: str, _needs: tuple[str, ...], depth: int) -> Step | None:
    if depth:
        return None
    fails = w.chance() < 0.2
    return Step("compensate", {"name": w.name("undo"), "seconds": w.seconds(), "fails": fails})


_STEPS: tuple[tuple[str, Any], ...] = (
    ("yield", _yield),
    ("acquire", _acquire),
    ("using", _using),
    ("cleanup", _cleanup),
    ("generate", _generate),
    ("chunk", _chunk),
    ("emit", _emit),
    ("flood", _flood),
    ("read", _read),
    ("mutate", _mutate),
    ("call", _call),
    ("parallel", _parallel),
    ("spawn", _spawn),
    ("thread", _thread),
    ("heartbeat", _heartbeat),
    ("scope", _scope),
    ("sub", _sub),
    ("swallow", _swallow),
    ("context", _context),
    ("identify", _identify),
    ("log", _log),
    ("store", _store),
    ("compensate", _compensate),
)
_ENDINGS = ("raise", "fail", "self_cancel", "cancel_run", "cancel_branch", "skip", "never")


# Programs that are special as a whole.


def _ill_formed(rng: random.Random, program: Program) -> Program:
    """Break the graph in one of the ways that an engine has to refuse."""
    stages = list(program.stages)
    how = int(rng.random() * 4)
    if how == 0:
        return Program((), program.name)
    i = int(rng.random() * len(stages))
    one = stages[i]
    if how == 1:
        stages[i] = _with_needs(one, (*one.needs, "nowhere"))
    elif how == 2:
        stages.append(Stage(one.name, (Step("sleep", {"seconds": 0.1}),)))
    else:
        below = next((s for s in stages if one.name in s.needs), one)
        stages[i] = _with_needs(one, (*one.needs, below.name))
    return Program(tuple(stages), program.name)


def _with_needs(one: Stage, needs: tuple[str, ...]) -> Stage:
    return Stage(one.name, one.steps, needs, one.timeout_s, one.idle_timeout_s, one.retry)


def _large(rng: random.Random) -> Program:
    """A long chain, or many side by side: what grows faster than it should is seen here only."""
    if rng.random() < 0.5:
        names = [f"s{i}" for i in range(LARGE_STAGES)]
        chain = [Stage(n, (), (names[i - 1],) if i else ()) for i, n in enumerate(names)]
        return Program(tuple(chain))
    short = (Step("sleep", {"seconds": 0.1}),)
    return Program(tuple([Stage(f"s{i}", short) for i in range(LARGE_WIDE)]))
