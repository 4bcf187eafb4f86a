"""One load from its beginning to its figures: serve, drive through the proxy, settle, judge."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.kernel.errors import EnvironmentFault, HarnessFault
from harness.kernel.program import Program
from harness.lab.engines import EngineRef
from harness.lab.environments import Say
from harness.lab.load.faults import FaultPlan, Faults
from harness.lab.load.judge import (
    Check,
    Evidence,
    Window,
    fates,
    in_window,
    judge,
    percentiles,
)
from harness.lab.load.knee import Knee, Objective, Step, find_knee, judged
from harness.lab.load.programs import FAILING
from harness.lab.load.server import Served, serving
from harness.lab.load.users import Users, await_end, check_end, read_lines, users_running
from harness.lab.resources import (
    Sample,
    Sampler,
    batches,
    leak_verdict,
    sample,
    slope,
    write_samples,
)
from harness.proxy.client import NotFound, Toxiproxy, network

__all__ = ["LoadPlan", "growth", "run_load"]

ECHOES = 100
WARM_UP_RUNS = 200
SETTLE_LIMIT_S = 20.0
AROUND_S = 240.0
STEP_S = 6.0
FIRST_RATE = 10.0
RATE_MAX = 2_000.0
USERS_MAX = 400
GROWTH_WARM_UP = 0.2
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What a load is made of.

    Attributes:
        seed: of the proxy's chances.
        error_budget: the share of requests that may go wrong.
        leak_batches: of `leak_runs` runs each, after the load; either 0 for none.
        program: {"program", "plan"} of the user's own, or None for the default ones.
        hold: it is a soak: growth over its time is judged.
        objective: find the knee for it instead of driving one load.
    """

    users: Users = field(default_factory=Users)
    faults: FaultPlan = field(default_factory=FaultPlan)
    seed: int = 1
    error_budget: float = 0.01
    leak_batches: int = 10
    leak_runs: int = 200
    program: Mapping[str, Any] | None = None
    hold: bool = False
    objective: Objective | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a load goes: the served engine, and the proxy before it."""

    served: Served
    client: Toxiproxy
    proxy: str
    url: str
    folder: Path
    plan: LoadPlan


def run_load(engine: EngineRef, plan: LoadPlan, folder: Path, say: Say) -> dict[str, Any]:
    """Put an engine under load; returns all figures and checks as plain data.

    `folder` gets `locust/`, `runs.jsonl` and `resources.csv`.

    Raises:
        InputError: if the engine cannot serve the program.
        EnvironmentFault: if a process or port cannot be had.
    """
    began_s = time.time()
    life_s = plan.users.time_s * (20 if plan.objective else 1) + AROUND_S * 3
    with (
        serving(
            engine, say=say, program=plan.program, ledger=folder / "runs.jsonl", life_s=life_s
        ) as served,
        network(seed=plan.seed) as client,
        _proxied(client, served) as (name, url),
    ):
        place = _Place(served, client, name, url, folder, plan)
        overhead = _echoes(place)
        served.ask("POST", "/batch", {"runs": WARM_UP_RUNS})
        if plan.objective is not None:
            result = _knee(place, plan.objective, say)
        else:
            result = _one(place, say)
        overhead |= result.pop("overhead", {})
    told = served.told
    return {
        "engine": engine.name,
        "engine_version": engine.version or told["version"],
        "began_at": round(began_s, 3),
        "duration_s": round(time.time() - began_s, 3),
        "plan": _plan_data(plan),
        "overhead": overhead,
        **result,
    }


def _plan_data(plan: LoadPlan) -> dict[str, Any]:
    data = dataclasses.asdict(plan)
    data["users"]["more"] = list(plan.users.more)
    data["faults"]["words"] = plan.faults.words
    data["program"] = None if plan.program is None else plan.program["program"]["name"]
    data["objective"] = None if plan.objective is None else plan.objective.text
    return data


@contextlib.contextmanager
def _proxied(client: Toxiproxy, served: Served) -> Iterator[tuple[str, str]]:
    name = f"dagstorm-load-{os.getpid()}"
    proxy = client.create(name, f"{served.host}:{served.port}")
    host, port = proxy.address
    try:
        yield name, f"http://{host}:{port}"
    finally:
        with contextlib.suppress(NotFound):
            client.delete(name)


def _echoes(place: _Place) -> dict[str, Any]:
    """Measure what a request costs that runs nothing: front and client, with and without proxy."""
    host, port = place.url.removeprefix("http://").rsplit(":", 1)
    direct, through = [], []
    for _ in range(ECHOES):  # by turns, so that both see the same machine
        direct.append(_echo(place.served.host, place.served.port))
        through.append(_echo(host, int(port)))
    return {
        "echo_direct": percentiles(direct),
        "echo_through_proxy": percentiles(through),
        "proxy_adds_ms": round((statistics.median(through) - statistics.median(direct)) * 1000, 3),
    }


def _echo(host: str, port: int) -> float:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    began_s = time.perf_counter()
    try:
        connection.request("POST", "/echo", b"{}", {"Connection": "close"})
        connection.getresponse().read()
    except (OSError, http.client.HTTPException) as exc:
        raise EnvironmentFault(
            f"the served engine does not answer at {host}:{port}: {exc}"
        ) from exc
    finally:
        connection.close()
    return time.perf_counter() - began_s


@dataclass(frozen=True, slots=True)
class _Driven:
    records: list[Mapping[str, Any]]
    windows: list[Window]
    samples: list[Sample]
    whole: bool


def _drive(place: _Place, users: Users, folder: Path) -> _Driven:
    """Let the users do their work once."""
    records = folder / "records"
    faults = Faults(
        place.client,
        place.proxy,
        place.plan.faults,
        users.time_s,
        lambda: records.exists() and any(records.iterdir()),
    )
    pids = {"engine": place.served.pid, "dagstorm": os.getpid()}
    with users_running(users, place.url, folder, place.served.told["programs"]) as process:
        pids["users"] = process.pid
        # Of its children, only what is asked for by name is this process's own.
        with Sampler(pids, every_s=max(0.5, users.time_s / 2_000), alone=("dagstorm",)) as sampler:
            try:
                whole = await_end(process, users.time_s + AROUND_S, faults.tick)
            finally:
                faults.take_off()
    if whole:
        check_end(process, folder)
    return _Driven(
        read_lines(sorted(records.glob("*.jsonl"))), faults.windows, sampler.samples, whole
    )


def _one(place: _Place, say: Say) -> dict[str, Any]:
    plan, served = place.plan, place.served
    before = sample("engine", served.pid)
    say(f"load: {plan.users.users} users for {plan.users.time_s:g} s; faults: {plan.faults.words}")
    driven = _drive(place, plan.users, place.folder / "locust")
    stats, alive = _settled(served)
    after = sample("engine", served.pid) if alive.verdict == "pass" else None
    write_samples(place.folder / "resources.csv", driven.samples)
    ledger = read_lines([place.folder / "runs.jsonl"])
    program = None if plan.program is None else Program.from_json(plan.program["program"])
    evidence = Evidence(
        driven.records,
        ledger,
        stats,
        failing="" if plan.program else FAILING,
        windows=driven.windows,
        marked=program is None or _marked(program),
        once=program is None or _once(program),
    )
    checks = [alive, *judge(evidence, error_budget=plan.error_budget)]
    checks += _faults_fired(evidence, plan.faults)
    if before is not None and after is not None:
        checks += _back(before, after)
    if plan.hold:
        checks.append(growth(driven.samples))
    if plan.leak_batches and plan.leak_runs and driven.whole and after is not None:
        say("load: repeated runs, to see what is kept of them")
        checks += _leaks(place)
    return {
        "status": "completed" if driven.whole else "interrupted",
        "checks": [dataclasses.asdict(c) for c in checks],
        "latencies": _latencies(evidence),
        "stages": _stages(evidence),
        "windows": [dataclasses.asdict(w) for w in driven.windows],
        "timeline": _timeline(evidence, driven.samples),
        "resources": _resources(driven.samples),
        "stats": stats,
        "overhead": _load_overhead(evidence, driven.samples),
    }


def _settled(served: Served) -> tuple[dict[str, Any], Check]:
    """Wait until no run is under way any more, within a limit.

    Returns what the server says then, and whether it says anything at all.
    """
    rule = "the engine's process lives on through the load, and answers after it"
    until = time.monotonic() + SETTLE_LIMIT_S
    stats: dict[str, Any] = {}
    try:
        while True:
            stats = served.ask("GET", "/stats")
            if not stats["open_runs"] or time.monotonic() > until:
                break
            time.sleep(0.1)
        # A batch of no runs collects garbage; then the ledger has had the time to be written.
        served.ask("POST", "/batch", {"runs": 0})
    except HarnessFault as exc:
        code = served.process.poll()
        how = str(exc) if code is None else f"it ended with code {code}"
        return stats, Check("alive", "fail", rule, how, severity="critical")
    time.sleep(0.5)
    return stats, Check("alive", "pass", rule, "it answers", severity="critical")


def _marked(program: Program) -> bool:
    return any(s.op == "ok" and "$marker" in repr(s.args["value"]) for _, s in program.walk())


def _once(program: Program) -> bool:
    repeats = any(stage.retry is not None for stage in program.stages)
    return not repeats and all(step.op != "subpipeline" for _, step in program.walk())


def _faults_fired(evidence: Evidence, plan: FaultPlan) -> list[Check]:
    """A fault that never took effect has tested nothing."""
    if not plan.any:
        return []
    sent = fates(evidence)
    under = [one for one in evidence.records if in_window(one, evidence.windows)]
    share = len(sent.cut) / len(under) if under else 0.0
    fired = bool(evidence.windows and under and (sent.cut or not plan.resets))
    return [
        Check(
            "faults",
            "pass" if fired else "inconclusive",
            f"the faults took effect: {plan.words}",
            f"{len(under)} requests while they were in force, {len(sent.cut)} of them cut "
            f"({share:.1%})",
            severity="info",
            figures={"requests": len(under), "cut": len(sent.cut), "share": round(share, 4)},
        )
    ]


def _back(before: Sample, after: Sample) -> list[Check]:
    """Memory and descriptors are back, after the load, to about where they were before."""
    limit = round(before.rss_bytes * 1.25) + 16 * MIB
    return [
        Check(
            "memory",
            "pass" if after.rss_bytes <= limit else "fail",
            "resident memory after the load is at most a quarter and 16 MiB above that before",
            f"{before.rss_bytes / MIB:.1f} MiB before, {after.rss_bytes / MIB:.1f} MiB after",
            severity="medium",
            figures={"before_bytes": before.rss_bytes, "after_bytes": after.rss_bytes},
        ),
        Check(
            "descriptors",
            "pass" if after.descriptors <= before.descriptors + 3 else "fail",
            "at most three more descriptors are open after the load than before",
            f"{before.descriptors} before, {after.descriptors} after",
            figures={"before": before.descriptors, "after": after.descriptors},
        ),
    ]


def _leaks(place: _Place) -> list[Check]:
    """Repeat runs in batches; what seems to leak is looked at a second time."""
    plan = place.plan

    def once() -> dict[str, float]:
        stats = place.served.ask("POST", "/batch", {"runs": plan.leak_runs})
        held = sample("engine", place.served.pid)
        if held is None:
            raise EnvironmentFault("the serving process is gone")
        return {
            "objects": stats["objects"],
            "memory": held.rss_bytes / 1024,
            "descriptors": held.descriptors,
        }

    def series() -> dict[str, Any]:
        held = batches(once, plan.leak_batches)
        return {
            name: leak_verdict(
                held[name],
                quantity=name,
                unit=unit,
                runs_per_batch=plan.leak_runs,
                warm_up=2,
                floor=floor,
            )
            for name, unit, floor in (
                ("objects", "objects", 0.05),
                ("memory", "KiB", 0.5),
                ("descriptors", "descriptors", 0.01),
            )
        }

    first = series()
    again = series() if any(v.leaks for v in first.values()) else None
    checks = []
    for name, verdict in first.items():
        leaks = verdict.leaks and (again is None or again[name].leaks)
        known = "inconclusive" if verdict.leaks is None else "fail" if leaks else "pass"
        checks.append(
            Check(
                f"leak_of_{name}",
                known,
                f"{verdict.rule}; seen twice, it is a leak",
                f"{verdict.per_run:g} {verdict.unit} a run over {len(verdict.series)} batches of "
                f"{plan.leak_runs} runs",
                figures={
                    "per_run": verdict.per_run,
                    "series": list(verdict.series),
                    "again": [] if again is None else list(again[name].series),
                },
            )
        )
    return checks


def growth(samples: Sequence[Sample]) -> Check:
    """Over a soak, the engine's memory does not grow after its warm-up."""
    mine = [s for s in samples if s.process == "engine"]
    kept = mine[int(len(mine) * GROWTH_WARM_UP) :]
    rule = (
        "after the first fifth, memory grows over the soak (Theil-Sen slope x time, and median of "
        "the last third over that of the first) by less than 8 MiB or a tenth"
    )
    if len(kept) < 30:
        return Check("growth", "inconclusive", rule, f"only {len(kept)} samples")
    thin = kept[:: max(1, len(kept) // 200)]
    span_s = thin[-1].at_s - thin[0].at_s
    per_s = slope([(s.at_s - thin[0].at_s, s.rss_bytes) for s in thin])
    third = len(thin) // 3
    first = statistics.median(s.rss_bytes for s in thin[:third])
    last = statistics.median(s.rss_bytes for s in thin[-third:])
    limit = max(8 * MIB, first / 10)
    grows = per_s * span_s >= limit and last - first >= limit * 2 / 3
    return Check(
        "growth",
        "fail" if grows else "pass",
        rule,
        f"{per_s * 3600 / MIB:.2f} MiB an hour over {span_s:.0f} s",
        figures={"bytes_per_s": round(per_s, 1), "first_bytes": first, "last_bytes": last},
    )


def _latencies(evidence: Evidence) -> dict[str, Any]:
    answered = fates(evidence).answered
    under = [o for o in answered if in_window(o, evidence.windows)]
    ids = {id(o) for o in under}
    return {
        "all": percentiles(o["took_s"] for o in answered),
        "under_faults": percentiles(o["took_s"] for o in under),
        "without_faults": percentiles(o["took_s"] for o in answered if id(o) not in ids),
    }


def _stages(evidence: Evidence) -> dict[str, Any]:
    """Return program/stage -> percentiles, by the stage bodies' own clock."""
    taken: dict[str, list[float]] = {}
    for run in evidence.ledger:
        for stage, seconds in run.get("stages", {}).items():
            taken.setdefault(f"{run['program']}/{stage}", []).append(seconds)
        if "took_s" in run:
            taken.setdefault(f"{run['program']} (whole run)", []).append(run["took_s"])
    return {name: percentiles(taken[name]) for name in sorted(taken)}


def _load_overhead(evidence: Evidence, samples: Sequence[Sample]) -> dict[str, Any]:
    """What dagstorm itself cost: the front beside each run, and processor time of each process."""
    fronts = [r["handled_s"] - r["took_s"] for r in evidence.ledger if "handled_s" in r]
    cpu = {name: of["cpu_s"] for name, of in _resources(samples).items()}
    return {
        "front_beside_the_run": percentiles(fronts),
        "cpu_s": cpu,
        "cpu_share_of_the_engine": round(cpu.get("engine", 0.0) / (sum(cpu.values()) or 1.0), 4),
    }


def _resources(samples: Sequence[Sample]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in dict.fromkeys(s.process for s in samples):
        mine = [s for s in samples if s.process == name]
        found[name] = {
            "samples": len(mine),
            "cpu_s": round(max(s.cpu_s for s in mine) - mine[0].cpu_s, 3),
            **{
                f"{what}_max": max(getattr(s, what) for s in mine)
                for what in ("rss_bytes", "descriptors", "threads", "sockets")
            },
            "switches": max(s.switches for s in mine) - mine[0].switches,
        }
    return found


def _timeline(evidence: Evidence, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return a row for each second: requests, what became of them, percentiles, memory."""
    if not evidence.records:
        return []
    sent = fates(evidence)
    first_s = min(one["at"] for one in evidence.records)
    cut = {id(one) for one in sent.cut}
    answered = {id(one) for one in sent.answered}
    seconds: dict[int, list[Mapping[str, Any]]] = {}
    for one in evidence.records:
        seconds.setdefault(int(one["at"] - first_s), []).append(one)
    memory: dict[int, int] = {}
    for s in samples:
        if s.process == "engine":
            memory[int(s.at_s - first_s)] = s.rss_bytes
    rows = []
    for second in range(max(seconds) + 1):
        here = seconds.get(second, [])
        took = percentiles(o["took_s"] for o in here if id(o) in answered)
        rows.append(
            {
                "second": second,
                "at": round(first_s + second, 3),
                "sent": len(here),
                "answered": sum(id(o) in answered for o in here),
                "cut": sum(id(o) in cut for o in here),
                "p50_ms": took.get("p50_ms"),
                "p95_ms": took.get("p95_ms"),
                "rss_bytes": memory.get(second),
            }
        )
    return rows


def _knee(place: _Place, wanted: Objective, say: Say) -> dict[str, Any]:
    plan = place.plan
    number = 0
    status = "completed"

    def measure(rate: float) -> Step | None:
        nonlocal number, status
        number += 1
        users = dataclasses.replace(
            plan.users,
            rate=rate,
            # As many as can be under way at this rate if each took the time of a second.
            users=min(USERS_MAX, max(5, round(rate))),
            time_s=STEP_S,
        )
        driven = _drive(place, users, place.folder / "locust" / f"step{number:02d}")
        if not driven.whole:
            status = "interrupted"
            return None
        evidence = Evidence(
            driven.records, (), {}, failing="" if plan.program else FAILING, windows=driven.windows
        )
        sent = fates(evidence)
        first_s = min((o["at"] for o in driven.records), default=0.0)
        # Users come in the first second or two; the rate is that of the rest.
        steady = [o for o in sent.answered if o["at"] - first_s >= STEP_S / 3]
        spent_s = max((o["at"] for o in steady), default=0.0) - first_s - STEP_S / 3
        judged_ = len(driven.records) - len(sent.cut) - len(sent.stopped)
        wrong = len(sent.errors) + len(sent.refused) + len(sent.timed_out)
        step = Step(
            round(rate, 3),
            round(len(steady) / spent_s, 3) if spent_s > 0 else 0.0,
            percentiles(o["took_s"] for o in steady),
            round(wrong / judged_, 6) if judged_ else 1.0,
        )
        step = dataclasses.replace(step, why=judged(step, wanted))
        say(f"load: {rate:.1f} requests a second: {step.why or 'kept'}")
        return step

    highest = plan.users.rate or RATE_MAX
    knee: Knee = find_knee(measure, first=min(FIRST_RATE, highest), highest=highest)
    check = Check(
        "knee",
        "inconclusive" if knee.rate is None else "pass",
        f"the highest rate that keeps {wanted.text}",
        knee.said,
        severity="info",
        figures={"rate": knee.rate},
    )
    return {
        "status": status,
        "checks": [dataclasses.asdict(check)],
        "knee": dataclasses.asdict(knee),
        "stats": _settled(place.served)[0],
    }
