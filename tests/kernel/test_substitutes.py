"""An engine's clocks and ids follow virtual time, in its modules and nowhere else.

What an engine imports inside a function is replaced for the whole process, so these
tests look on from a process of their own.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# Fills `seen` with what an engine sees of a clock that stands at 90.5 s.
LOOK = '''
import json, sys, types

sys.path.insert(0, {root!r})
ENGINE = """
import datetime as dt
import random
import time
import uuid
from datetime import datetime, timedelta, timezone
from time import monotonic as mono, time as now
from uuid import uuid4


def stamps():
    return [time.time(), now(), time.monotonic(), mono(), time.perf_counter(), time.time_ns()]


def dates():
    zone = timezone.utc
    return [datetime.now(zone).isoformat(), dt.datetime.now(zone).isoformat(),
            datetime.utcnow().isoformat()]


def inside():
    import time
    from datetime import datetime, timezone
    return [time.time(), datetime.now(timezone.utc).isoformat()]


class Run:
    @property
    def started(self):
        from time import monotonic
        return monotonic()


def ids():
    return [str(uuid4()), str(uuid.uuid4()), random.random()]


def kinds():
    made = datetime(2026, 1, 2)
    return [isinstance(datetime.now(), datetime), isinstance(made, datetime),
            isinstance(made, dt.datetime), isinstance(3, datetime),
            issubclass(dt.datetime, datetime), (made + timedelta(days=1)).isoformat(),
            datetime.fromisoformat("2026-01-02T03:04:05").hour, datetime.__name__]
"""


def module(name):
    made = types.ModuleType(name)
    made.__file__ = name
    exec(ENGINE, vars(made))
    sys.modules[name] = made
    return made


engine, inner, other = (module(n) for n in ("fake", "fake.inner", "fakery"))
real_time = other.time.time

from harness.kernel.substitutes import EPOCH_S, Substitutes

clock = [90.5]
substitutes = Substitutes("fake")
substitutes.follow(lambda: clock[0], 7)
first = engine.ids()
seen = dict(
    epoch=EPOCH_S, stamps=engine.stamps(), inner=inner.stamps(), dates=engine.dates(),
    inside=engine.inside(), property=engine.Run().started, kinds=engine.kinds(), ids=first,
    other_is_real=other.now is real_time and other.time.time is real_time,
    replaced=sorted(substitutes.replaced),
)
substitutes.follow(lambda: clock[0], 7)
seen["same_seed"] = engine.ids()
substitutes.follow(lambda: clock[0], 8)
seen["other_seed"] = engine.ids()
clock[0] = 91.0
seen["later"] = engine.time.monotonic()
late = module("fake.late")
substitutes.follow(lambda: clock[0], 7)
seen["imported_later"] = late.mono()
real = (sys.modules["time"], engine.datetime, late.mono, late.uuid4)
substitutes.withdraw()
seen["withdrawn"] = [
    engine.now is real_time and engine.time.time is real_time and engine.time is other.time,
    engine.datetime is other.datetime, late.mono is other.mono, late.uuid4 is other.uuid4,
    inner.now is real_time, sys.modules["time"] is other.time, substitutes.replaced == [],
]
substitutes.follow(lambda: clock[0], 7)
seen["put_in_again"] = [late.mono(), sys.modules["time"] is real[0]]
print(json.dumps(seen))
'''


@functools.cache
def seen() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK.format(root=str(ROOT))],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def test_every_clock_of_an_engine_module_is_the_virtual_one() -> None:
    epoch = seen()["epoch"]
    stamps = [epoch + 90.5, epoch + 90.5, 90.5, 90.5, 90.5, int((epoch + 90.5) * 1e9)]
    assert (seen()["stamps"], seen()["inner"]) == (stamps, stamps)
    assert seen()["later"] == 91.0


def test_dates_are_virtual_too() -> None:
    with_zone = "2026-01-01T00:01:30.500000+00:00"
    assert seen()["dates"] == [with_zone, with_zone, with_zone.removesuffix("+00:00")]


def test_a_clock_imported_inside_a_function_or_a_property_is_virtual_as_well() -> None:
    assert seen()["inside"] == [seen()["epoch"] + 90.5, "2026-01-01T00:01:30.500000+00:00"]
    assert seen()["property"] == 90.5


def test_the_stand_in_for_datetime_is_still_a_class_of_dates() -> None:
    assert seen()["kinds"] == [
        *(True, True, True, False, True),
        *("2026-01-03T00:00:00", 3, "datetime"),
    ]


def test_ids_are_drawn_from_the_seed() -> None:
    assert seen()["same_seed"] == seen()["ids"]
    assert seen()["other_seed"] != seen()["ids"]


def test_a_package_whose_name_only_begins_alike_keeps_its_clocks() -> None:
    assert seen()["other_is_real"] is True
    assert [name for name in seen()["replaced"] if name.startswith("fakery")] == []


def test_a_module_that_the_engine_loads_later_is_reached_too() -> None:
    assert seen()["imported_later"] == 91.0


def test_clocks_that_are_withdrawn_are_the_real_ones_until_they_are_followed_again() -> None:
    assert seen()["withdrawn"] == [True] * 7
    assert seen()["put_in_again"] == [91.0, True]
