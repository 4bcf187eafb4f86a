"""One load from its beginning to its figures: serve, drive through the proxy, settle, judge."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.kernel.errors import EnvironmentFault, HarnessFault
from harness.kernel.program import Program
from harness.lab.engines import EngineRef
from harness.lab.environments import Say
from harness.lab.load import figures
from harness.lab.load.evidence import Evidence, Window, fates, in_window, percentiles
from harness.lab.load.faults import FaultPlan, Faults
from harness.lab.load.held import back, growth, leaks
from harness.lab.load.judge import Broken, Check, judge
from harness.lab.load.knee import Knee, Objective, Step, find_knee, judged
from harness.lab.load.programs import FAILING
from harness.lab.load.server import Served, serving
from harness.lab.load.users import (
    WORKERS_LIMIT_S,
    Master,
    Users,
    await_end,
    check_end,
    read_lines,
    read_workers,
    users_running,
)
from harness.lab.load.workers import seen, workers_told
from harness.lab.resources import (
    Sample,
    Sampler,
    sample,
    write_samples,
)
from harness.proxy.client import NotFound, Toxiproxy, network

__all__ = ["LoadPlan", "run_load"]

ECHOES = 100
WARM_UP_RUNS = 200
SETTLE_LIMIT_S = 20.0
AROUND_S = 240.0
STEP_S = 6.0
FIRST_RATE = 10.0
RATE_MAX = 2_000.0
USERS_MAX = 400


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
    if plan.users.master is not None:
        life_s += WORKERS_LIMIT_S
    with (
        serving(
            engine, say=say, program=plan.program, ledger=folder / "runs.jsonl", life_s=life_s
        ) as served,
        network(seed=plan.seed) as client,
        _proxied(client, served, plan.users.master) as (name, url),
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
        "about": told["about"],
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
def _proxied(client: Toxiproxy, served: Served, master: Master | None) -> Iterator[tuple[str, str]]:
    name = f"dagstorm-load-{os.getpid()}"
    listen = "127.0.0.1" if master is None else master.host
    proxy = client.create(name, f"{served.host}:{served.port}", listen=f"{listen}:0")
    host, port = proxy.address
    try:
        yield name, f"http://{host if master is None else master.public}:{port}"
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
    workers: list[dict[str, Any]]


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
                wait_s = WORKERS_LIMIT_S if users.master is not None else 0.0
                whole = await_end(process, users.time_s + wait_s + AROUND_S, faults.tick)
            finally:
                faults.take_off()
    if whole:
        check_end(process, folder)
    workers = read_workers(folder)
    return _Driven(seen(records, workers), faults.windows, sampler.samples, whole, workers)


def _one(place: _Place, say: Say) -> dict[str, Any]:
    plan, served = place.plan, place.served
    before = sample("engine", served.pid)
    say(f"load: {plan.users.users} users for {plan.users.time_s:g} s; faults: {plan.faults.words}")
    if (master := plan.users.master) is not None:
        say(
            f"load: waiting for {master.workers} workers: dagstorm load --worker --master-host "
            f"{master.public} --master-port {master.port}"
        )
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
    if plan.users.master is not None:
        checks.append(workers_told(plan.users.master.workers, driven.workers))
    if before is not None and after is not None:
        checks += back(before, after)
    if plan.hold:
        checks.append(growth(driven.samples))
    if plan.leak_batches and plan.leak_runs and driven.whole and after is not None:
        say("load: repeated runs, to see what is kept of them")
        checks += leaks(place.served, runs=plan.leak_runs, count=plan.leak_batches)
    return {
        "status": "completed" if driven.whole else "interrupted",
        "checks": [dataclasses.asdict(c) for c in checks],
        "latencies": figures.latencies(evidence),
        "stages": figures.stages(evidence),
        "windows": [dataclasses.asdict(w) for w in driven.windows],
        "timeline": figures.timeline(evidence, driven.samples),
        "resources": figures.resources(driven.samples),
        "stats": stats,
        "overhead": figures.overhead(evidence, driven.samples),
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
        broken = (Broken("silent-after-load" if code is None else "", 1, how),)
        return stats, _alive("fail", rule, how, broken)
    time.sleep(0.5)
    return stats, _alive("pass", rule, "it answers")


def _alive(verdict: str, rule: str, actual: str, broken: tuple[Broken, ...] = ()) -> Check:
    return Check(
        "alive", verdict, rule, actual, severity="critical", clause="LOAD-1", broken=broken
    )


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
