"""Stand-ins for the wall clock and for chance inside an engine's modules.

Engines stamp wall clocks and draw ids. Under simulation a stage of twenty virtual
seconds would be reported with a duration of nothing, and two runs of one seed would
differ in their ids. So the names `time`, `datetime`, `uuid4` and their like in the
globals of the engine's modules (and only there) are replaced by stand-ins that
follow the virtual clock. Where an engine imports one of these modules inside a function,
the stand-in is what such an import finds, for the whole process. They are put in once
a process; which clock they follow is set for each run.
"""

from __future__ import annotations

import datetime as real_datetime
import dis
import random
import sys
import time as real_time
import types
import uuid as real_uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from harness.kernel.plan import ClockStep

__all__ = ["EPOCH_S", "Substitutes", "stand_in_of"]

# 2026-01-01T00:00:00Z, so that simulated stamps are dates that code accepts.
EPOCH_S = 1_767_225_600.0

_utc = real_datetime.UTC


class _Source:
    """What all stand-ins of this process follow; one run at a time sets it."""

    clock: Callable[[], float] = staticmethod(lambda: 0.0)
    steps: Sequence[ClockStep] = ()
    seed: int | None = None
    random = random.Random(0)


def _drawn(name: str) -> Callable[..., Any]:
    """Return the stand-in for a function of the module `random`. Seeding costs more than a
    short run, so it waits for the first draw."""
    method = getattr(_Source.random, name)

    def draw(*args: Any, **kwargs: Any) -> Any:
        if _Source.seed is not None:
            _Source.random.seed(_Source.seed)
            _Source.seed = None
        return method(*args, **kwargs)

    return draw


_bits = _drawn("getrandbits")


def _wall() -> float:
    """Return what the wall clock has counted since the run's begin: it may have been set."""
    now = _Source.clock()
    if _Source.steps:
        return now + sum(step.by_s for step in _Source.steps if step.at_s <= now)
    return now


def _seconds() -> float:
    return EPOCH_S + _wall()


class Substitutes:
    """Replaces clocks and id sources in the modules of one package.

    Args:
        package: import name of the engine's top package.
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._modules_seen = 0
        self.replaced: list[str] = []

    def follow(
        self, clock: Callable[[], float], seed: int, steps: Sequence[ClockStep] = ()
    ) -> None:
        """Follow `clock` (seconds from 0) and draw ids from `seed` from now on.

        Args:
            steps: how the wall clock is set meanwhile; clocks that only count on are not.
        """
        _Source.clock = clock
        _Source.steps = steps
        _Source.seed = seed
        if len(sys.modules) != self._modules_seen:
            self._replace()

    def withdraw(self) -> None:
        """Give the engine its real clocks back (to measure it by itself)."""
        reals = {id(stand_in): real for real, stand_in in _PAIRS}
        # What a module imported after the stand-ins were put in is one without being noted.
        for name, module in list(sys.modules.items()):
            if name in CLOCK_MODULES:
                sys.modules[name] = reals.get(id(module), module)
            elif name == self._package or name.startswith(f"{self._package}."):
                names = vars(module)
                names.update({k: reals[id(v)] for k, v in names.items() if id(v) in reals})
        self.replaced.clear()
        self._modules_seen = 0

    def _replace(self) -> None:
        self._modules_seen = len(sys.modules)
        prefix = self._package + "."
        if self._package == "asyncio":
            return  # its loops must keep the real time; the simulated one is told by its own
        for name, module in list(sys.modules.items()):
            if name != self._package and not name.startswith(prefix):
                continue
            names = vars(module)
            for attribute, value in list(names.items()):
                stand_in = _STAND_INS.get(id(value))
                if stand_in is not None:
                    names[attribute] = stand_in
                    self.replaced.append(f"{name}.{attribute}")
            for imported in _imported_inside(module):
                stand_in = _STAND_INS.get(id(sys.modules.get(imported)))
                if stand_in is not None:
                    sys.modules[imported] = stand_in
                    self.replaced.append(f"import {imported} in {name}")


_last_now: list[Any] = [None, None, None]


def _datetime_class() -> type:
    class SimDatetimeMeta(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real_datetime.datetime)

        def __subclasscheck__(cls, sub: type) -> bool:
            return issubclass(sub, real_datetime.datetime)

    class SimDatetime(real_datetime.datetime, metaclass=SimDatetimeMeta):
        """`datetime.datetime` whose now is the virtual one."""

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return real_datetime.datetime(*args, **kwargs)  # noqa: DTZ001 (the caller's zone)

        @classmethod
        def now(cls, tz: real_datetime.tzinfo | None = None) -> Any:
            # Time stands still while stages run, and a datetime cannot be changed.
            seconds = _wall()
            if seconds != _last_now[0] or tz is not _last_now[1]:
                stamp = real_datetime.datetime.fromtimestamp(EPOCH_S + seconds, tz)
                _last_now[:] = (seconds, tz, stamp)
            return _last_now[2]

        @classmethod
        def utcnow(cls) -> Any:
            return real_datetime.datetime.fromtimestamp(_seconds(), _utc).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            return real_datetime.datetime.fromtimestamp(_seconds())  # noqa: DTZ006 (as today())

    SimDatetime.__name__ = SimDatetime.__qualname__ = "datetime"
    return SimDatetime


def _uuid4() -> real_uuid.UUID:
    return real_uuid.UUID(int=_bits(128), version=4)


def _module(real: types.ModuleType, **names: Any) -> types.ModuleType:
    """Return a module like `real`, with some names replaced."""
    stand_in = types.ModuleType(real.__name__)
    vars(stand_in).update(vars(real))
    vars(stand_in).update(names)
    return stand_in


def _pairs() -> list[tuple[Any, Any]]:
    """Pair each real clock and id source with its stand-in."""
    clocks: dict[str, Callable[..., Any]] = {
        "time": _seconds,
        "time_ns": lambda: int(_seconds() * 1e9),
        "monotonic": lambda: _Source.clock(),  # noqa: PLW0108 (the clock changes)
        "monotonic_ns": lambda: int(_Source.clock() * 1e9),
        "perf_counter": lambda: _Source.clock(),  # noqa: PLW0108 (the clock changes)
        "perf_counter_ns": lambda: int(_Source.clock() * 1e9),
    }
    draws = {
        name: _drawn(name)
        for name in ("random", "uniform", "randint", "choice", "shuffle", "sample", "gauss")
    }
    sim_datetime = _datetime_class()
    return [
        (real_time, _module(real_time, **clocks)),
        (real_datetime, _module(real_datetime, datetime=sim_datetime)),
        (real_datetime.datetime, sim_datetime),
        (real_uuid, _module(real_uuid, uuid4=_uuid4)),
        (real_uuid.uuid4, _uuid4),
        (random, _module(random, **draws)),
        *((getattr(real_time, name), function) for name, function in clocks.items()),
        *((getattr(random, name), method) for name, method in draws.items()),
    ]


_PAIRS = _pairs()
_STAND_INS = {id(real): stand_in for real, stand_in in _PAIRS}

CLOCK_MODULES = frozenset({"time", "datetime", "uuid", "random"})


def stand_in_of(real: Any) -> Any:
    """Return what stands for a clock or a source of chance, a module or a function; else itself."""
    return _STAND_INS.get(id(real), real)


def _imported_inside(module: types.ModuleType) -> set[str]:
    """Return the clock modules that functions of a module import when they run."""
    found: set[str] = set()
    for code in _codes(vars(module).values(), module.__name__):
        if CLOCK_MODULES.isdisjoint(code.co_names):
            continue
        for instruction in dis.get_instructions(code):
            if instruction.opname == "IMPORT_NAME" and instruction.argval in CLOCK_MODULES:
                found.add(instruction.argval)
    return found


def _codes(values: Iterable[Any], module: str) -> Iterator[types.CodeType]:
    """Yield the code of every function and method defined in a module, inner ones included."""
    for value in list(values):  # looking at a class may give it more attributes
        if isinstance(value, type) and value.__module__ == module:
            yield from _codes(vars(value).values(), module)
            continue
        function = getattr(value, "__func__", value)
        if isinstance(value, property):
            function = value.fget
        if isinstance(function, types.FunctionType) and function.__module__ == module:
            yield from _nested(function.__code__)


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _nested(const)
