"""Engines that break the TENANT clauses: something of one run in a place that others share.

TENANT-2 is broken by layers whose state knows no tenants; see `layers`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.engine.broken.defect import defect
from harness.engine.context import Context
from harness.engine.graph import StageSpec
from harness.engine.job import Job, Stop
from harness.engine.pipeline import Pipeline
from harness.engine.result import Event, RunResult, StageResult
from harness.engine.run import Run
from harness.engine.tenancy import TenantRows

__all__ = ["TENANTS", "Home", "HomeRun"]


class Home(Pipeline):
    """A pipeline that keeps its runs, and that they know. That alone breaks nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.latest: Any = None
        self.live: list[Any] = []
        self.shared: dict[Any, Any] = {}

    def prepare(self, *args: Any, **kwargs: Any) -> Run:
        run = super().prepare(*args, **kwargs)
        self.latest = run
        if isinstance(run, HomeRun):
            run.home = self
        self.live = [one for one in self.live if one.result is None] + [run]
        return run


class HomeRun(Run):
    home: Home | None = None

    @property
    def kept(self) -> Home:
        assert self.home is not None  # `Home` has prepared it
        return self.home


# TENANT-1: values that reach another tenant.


class LatestInputs(Context):
    @property
    def inputs(self) -> Mapping[str, Any]:
        """Return the inputs as the pipeline keeps them: those of the run prepared last."""
        run = self._run
        if not isinstance(run, HomeRun) or run.home is None:
            return super().inputs
        return self._copy(run.home.latest.inputs, "inputs")  # type: ignore[no-any-return]


class OutputsByStage(HomeRun):
    """Keeps outputs by the stage's name, in one place for all runs of the pipeline."""

    def _note(self, report: StageResult) -> None:
        if self.home is not None and report.status == "completed":
            self.home.shared[report.name] = report.output
        super()._note(report)

    def output_of(self, stage: str) -> Any:
        if self.home is not None and stage in self.home.shared:
            return self.home.shared[stage]
        return super().output_of(stage)


class FirstResultKept(HomeRun):
    """Answers with the output that a stage had first, as a cache without a key would."""

    def _note(self, report: StageResult) -> None:
        if self.home is not None and report.status == "completed":
            first = self.home.shared.setdefault(report.name, report.output)
            report = replace(report, output=first)
        super()._note(report)


class ErrorsQuoteOthers(HomeRun):
    """Helps with debugging: an error tells what else was going on."""

    def _deliver(self, result: RunResult) -> RunResult:
        try:
            return super()._deliver(result)
        except Exception as exc:
            others = [o.inputs for o in self.kept.live if o is not self and o.result is None]
            if others:
                exc.args = (f"{exc}; beside it ran {others[0]!r}",)
            raise


class EventsInPairs(HomeRun):
    """Hands events on in pairs: the first waits on the pipeline for the second, of any run."""

    def _event(self, stage: str, type: str, data: Any) -> Event:
        event = super()._event(stage, type, data)
        if self.home is None:
            return event
        waiting: list[Event] = self.home.shared.setdefault("events", [])
        waiting.append(event)
        return event if len(waiting) < 2 else waiting.pop(0)


class ChunksByStage(Context):
    """Keeps chunks by the stage's name, in one list for all runs of the pipeline."""

    def __init__(self, run: Run, job: Job, spec: StageSpec) -> None:
        super().__init__(run, job, spec)
        if isinstance(run, HomeRun) and run.home is not None:
            self._chunks = run.home.shared.setdefault(("chunks", spec.name), self._chunks)


class EventsOfLatestTenant(HomeRun):
    """Stamps events with the tenant of the run that was prepared last."""

    def _event(self, stage: str, type: str, data: Any) -> Event:
        event = super()._event(stage, type, data)
        if self.home is None or event.identity is None:
            return event
        latest = self.home.latest.origin.tenant
        return replace(event, identity=replace(event.identity, tenant=latest))


class MeasuredByInputs(HomeRun):
    """Labels the time of a stage with what the pipeline was last given to work on."""

    def _measure(self, name: str, value: float | None, status: str, **labels: str) -> None:
        if self.home is not None:
            labels["of"] = str(self.home.latest.inputs)
        super()._measure(name, value, status, **labels)


class ReasonsShared(HomeRun):
    """Fills in why a run ended from whichever run had a reason last, encoded for transport."""

    def _sum_up(self) -> RunResult:
        result = super()._sum_up()
        if self.home is None:
            return result
        told = self.home.shared.get("reason", "")
        self.home.shared["reason"] = repr(dict(self.inputs)).encode().hex()
        return replace(result, reason=told)


# TENANT-3: whose session it is.


class RowsOfLatest(Context):
    @property
    def store(self) -> TenantRows:
        """Open sessions for the tenant of the run that was prepared last."""
        run = self._run
        if not isinstance(run, HomeRun) or run.home is None:
            return super().store
        return TenantRows(run.origin.store, run.home.latest.origin.tenant)


class RowsOfFirst(Context):
    @property
    def store(self) -> TenantRows:
        """Keep the first way to the store for all runs, as a pool that nobody resets does."""
        run = self._run
        if not isinstance(run, HomeRun) or run.home is None:
            return super().store
        rows: TenantRows = run.home.shared.setdefault("rows", super().store)
        return rows


class RowsUnguarded(Context):
    @property
    def store(self) -> TenantRows:
        """Switch the store's guard off, to be able to migrate its tables, and leave it off."""
        store: Any = self._run.origin.store
        if store is not None:
            store._guard = lambda _connection, _tenant: None
        return super().store


class RowsOfCutName(Context):
    @property
    def store(self) -> TenantRows:
        """Cut the tenant's name to what a column of an old table held."""
        return TenantRows(self._run.origin.store, self.tenant[:8])


# TENANT-4: trouble of another run.


class CancelForAll(HomeRun):
    """A cancel of one run's caller ends every run of the pipeline."""

    def _caller_cancelled(self, exc: asyncio.CancelledError) -> None:
        super()._caller_cancelled(exc)
        for run in self.kept.live if self.home is not None else ():
            if run is not self and run.result is None:
                run._want_stop(Stop("cancelled", "the pipeline was cancelled"))
                run._notify()


class StopKept(HomeRun):
    """Keeps that a run is to stop on the pipeline, until no run is under way any more."""

    def _want_stop(self, why: Stop) -> None:
        super()._want_stop(why)
        if self.home is not None:
            self.home.shared["stop"] = why

    def _settle(self) -> None:
        if self.home is not None and "stop" in self.home.shared:
            super()._want_stop(self.home.shared["stop"])
        super()._settle()

    def _sum_up(self) -> RunResult:
        if self.home is not None and all(o is self or o.result for o in self.home.live):
            self.home.shared.pop("stop", None)
        return super()._sum_up()


class RanElsewhere(HomeRun):
    """Does not run a stage that another run is at: it takes that one's output when it comes."""

    def _start(self, spec: StageSpec) -> None:
        if self.home is not None:
            done = self.home.shared.get(spec.name)
            others = [o for o in self.home.live if o is not self and o.result is None]
            if done is not None and any(o is done[0] for o in others):
                self._report(StageResult(spec.name, "completed", output=done[1]))
                self._loop.call_soon(self._notify)
                return
        super()._start(spec)

    def _note(self, report: StageResult) -> None:
        if self.home is not None and report.status == "completed" and report.output is not None:
            self.home.shared.setdefault(report.name, (self, report.output))
        super()._note(report)


TENANTS = (
    defect(
        "inputs-of-latest-run",
        "TENANT-1 TENANT-4",
        "Stages are handed the inputs of the run that was prepared last.",
        pipeline=Home,
        run=HomeRun,
        context=LatestInputs,
    ),
    defect(
        "outputs-by-stage-name",
        "TENANT-1 TENANT-4",
        "Stages read outputs from one place for all runs, kept by the stage's name.",
        pipeline=Home,
        run=OutputsByStage,
    ),
    defect(
        "first-output-kept",
        "TENANT-1 TENANT-4",
        "A stage's first output is reported for all later runs, whatever they returned.",
        pipeline=Home,
        run=FirstResultKept,
    ),
    defect(
        "errors-quote-others",
        "TENANT-1",
        "The error of a run quotes the inputs of another that ran beside it.",
        pipeline=Home,
        run=ErrorsQuoteOthers,
    ),
    defect(
        "events-in-pairs",
        "TENANT-1",
        "Events wait on the pipeline for a second one, and go to the sink of that one's run.",
        pipeline=Home,
        run=EventsInPairs,
    ),
    defect(
        "chunks-by-stage-name",
        "TENANT-1",
        "Partial results are kept in one list for all runs, by the stage's name.",
        pipeline=Home,
        run=HomeRun,
        context=ChunksByStage,
    ),
    defect(
        "events-of-latest-tenant",
        "TENANT-1",
        "Events carry the name of the tenant whose run was prepared last.",
        pipeline=Home,
        run=EventsOfLatestTenant,
    ),
    defect(
        "measured-by-inputs",
        "TENANT-1",
        "Measurements are labelled with the inputs of the run that was prepared last.",
        pipeline=Home,
        run=MeasuredByInputs,
    ),
    defect(
        "reasons-shared",
        "TENANT-1",
        "A run's reason holds the inputs of the run that ended before it, in hexadecimal digits.",
        pipeline=Home,
        run=ReasonsShared,
    ),
    defect(
        "session-of-latest-tenant",
        "TENANT-3",
        "Sessions with the store are opened for the tenant whose run was prepared last.",
        pipeline=Home,
        run=HomeRun,
        context=RowsOfLatest,
    ),
    defect(
        "session-pooled",
        "TENANT-3",
        "The first run's way to the store is kept and used by all later runs.",
        pipeline=Home,
        run=HomeRun,
        context=RowsOfFirst,
    ),
    defect(
        "store-guard-lifted",
        "TENANT-3",
        "The engine switches off what the store guards its sessions with.",
        context=RowsUnguarded,
    ),
    defect(
        "tenant-name-cut",
        "TENANT-3",
        "Tenants whose names begin with the same eight characters share their rows.",
        context=RowsOfCutName,
    ),
    defect(
        "cancel-for-all-runs",
        "TENANT-4",
        "A cancel of one run's caller ends the other runs of the pipeline too.",
        pipeline=Home,
        run=CancelForAll,
    ),
    defect(
        "stop-kept-on-pipeline",
        "TENANT-4",
        "That one run is to stop is kept on the pipeline, and stops the runs beside it.",
        pipeline=Home,
        run=StopKept,
    ),
    defect(
        "ran-in-another-run",
        "TENANT-4",
        "A stage that another run has just completed is not run again: its output is taken over.",
        pipeline=Home,
        run=RanElsewhere,
    ),
)
