"""Shrinking: program, plan and tape together, to the smallest that still shows one violation.

Delta debugging in passes, from coarse to fine, over and over until a whole round gives
nothing. A simpler case is taken only if it violates the same clause in the same shape and
the same component of the engine, is not unsound in a way that the first one was not, and can
still be told by a stand-alone script where the first could. There is no chance and no clock in
it: a limit on tries and one on the loop's callbacks bound the work, so that the same witness
shrinks to the same case everywhere.

Longer than most: one pass an edit, over the same case.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, combinations
from typing import Any

from harness.kernel.errors import DagstormError, InputError
from harness.kernel.plan import Plan, required_capabilities
from harness.kernel.program import Program
from harness.kernel.steps import OPS
from harness.lab.search.simpler import (
    FIRST_RUN,
    Path,
    as_by_default,
    at,
    begun_at_once,
    blocks_in,
    edited,
    joined,
    lower_numbers,
    merged,
    numbers_in,
    plainer,
    programs_in,
    size_of,
    sleeps_in,
    turns,
    unsound,
    waiting_instead,
    with_merged_sleeps,
    without_items,
    without_sleeps,
    without_stages,
    without_time,
)

__all__ = ["ANYWHERE", "TRIES_MAX", "Key", "Seen", "Shrunk", "is_shown", "key_of", "shrink"]

TRIES_MAX = 2_000
# Some five seconds; a case that spins spends it soon, and is then left as it is.
CALLBACKS_MAX = 2_000_000
# Dropping something moves a cancel that lands at a point of the loop: so many earlier and
# later points are tried with it.
POINTS_TRIED = (-1, -2, -3, -4, -6, -8, 1, 2, 3, 4)
# As in a unit: soonest after the point where a cancel by time shows the same.
LATER_S = (0.03, 0.01, 0.0)
LONGER_S = 1.0
SPARED_LATER_S = 0.05
# Stages of which each two are tried as one.
JOINED_MAX = 6
# A limit of zero, or a cancel before anything began, is another case, not a simpler one.
LIMITS = ("timeout_s", "idle_timeout_s", "stage_timeout_s", "at_s")
# What is shortened together where two of them are as long: neither may do for itself.
TIMES = ("seconds", "cleanup_s", "every_s", "timeout_s", "stage_timeout_s", "start_s", "at_s")
MOMENTS = ("seconds", "start_s", "at_s")
# Two moments are moved together only where there are few of them.
PAIRS_MAX = 100
# Those of the laboratory: a run that they end is cut short, and not a smaller one.
OF_THE_LABORATORY = ("steps_max", "horizon_s")

# In a key's third place: whatever component. Where in the engine a run was when it broke a
# clause depends on what else was going on; the smallest run, with nothing else going on,
# names the place that matters, and by it sights of one defect are known as one.
ANYWHERE = "*"

Key = tuple[str, str, str]
Tape = Mapping[str, Sequence[int]]
Data = dict[str, Any]
Change = Callable[[Any], Any]


def key_of(clause: str, shape: str, location: str) -> Key:
    """Return what two sights of the same defect share: clause, shape, engine's file and function.

    The line is left out, as in a finding's fingerprint.
    """
    return (clause, shape, location.split(":", 1)[0] + location.rpartition(" ")[2])


def is_shown(key: Key, keys: Iterable[Key]) -> bool:
    """Say whether a key is among those that were seen."""
    if key[2] == ANYWHERE:
        return any(seen[:2] == key[:2] for seen in keys)
    return key in keys


@dataclass(frozen=True, slots=True)
class Seen:
    """What running and judging one case showed.

    Attributes:
        keys: of the violations.
        callbacks: of the loop: what the run cost.
        took_s: on the run's own clock; a simpler case may not take much longer than the first
            one, or a script of it would have people wait for an engine's own limits.
        cancelled_s: when the first cancel was sent, or None.
        chosen: identity of a list of durations -> what the run chose from it.
    """

    keys: frozenset[Key]
    callbacks: int = 0
    took_s: float = 0.0
    cancelled_s: float | None = None
    chosen: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smallest case found, what it is made of, and what finding it took.

    Attributes:
        ended: "smallest" if a whole round of passes found nothing simpler, else the limit that
            was hit: "tries" or "callbacks".
    """

    program: Program
    plan: Plan
    tape: Mapping[str, list[int]]
    before: Mapping[str, int]
    after: Mapping[str, int]
    tries: int
    taken: int
    ended: str


RunAndJudge = Callable[[Program, Plan, Tape], Seen]


class _LimitHit(Exception):
    """No more tries: what there is is the answer."""


@dataclass(frozen=True, slots=True)
class _Case:
    program: Data
    plan: Data
    tape: Mapping[str, list[int]]


def shrink(
    program: Program,
    plan: Plan,
    recorded: Tape,
    key: Key,
    run_and_judge: RunAndJudge,
    *,
    tries_max: int = TRIES_MAX,
    callbacks_max: int = CALLBACKS_MAX,
    keeps: Callable[[Program, Plan], bool] = lambda _program, _plan: True,
) -> Shrunk:
    """Return the smallest case found that still shows `key`.

    Args:
        run_and_judge: runs a case from its tape alone and says what it violates.
        keeps: what else must hold of a simpler case; asked of those that show `key` only.

    Raises:
        InputError: if the case that was given does not show `key` itself.
    """
    work = _Shrinking((program, plan, recorded), key, run_and_judge, keeps)
    work.tries_left, work.callbacks_left = tries_max, callbacks_max
    before = size_of(program, plan, work.case.tape)
    ended = "smallest"
    try:
        work.begin()
        while work.round():
            pass
    except _LimitHit as exc:
        ended = str(exc)
    case = work.case
    small, circumstances = Program.from_json(case.program), Plan.from_json(case.plan)
    return Shrunk(
        program=small,
        plan=circumstances,
        tape={k: v for k, v in case.tape.items() if v},
        before=before,
        after=size_of(small, circumstances, case.tape),
        tries=work.tries,
        taken=work.taken,
        ended=ended,
    )


class _Shrinking:
    def __init__(
        self,
        case: tuple[Program, Plan, Tape],
        key: Key,
        run_and_judge: RunAndJudge,
        keeps: Callable[[Program, Plan], bool],
    ) -> None:
        program, plan, recorded = case
        self.first = program
        self.case = _Case(
            program.to_json(), plan.to_json(), {k: list(v) for k, v in recorded.items()}
        )
        self.key = key
        self.run_and_judge = run_and_judge
        self.keeps = keeps
        self.allowed = unsound(program, plan)
        self.needs = required_capabilities(program, plan)
        self.seen = Seen(frozenset())
        self.asked: set[int] = set()
        self.tries = self.taken = 0
        self.tries_left = self.callbacks_left = 0
        self.took_s_max = 0.0

    def begin(self) -> None:
        """Run the case as it is, and settle what its tape chose into it."""
        case = self.case
        seen = self._run(self.first, Plan.from_json(case.plan), case.tape)
        if seen is None or not is_shown(self.key, seen.keys):
            raise InputError(f"shrink: the run does not violate {self.key[0]} as it is said to")
        self.seen, self.took_s_max = seen, seen.took_s + LONGER_S
        settled = self.first.with_durations(seen.chosen).to_json()
        rest = {k: v for k, v in case.tape.items() if k != "durations"}
        if settled != case.program or len(rest) < len(case.tape):
            self.take(dataclasses.replace(case, program=settled, tape=rest))

    def round(self) -> bool:
        """Try every kind of edit once; say whether any was taken."""
        before = self.taken
        self._tape()
        self._cancels()
        self._plan_parts()
        self._instant()
        self._stages()
        self._edges()
        self._joined()
        self._steps()
        self._hoisted()
        self._merged()
        self._fewer_chunks()
        self._plainer()
        self._settings()
        self._together()
        self._numbers()
        return self.taken > before

    # Trying.

    def _run(self, program: Program, plan: Plan, tape: Tape) -> Seen | None:
        if self.tries >= self.tries_left:
            raise _LimitHit("tries")
        if self.callbacks_left <= 0:
            raise _LimitHit("callbacks")
        self.tries += 1
        try:
            seen = self.run_and_judge(program, plan, tape)
        except DagstormError:
            return None
        self.callbacks_left -= seen.callbacks
        return seen

    def take(self, case: _Case, *, moves_points: bool = False) -> bool:
        """Take a simpler case if it shows the same; say whether it did.

        Args:
            moves_points: the edit may have moved the point at which a cancel lands.
        """
        if case == self.case:  # an edit that found nothing to do
            return False
        if self._try(case):
            return True
        if not moves_points:
            return False
        points = [c.get("at_point") for c in case.plan.get("cancels", ())]
        if points.count(None) == len(points):
            return False
        for by in POINTS_TRIED:
            moved = [
                c if c.get("at_point") is None else {**c, "at_point": max(1, c["at_point"] + by)}
                for c in case.plan["cancels"]
            ]
            if self._try(dataclasses.replace(case, plan={**case.plan, "cancels": moved})):
                return True
        return False

    def _try(self, case: _Case) -> bool:
        mark = hash(repr((case.program, case.plan, case.tape)))
        if mark in self.asked:
            return False
        self.asked.add(mark)
        try:
            program, plan = Program.from_json(case.program), Plan.from_json(case.plan)
        except InputError:
            return False
        if not unsound(program, plan) <= self.allowed:
            return False
        if not required_capabilities(program, plan) <= self.needs:
            return False
        seen = self._run(program, plan, case.tape)
        if seen is None or not is_shown(self.key, seen.keys) or seen.took_s > self.took_s_max:
            return False
        if not self.keeps(program, plan):
            return False
        self.case, self.seen = case, seen
        self.taken += 1
        return True

    def _with_program(self, path: Path, change: Change) -> _Case:
        case = self.case
        return dataclasses.replace(case, program=edited(case.program, path, change))

    def _with_plan(self, path: Path, change: Change) -> _Case:
        case = self.case
        return dataclasses.replace(case, plan=edited(case.plan, path, change))

    def _drop_chunks(self, length: Callable[[], int], drop: Callable[[int, int], bool]) -> None:
        """Drop as large pieces of a list as will go, halving them down to single items."""
        count = length()
        while count:
            start = 0
            while start < length():
                if not drop(start, min(count, length() - start)):
                    start += count
            count //= 2

    # Passes.

    def _tape(self) -> None:
        """Cut the tape: all streams, each, their tails, their choices one by one."""
        if not self.case.tape or self._take_tape({}):
            return
        for stream in sorted(self.case.tape):
            rest = {k: v for k, v in self.case.tape.items() if k != stream}
            if self._take_tape(rest):
                continue
            self._shorten(stream)
            for i in range(len(self.case.tape[stream])):
                values = self.case.tape[stream]
                for value in (0, 1):
                    if value < values[i]:
                        new = [*values[:i], value, *values[i + 1 :]]
                        if self._take_tape({**self.case.tape, stream: new}):
                            break

    def _shorten(self, stream: str) -> None:
        """Cut a stream's tail, then set runs of its choices to the default."""
        cut = len(self.case.tape[stream])
        while cut:
            values = self.case.tape[stream]
            kept = values[: max(0, len(values) - cut)]
            if len(kept) == len(values) or not self._take_tape({**self.case.tape, stream: kept}):
                cut //= 2

        def zero(start: int, count: int) -> bool:
            values = self.case.tape[stream]
            if not any(values[start : start + count]):
                return False
            new = [*values[:start], *[0] * count, *values[start + count :]]
            self._take_tape({**self.case.tape, stream: new})
            return False

        self._drop_chunks(lambda: len(self.case.tape[stream]), zero)

    def _take_tape(self, tape: Mapping[str, list[int]]) -> bool:
        return self.take(dataclasses.replace(self.case, tape=tape))

    def _cancels(self) -> None:
        """Put cancels by a point of the loop into time, or at the earliest point."""
        for i, cancel in enumerate(self.case.plan.get("cancels", ())):
            if cancel.get("at_point") is None:
                continue
            path: Path = ("cancels", i)
            sent_s = self.seen.cancelled_s
            for later_s in LATER_S if sent_s is not None else ():
                rest = {k: v for k, v in cancel.items() if k != "at_point"}
                timed = {**rest, "at_s": round((sent_s or 0.0) + later_s, 6)}
                if timed["at_s"] and self.take(self._with_plan(path, _put(timed))):
                    break
            else:
                self._lower_point(path)

    def _lower_point(self, path: Path) -> None:
        point = at(self.case.plan, path)["at_point"]
        tried = [*range(1, min(point, 33)), *(point // n for n in (2, 4) if point > 64)]
        for lower in sorted({p for p in tried if 0 < p < point}):
            if self.take(self._with_plan((*path, "at_point"), _put(lower))):
                return

    def _plan_parts(self) -> None:
        """Drop what the plan need not say, whole fields first, then items, then their fields."""
        for name in [k for k in self.case.plan if k != "version"]:
            self.take(self._with_plan((), _drop(name)), moves_points=True)
        for name in ("runs", "cancels", "faults", "layers", "toxics", "clock_steps"):
            if name in self.case.plan:
                self._plan_list(name)
        self._spared()
        for name in ("sink", "consumer", "options"):
            if name in self.case.plan:
                self._fields_of_plan((name,))
        if len(self.case.plan.get("runs", ())) == 1:
            self.take(dataclasses.replace(self.case, plan=as_by_default(self.case.plan)))
        elif "runs" in self.case.plan:
            self.take(dataclasses.replace(self.case, plan=begun_at_once(self.case.plan)))

    def _plan_list(self, name: str) -> None:
        def drop(start: int, count: int) -> bool:
            plan = {**self.case.plan, name: without_items(self.case.plan[name], start, count)}
            if name == "runs":
                plan = _without_strays(plan)
            return self.take(dataclasses.replace(self.case, plan=plan), moves_points=True)

        self._drop_chunks(lambda: len(self.case.plan.get(name, ())), drop)
        for i in range(len(self.case.plan.get(name, ()))):
            self._fields_of_plan((name, i))

    def _fields_of_plan(self, path: Path) -> None:
        for key in list(at(self.case.plan, path)):
            if key != "id":
                self.take(self._with_plan(path, _drop(key)))

    def _spared(self) -> None:
        """Drop a layer that is around some runs only, and have the others begin later instead:
        what it did to them was to let those come first."""
        for i, layer in enumerate(self.case.plan.get("layers", ())):
            if layer.get("runs"):
                runs = self.case.plan.get("runs", ())
                first = [one for one in runs if one.get("id", FIRST_RUN) in layer["runs"]]
                runs = [
                    *first,
                    *(
                        {**one, "start_s": round(one.get("start_s", 0.0) + SPARED_LATER_S, 6)}
                        for one in runs
                        if one not in first
                    ),
                ]
                layers = without_items(self.case.plan["layers"], i, 1)
                plan = {**self.case.plan, "runs": runs, "layers": layers}
                if self.take(dataclasses.replace(self.case, plan=plan)):
                    return

    def _instant(self) -> None:
        """Let everything take no time, and nobody cancel: what needs an order of turns only shows
        in each run then, while one that needs two timers to be due at once does now and then."""
        program = without_time(self.case.program)
        plan = {k: v for k, v in without_time(self.case.plan).items() if k != "cancels"}
        self.take(dataclasses.replace(self.case, program=program, plan=plan))

    def _fewer_chunks(self) -> None:
        """Drop a chunk, and have the consumer stop after one less."""
        while (most := self.case.plan.get("consumer", {}).get("stop_after") or 0) > 1:
            plan = edited(self.case.plan, ("consumer", "stop_after"), _put(most - 1))
            fewer = (
                dataclasses.replace(self._without_step(path, i), plan=plan)
                for path in list(blocks_in(self.case.program))
                for i, one in enumerate(at(self.case.program, path))
                if one["op"] == "chunk"
            )
            if not any(self.take(case) for case in fewer):
                return

    def _without_step(self, path: Path, number: int) -> _Case:
        return self._with_program(path, partial(without_items, start=number, count=1))

    def _hoisted(self) -> None:
        """Put a subpipeline in the place of the program that it is part of."""
        while True:
            inner = [path for path in programs_in(self.case.program) if path]
            cases = (_hoisted(self.case, path) for path in inner)
            if not any(self.take(_without_stray_layers(one), moves_points=True) for one in cases):
                return

    def _stages(self) -> None:
        number = 0
        # Dropping a stage drops the subpipelines in it, so the paths are found anew each time.
        while number < len(paths := list(programs_in(self.case.program))):
            self._drop_stages(paths[number])
            number += 1

    def _drop_stages(self, path: Path) -> None:
        def drop(start: int, count: int) -> bool:
            cases = (
                self._with_program(
                    path, partial(without_stages, start=start, count=count, bridged=bridged)
                )
                for bridged in (True, False)
            )
            return any(self.take(_without_stray_layers(case), moves_points=True) for case in cases)

        self._drop_chunks(lambda: len(at(self.case.program, path)["stages"]), drop)

    def _edges(self) -> None:
        for path in list(programs_in(self.case.program)):
            for i, stage in enumerate(at(self.case.program, path)["stages"]):
                where: Path = (*path, "stages", i)
                for need in stage.get("needs", ()):
                    change = partial(_without_need, need=need)
                    self.take(self._with_program(where, change), moves_points=True)

    def _joined(self) -> None:
        """Put one stage in the place of two."""
        number = 0
        # A stage that goes takes its subpipelines with it, so the paths are found anew each time.
        while number < len(paths := list(programs_in(self.case.program))):
            self._join_stages(paths[number])
            number += 1

    def _join_stages(self, path: Path) -> None:
        last = 1
        while last < len(at(self.case.program, path)["stages"]) <= JOINED_MAX:
            last += not any(
                self.take(self._with_program(path, _put(one)), moves_points=True)
                for first in range(last)
                for one in joined(at(self.case.program, path), first, last)
            )

    def _steps(self) -> None:
        """Drop steps in every block, then unwrap what is left of steps that hold blocks."""
        number = 0
        while number < len(paths := list(blocks_in(self.case.program))):
            self._drop_items(paths[number])
            self._unwrap(paths[number])
            number += 1

    def _drop_items(self, path: Path) -> None:
        def drop(start: int, count: int) -> bool:
            change = partial(without_items, start=start, count=count)
            return self.take(self._with_program(path, change), moves_points=True)

        self._drop_chunks(lambda: len(at(self.case.program, path)), drop)

    def _unwrap(self, path: Path) -> None:
        """Put what a step holds in its place: its block, or one branch of several."""
        i = 0
        while i < len(block := at(self.case.program, path)):
            inners = _inner_blocks(block[i])
            if not any(self._replaced(path, [*block[:i], *x, *block[i + 1 :]]) for x in inners):
                for name, spec in OPS[block[i]["op"]].fields.items():
                    if spec.shape == "blocks" and block[i].get(name):
                        self._drop_items((*path, i, name))
                i += 1

    def _replaced(self, path: Path, value: Any) -> bool:
        return self.take(self._with_program(path, _put(value)), moves_points=True)

    def _plainer(self) -> None:
        """Put a sleep or a failure in the place of a step that does the same by other means."""
        number = 0
        while number < len(paths := list(blocks_in(self.case.program))):
            path = paths[number]
            for i in range(len(at(self.case.program, path))):
                cases = (
                    _without_idle_faults(case)
                    for one in plainer(at(self.case.program, (*path, i)))
                    for case in self._turned(self._with_program((*path, i), _put(one)))
                )
                if any(self.take(case, moves_points=True) for case in cases):
                    continue
                block = at(self.case.program, path)
                if any(
                    self.take(self._with_program(path, _put([*block[:i], *few, *block[i + 1 :]])))
                    for few in turns(block[i])
                ):
                    break  # the block has other steps now, none of which is a subpipeline's
            number += 1

    def _turned(self, case: _Case) -> Iterator[_Case]:
        """Yield a case as it is, and then with its two stages in the other order: what fails by
        plainer means may fail sooner."""
        yield case
        stages = case.program["stages"]
        if len(stages) == 2:
            turned = {**case.program, "stages": stages[::-1]}
            yield dataclasses.replace(case, program=turned)

    def _merged(self) -> None:
        """Put one sleep in the place of several in a row, everywhere at once or here and there."""
        self.take(self._with_program((), with_merged_sleeps), moves_points=True)
        number = 0
        while number < len(paths := list(blocks_in(self.case.program))):
            i = 0
            while i + 1 < len(block := at(self.case.program, paths[number])):
                one = merged(block[i], block[i + 1])
                if one is None or not self._replaced(
                    paths[number], [*block[:i], one, *block[i + 2 :]]
                ):
                    i += 1
            number += 1

    def _together(self) -> None:
        """Drop all sleeps of one length, or shorten all times of one length, at once: where two
        moments must coincide, neither can be moved alone."""
        for seconds in sorted(set(sleeps_in(self.case.program)), reverse=True):
            change = partial(without_sleeps, seconds=seconds)
            self.take(self._with_program((), change), moves_points=True)
        for seconds in sorted(set(self._times()), reverse=True):
            for number in lower_numbers(seconds):
                if number and self.take(self._with_times(seconds, number), moves_points=True):
                    break

        while self._sooner() or self._a_turn_less():
            pass

    def _a_turn_less(self) -> bool:
        """Drop a turn from two blocks at once; say whether one was."""
        program = self.case.program
        waits = [
            (path, i)
            for path in blocks_in(program)
            for i, one in enumerate(at(program, path))
            if one["op"] == "sleep" and one["seconds"] == 0
        ]
        firsts = list({path: (path, i) for path, i in reversed(waits)}.values())  # inner ones first
        for pair in combinations(firsts, 2):
            less = program
            for path, i in pair:
                less = edited(less, path, partial(without_items, start=i, count=1))
            if self.take(dataclasses.replace(self.case, program=less), moves_points=True):
                return True
        return False

    def _sooner(self) -> bool:
        """Drop a sleep, and have something else come as much sooner; say whether one was."""
        program, plan = self.case.program, self.case.plan
        times = list(chain(self._paths(program, True), self._paths(plan, False)))
        sleeps = [(p, s) for p, in_program, s in times if in_program and p[-1] == "seconds"]
        if len(sleeps) * len(times) > PAIRS_MAX:
            return False
        for path, seconds in sleeps:
            if at(program, path[:-1])["op"] != "sleep":
                continue
            block, number = path[:-2], int(path[-2])
            for other, in_program, longer in times:
                rest = round(longer - seconds, 6)
                if other == path or rest < 0 or (not rest and other[-1] in LIMITS):
                    continue
                case = (self._with_program if in_program else self._with_plan)(other, _put(rest))
                kept = edited(case.program, block, partial(without_items, start=number, count=1))
                if self.take(dataclasses.replace(case, program=kept), moves_points=True):
                    return True
        return False

    def _paths(self, data: Data, in_program: bool) -> Iterator[tuple[Path, bool, float]]:
        for path in numbers_in(data):
            if path[-1] in MOMENTS and at(data, path) > 0:
                yield path, in_program, float(at(data, path))

    def _times(self) -> Iterator[float]:
        for data in (self.case.program, self.case.plan):
            for path in numbers_in(data):
                if path[-1] in TIMES and at(data, path) > 0:
                    yield float(at(data, path))

    def _with_times(self, seconds: float, number: float) -> _Case:
        """Return the case with a number in the place of all times of this many seconds."""
        program, plan = self.case.program, self.case.plan
        for path in [p for p in numbers_in(program) if p[-1] in TIMES]:
            if at(program, path) == seconds:
                program = edited(program, path, _put(number))
        for path in [p for p in numbers_in(plan) if p[-1] in TIMES]:
            if at(plan, path) == seconds:
                plan = edited(plan, path, _put(number))
        return dataclasses.replace(self.case, program=program, plan=plan)

    def _settings(self) -> None:
        """Drop what stages and steps need not say, so that their defaults hold."""
        for path in list(programs_in(self.case.program)):
            for i in range(len(at(self.case.program, path)["stages"])):
                where: Path = (*path, "stages", i)
                waiting = waiting_instead(at(self.case.program, where))
                if waiting is not None:
                    self.take(self._with_program(where, _put(waiting)), moves_points=True)
                for key in ("timeout_s", "idle_timeout_s", "retry"):
                    if key in at(self.case.program, where):
                        self._drop_key(where, key)
                for key in list(at(self.case.program, where).get("retry", ())):
                    self._drop_key((*where, "retry"), key)
        number = 0
        while number < len(paths := list(blocks_in(self.case.program))):
            for i, one in enumerate(at(self.case.program, paths[number])):
                for name, spec in OPS[one["op"]].fields.items():
                    if name in one and not spec.required:
                        self._drop_key((*paths[number], i), name)
                    if spec.shape == "duration" and isinstance(one.get(name), (list, tuple)):
                        self._one_of((*paths[number], i, name), one[name])
            number += 1

    def _one_of(self, path: Path, seconds: Sequence[float]) -> None:
        """Put one of a list of durations in the list's place. Of several runs each may have chosen
        another one: then the others are tried as runs that begin later."""
        if at(self.case.program, path[:-1]).get(path[-1]) is None:
            return
        runs = self.case.plan.get("runs", ())
        for value in sorted(set(seconds)):
            if self.take(self._with_program(path, _put(value))):
                return
        for value in sorted(set(seconds)) if len(runs) > 1 else ():
            later = [*runs[:1], *({**run, "start_s": round(value / 2, 6)} for run in runs[1:])]
            case = self._with_program(path, _put(value))
            if value and self.take(dataclasses.replace(case, plan={**case.plan, "runs": later})):
                return

    def _drop_key(self, path: Path, key: str) -> None:
        self.take(self._with_program(path, _drop(key)), moves_points=True)

    def _numbers(self) -> None:
        """Put simpler numbers."""
        for path in list(numbers_in(self.case.program)):
            holder = at(self.case.program, path[:-1])
            limits = path[-1] in LIMITS or (
                isinstance(holder, Mapping) and holder.get("op") == "timeout"
            )
            for number in lower_numbers(at(self.case.program, path)):
                if (number or not limits) and self.take(self._with_program(path, _put(number))):
                    break
        for path in list(numbers_in(self.case.plan)):
            if path[-1] in ("at_point", *OF_THE_LABORATORY):
                continue
            for number in lower_numbers(at(self.case.plan, path)):
                usable = number or path[-1] not in LIMITS
                if usable and self.take(self._with_plan(path, _put(number))):
                    break


def _hoisted(case: _Case, path: Path) -> _Case:
    """Return a case with one of its subpipelines for a program."""
    inner = at(case.program, path)
    return dataclasses.replace(case, program={**case.program, "stages": inner["stages"]})


def _without_idle_faults(case: _Case) -> _Case:
    """Return a case without the faults of tools that nothing in it calls any more."""
    said = repr(case.program)
    faults = [one for one in case.plan.get("faults", ()) if repr(one["tool"]) in said]
    if len(faults) == len(case.plan.get("faults", ())):
        return case
    plan = {k: v for k, v in case.plan.items() if k != "faults"}
    return dataclasses.replace(case, plan={**plan, "faults": faults} if faults else plan)


def _put(value: Any) -> Change:
    return lambda _old: value


def _drop(key: str) -> Change:
    return lambda one: {k: v for k, v in one.items() if k != key}


def _without_need(stage: Data, need: str) -> Data:
    needs = [n for n in stage["needs"] if n != need]
    return {**stage, "needs": needs} if needs else {k: stage[k] for k in stage if k != "needs"}


def _without_strays(plan: Mapping[str, Any]) -> Data:
    """Drop what refers to runs that are there no more."""
    out = dict(plan)
    known: set[str] = set()
    runs = []
    for run in plan["runs"]:
        if run.get("redrives", "") in known | {""}:
            runs.append(run)
            known.add(run.get("id", "r0"))
    out["runs"] = runs
    if "cancels" in plan:
        out["cancels"] = [c for c in plan["cancels"] if c.get("run", "r0").split("/")[0] in known]
    return out


def _without_stray_layers(case: _Case) -> _Case:
    """Return a case whose layers name no stages that are there no more; a layer all of whose
    stages are gone goes with them, as one that names none would be around every stage."""
    layers = case.plan.get("layers", ())
    if not any(one.get("stages") for one in layers):
        return case
    programs = [at(case.program, path) for path in programs_in(case.program)]
    names = {stage["name"] for one in programs for stage in one["stages"]}
    kept = []
    for one in layers:
        left = [name for name in one.get("stages", ()) if name in names]
        if left:
            kept.append({**one, "stages": left})
        elif not one.get("stages"):
            kept.append(one)
    plan = {k: v for k, v in case.plan.items() if k != "layers"}
    return dataclasses.replace(case, plan={**plan, "layers": kept} if kept else plan)


def _inner_blocks(one: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    """Yield the blocks that a step holds: of several branches the longest first, then all of them
    one after the other."""
    for name, spec in OPS[one["op"]].fields.items():
        if spec.shape == "block" and one.get(name):
            yield one[name]
        elif spec.shape == "blocks":
            branches = one.get(name, ())
            yield from sorted(branches, key=len, reverse=True)
            if len(branches) > 1:
                yield [*chain.from_iterable(branches)]
    if one["op"] == "subpipeline":
        for stage in one["program"]["stages"]:
            yield stage.get("steps", ())
