"""The probe's worker: imports the user's function once, then runs it many times.

Each run happens in a forked child, so that all begin from the state in which the import
left the process: a lock held for ever in one run cannot blame the next, a crash or a
blocked loop costs one run, and no memory adds up. One JSON request comes in on standard
input; progress and one answer go out. Standard library and kernel only: it runs in the
user's own environment.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from harness.kernel.errors import DagstormError, EnvironmentFault, InputError
from harness.kernel.substitutes import Substitutes
from harness.lab.probe_case import Defect, Disturbance, Limits, Subject, died
from harness.lab.probe_judge import Baseline
from harness.lab.probe_loop import Locks
from harness.lab.probe_run import run_once
from harness.lab.probe_sources import Sources
from harness.lab.probe_target import load, split

__all__ = ["main"]

WALL_GRACE_S = 5.0
CHILD_GRACE_S = 1.0
REPLY_MAX_BYTES = 64 << 20
NOTES_MAX = 20
OURS = frozenset({"harness", "scenarios", "mocks", "__main__"})
MEMORY_MAX_BYTES = 4 << 30


def main() -> None:
    """Answer the one request on standard input."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)

    def say(message: Mapping[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    try:
        request = json.loads(sys.stdin.readline())
        say({"ok": _Probe(request, say).go()})
    except DagstormError as exc:
        say({"error": {"kind": type(exc).__name__, "message": str(exc)}})


class _Probe:
    def __init__(self, request: Mapping[str, Any], say: Any) -> None:
        self.say = say
        self.limits = Limits(
            horizon_s=float(request["horizon_s"]),
            steps_max=int(request["steps_max"]),
            wall_s=float(request["wall_s"]),
        )
        self.points_max = int(request["points_max"])
        self.seeds = int(request["runs"])
        self.seed = int(request["seed"])
        self.may_raise = bool(request["may_raise"])
        self.ends_by = time.monotonic() + float(request["budget_s"])
        self.only: Mapping[str, Any] | None = request.get("only")
        self.target = str(request["target"])
        self.options = str(request["options"])
        self.subject = _subject(request)
        self.found: dict[tuple[str, str], dict[str, Any]] = {}
        self.families: dict[str, int] = {}
        self.notes: dict[str, int] = {}
        self.expected = ""
        self.allowed: list[str] = []
        self.rerunnable = True
        self.left_out = ""
        self.sampled = ""
        self.done = 0

    def go(self) -> dict[str, Any]:
        clean = self._run(Disturbance(), lines=True)
        self._check(clean)
        if self.only is not None:
            return self._one(Disturbance(**self.only), clean)
        self._judge(Disturbance(), clean)
        if clean["ended"] == "over":
            self.expected = _expected(clean)
            self.allowed = clean["held"]
            self.rerunnable = clean["rerunnable"]
            for _ in self._campaign(clean):
                if time.monotonic() > self.ends_by:
                    self.left_out = f"the budget of time ended after {self.done} runs"
                    break
        self._confirm()
        return self._answer(clean)

    def _campaign(self, clean: Mapping[str, Any]) -> Iterator[None]:
        """Run everything, a run at each step; the caller stops it when time is up."""
        base: Baseline = _baseline(clean)
        points = self._points(clean["points"])
        followed: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for point in points:
            what = Disturbance(point=point)
            run = self._run(what, baseline=base, lines=True)
            self._judge(what, run)
            if run["accepted"] and run["ended"] == "over" and run["points"] > point + 1:
                followed.setdefault(run["landed"], []).append((point, run))
            run["baseline"] = run["baseline"] if run["points"] > point + 1 else None
            yield
        for what in self._timeouts(clean):
            self._judge(what, self._run(what, baseline=base))
            yield
        yield from self._twice(followed)
        yield from self._seeded()

    def _points(self, count: int) -> list[int]:
        every = list(range(count))
        if len(every) <= self.points_max:
            return every
        self.sampled = f"{self.points_max} of {len(every)} points tried (--points-max)"
        step = len(every) / self.points_max
        return [every[int(i * step)] for i in range(self.points_max)]

    def _timeouts(self, clean: Mapping[str, Any]) -> list[Disturbance]:
        """Time out at each time at which something was due, and half-way between."""
        times = clean["deadlines"]
        between = [(a + b) / 2 for a, b in zip([0.0, *times], times, strict=False)]
        chosen = sorted({*times, *between})
        if len(chosen) > self.points_max:
            step = len(chosen) / self.points_max
            chosen = [chosen[int(i * step)] for i in range(self.points_max)]
        return [Disturbance(timeout_s=t, wait_for=w) for t in chosen for w in (False, True)]

    def _twice(self, followed: Mapping[str, list[tuple[int, dict[str, Any]]]]) -> Iterator[None]:
        """Cancel again while the first cancel is being answered; each place once at first."""
        left = self.points_max
        rounds = max((len(v) for v in followed.values()), default=0)
        for turn in range(rounds):
            for runs in followed.values():
                if turn >= len(runs):
                    continue
                point, run = runs[turn]
                base = _baseline(run)
                for second in range(point + 1, run["points"]):
                    if left <= 0:
                        self.sampled = self.sampled or "not every pair of points tried"
                        return
                    left -= 1
                    what = Disturbance(point=point, second=second)
                    again = self._run(what, baseline=base)
                    if again["sent"] == 2:
                        self._judge(what, again)
                    yield

    def _seeded(self) -> Iterator[None]:
        """Perturb the schedule by a seed: undisturbed, then with one cancel somewhere."""
        for number in range(self.seeds):
            seed = self.seed + number
            what = Disturbance(seed=seed)
            calm = self._run(what, lines=True)
            self._judge(what, calm)
            yield
            if calm["ended"] != "over" or not calm["points"]:
                continue
            what = replace(what, point=Random(seed).randrange(calm["points"]))
            self._judge(what, self._run(what, baseline=_baseline(calm)))
            yield

    def _one(self, what: Disturbance, clean: dict[str, Any]) -> dict[str, Any]:
        """Run exactly one disturbance, with the run that it is compared with."""
        self.expected = _expected(clean) if clean["ended"] == "over" else ""
        self.allowed = clean["held"]
        self.rerunnable = clean["rerunnable"]
        calm = clean
        if what.seed:
            calm = self._run(Disturbance(seed=what.seed), lines=True)
        if what.second is not None:
            first = replace(what, second=None)
            calm = self._run(first, baseline=_baseline(calm), lines=True)
        if what == Disturbance():
            run = clean
        else:
            base = None if what.family == "seed" and what.point is None else _baseline(calm)
            run = self._run(what, baseline=base)
        self._judge(what, run)
        self._confirm()
        return {**self._answer(clean), "one": {k: v for k, v in run.items() if k != "baseline"}}

    def _check(self, clean: Mapping[str, Any]) -> None:
        outcome = clean["outcome"]
        if outcome["how"] == "raised" and not self.may_raise:
            raise InputError(
                f"probe {self.target}: undisturbed, it raised {outcome['type']}: "
                f"{outcome['says'] or 'no message'}, at {outcome['place'] or 'no line of yours'}; "
                f"give it what it needs (--args, stubs), or say --may-raise if that is right"
            )
        if outcome["how"] == "cancelled":
            raise InputError(f"probe {self.target}: undisturbed, it ended by CancelledError")

    def _judge(self, what: Disturbance, run: Mapping[str, Any]) -> None:
        sent = what.point is not None or what.timeout_s is not None
        if sent and not run["accepted"] and not run["defects"]:
            return
        family = what.family
        self.families[family] = self.families.get(family, 0) + 1
        seen = set()
        for defect in run["defects"]:
            key = _key(defect)
            if key in seen:
                continue
            seen.add(key)
            one = self.found.setdefault(
                key,
                {**defect, "hits": {}, "first": what, "landed": run["landed"]},
            )
            one["hits"][family] = one["hits"].get(family, 0) + 1
        for note in set(run["notes"]):
            if note in self.notes or len(self.notes) < NOTES_MAX:
                self.notes[note] = self.notes.get(note, 0) + 1

    def _confirm(self) -> None:
        """Run the first witness of each defect again; what does not show again is no defect."""
        for key, one in list(self.found.items()):
            what: Disturbance = one["first"]
            one["first"] = what.words()
            base = self._base_of(what)
            run = self._run(what, baseline=base)
            if key not in {_key(d) for d in run["defects"]}:
                del self.found[key]
                note = f"{one['says']} at {one['place']}: seen once, not again ({what.words()})"
                self.notes[f"nondeterministic: {note}"] = 1

    def _base_of(self, what: Disturbance) -> Baseline | None:
        if what.point is None and what.timeout_s is None:
            return None
        run = self._run(Disturbance(seed=what.seed), lines=True)
        if what.second is not None:
            first = replace(what, second=None)
            run = self._run(first, baseline=_baseline(run), lines=True)
        return _baseline(run)

    def _answer(self, clean: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "target": self.target,
            "options": self.options,
            "python": ".".join(str(n) for n in sys.version_info[:3]),
            "clean": {k: clean[k] for k in ("outcome", "ended", "points", "took_s")},
            "runs": self.done,
            "families": self.families,
            "defects": list(self.found.values()),
            "notes": [{"says": k, "times": v} for k, v in self.notes.items()],
            "limits": [t for t in (self.sampled, self.left_out) if t],
        }

    def _run(
        self,
        what: Disturbance,
        *,
        baseline: Baseline | None = None,
        lines: bool = False,
    ) -> dict[str, Any]:
        """Run once in a child of its own."""
        self.done += 1
        if self.done % 50 == 0:
            self.say({"progress": {"runs": self.done, "defects": len(self.found)}})
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os.close(reader)
            _child(self, what, baseline, lines, writer)
        os.close(writer)
        answer: dict[str, Any] | None = None
        how = "was killed"
        try:
            answer = _read(reader, self.limits.wall_s + WALL_GRACE_S)
        finally:
            os.close(reader)
            how = _end(child)
        if answer is None:
            return died([Defect("died", "", f"the process of this run {how}").to_json()])
        if "error" in answer:
            kinds = {"InputError": InputError, "EnvironmentFault": EnvironmentFault}
            message = f"probe {self.target}: {answer['error']['message']}"
            raise kinds.get(answer["error"]["kind"], EnvironmentFault)(message)
        reply: dict[str, Any] = answer["ok"]
        return reply


def _child(
    probe: _Probe, what: Disturbance, baseline: Baseline | None, lines: bool, writer: int
) -> None:
    """Run in the child, answer through the pipe, and leave without any teardown."""

    def answer(message: Mapping[str, Any]) -> None:
        data = json.dumps(message).encode()
        with os.fdopen(writer, "wb", closefd=False) as file:
            file.write(data)
        os._exit(0)

    try:
        if probe.only is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
        reply = run_once(
            probe.subject,
            what,
            probe.limits,
            baseline=baseline,
            expected=probe.expected,
            allowed=probe.allowed,
            again=probe.rerunnable,
            lines=lines,
            say=lambda reply: answer({"ok": reply}),
        )
        sys.settrace(None)
        answer({"ok": reply})
    except DagstormError as exc:
        answer({"error": {"kind": type(exc).__name__, "message": str(exc)}})
    except (SystemExit, KeyboardInterrupt) as exc:
        says = f"{type(exc).__name__} came out of the event loop, which ends the process"
        answer({"ok": died([Defect("died", _raised_at(probe, exc), says).to_json()])})
    except BaseException as exc:
        text = f"the run raised {type(exc).__name__}: {str(exc)[:200]}"
        answer({"error": {"kind": "Crash", "message": text}})
        raise


def _raised_at(probe: _Probe, exc: BaseException) -> str:
    sources, place = probe.subject.sources, ""
    for frame, line in traceback.walk_tb(exc.__traceback__):
        if sources.is_users(frame.f_code.co_filename):
            place = sources.place(frame.f_code, line)
    return place


def _read(reader: int, limit_s: float) -> dict[str, Any] | None:
    ends = time.monotonic() + limit_s
    chunks: list[bytes] = []
    size = 0
    while size < REPLY_MAX_BYTES:
        left = ends - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            return None
        chunk = os.read(reader, 1 << 16)
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
    try:
        answer: dict[str, Any] = json.loads(b"".join(chunks))
    except ValueError:
        return None
    return answer


def _end(child: int) -> str:
    """Wait for a child that has answered, or kill it; say how it ended."""
    ends = time.monotonic() + CHILD_GRACE_S
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return f"ended with code {code}" if code >= 0 else f"died of signal {-code}"
        if time.monotonic() > ends:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hung: it blocked where not even an alarm reached it"
        time.sleep(0.0005)


def _baseline(run: Mapping[str, Any]) -> Baseline:
    """Return a run's frames; JSON has made texts of their numbers."""
    return {int(k): (v[0], v[1]) for k, v in (run["baseline"] or {}).items()}


def _key(defect: Mapping[str, Any]) -> tuple[str, str]:
    """Return what makes two defects the same one: what sort, and where."""
    place = str(defect["place"])
    if defect["kind"] == "blocked":
        # The alarm hits another line of the same loop each time.
        place = re.sub(r":\d+ ", ": ", place)
    return defect["kind"], place


def _expected(clean: Mapping[str, Any]) -> str:
    outcome = clean["outcome"]
    return f"raised {outcome['type']}" if outcome["how"] == "raised" else str(outcome["how"])


def _subject(request: Mapping[str, Any]) -> Subject:
    """Import the target and prepare this process for thousands of runs."""
    locks = Locks()
    locks.hook()
    for path in reversed(request["paths"]):
        if path not in sys.path:
            sys.path.insert(0, path)
    if not hasattr(os, "fork"):
        raise EnvironmentFault("probe: it needs os.fork, which this system does not have")
    call, module = load(str(request["target"]), request["args"])
    if threading.active_count() > 1:
        raise InputError(
            f"probe {request['target']}: importing it started threads, which a probe's runs "
            f"cannot share; start them inside the function"
        )
    home = getattr(module, "__file__", None) or ""
    name = module.__name__
    if "." in name and not split(str(request["target"]))[0].endswith(".py"):
        top = sys.modules[name.partition(".")[0]]
        home = os.path.dirname(getattr(top, "__file__", None) or "") or home
    sources = Sources(home, os.getcwd())
    sources.read_ahead()
    logging.disable(logging.CRITICAL)
    _limit_memory()
    # Last, since what is imported after it is looked through again in every run.
    clocks = tuple(Substitutes(top) for top in _packages())
    for one in clocks:
        one.follow(lambda: 0.0, 0)
    gc.collect()
    gc.freeze()
    gc.disable()
    return Subject(call, sources, locks, clocks)


def _packages() -> list[str]:
    """Return the top packages whose clocks are to follow virtual time: all but Python's own."""
    tops = {name.partition(".")[0] for name in list(sys.modules)}
    mine = {t for t in tops if t not in sys.stdlib_module_names and t not in OURS}
    return sorted(t for t in mine if getattr(sys.modules.get(t), "__file__", None))


def _limit_memory() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_MAX_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_MAX_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
