"""TENANT-4 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: run r9, in which nothing went wrong, runs all its stages and ends ok
Actual: 1 executions of 2 stages; the run ended ok
"""

import asyncio
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (stage, what happened, detail)
INPUTS = {
    "r0": {"marker": "marker-000-000"},
    "r1": {"marker": "marker-001-919"},
    "r2": {"marker": "marker-002-838"},
    "r3": {"marker": "marker-003-757"},
    "r4": {"marker": "marker-004-676"},
    "r5": {"marker": "marker-005-595"},
    "r6": {"marker": "marker-006-514"},
    "r7": {"marker": "marker-007-433"},
    "r8": {"marker": "marker-008-352"},
    "r9": {"marker": "marker-009-271"},
}


class Intake:
    async def execute(self, ctx):
        me = f"{ctx.snapshot.metadata['run']}/intake"
        try:
            marker = ctx.snapshot.metadata["marker"]
            await asyncio.sleep(0.1)
            seen.append((me, "stage.end", "ok"))
            return StageOutput.ok(value=marker)
        except Exception as exc:
            seen.append((me, "stage.end", f"raise:{type(exc).__name__}"))
            raise


class Check:
    async def execute(self, ctx):
        try:
            marker = ctx.snapshot.metadata["marker"]
            await asyncio.sleep(0.1)
            raise ValueError("no account for $marker")
        except Exception as exc:
            seen.append(
                (
                    f"{ctx.snapshot.metadata['run']}/check",
                    "stage.end",
                    f"raise:{type(exc).__name__}",
                ),
            )
            raise


class Enrich:
    async def execute(self, ctx):
        me = f"{ctx.snapshot.metadata['run']}/enrich"
        try:
            marker = ctx.snapshot.metadata["marker"]
            await asyncio.sleep(0.5)
            seen.append((me, "stage.end", "ok"))
            return StageOutput.ok(value=marker)
        except Exception as exc:
            seen.append((me, "stage.end", f"raise:{type(exc).__name__}"))
            raise


async def start(graph, run, tenant, seconds):
    await asyncio.sleep(seconds)
    ctx = PipelineContext.create(
        pipeline_run_id=uuid.uuid4(),
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant),
        metadata={"run": run, **INPUTS[run]},
    )
    try:
        await graph.run(ctx)
        seen.append((f"{run}/", "run.end", "returned"))
    except (Exception, asyncio.CancelledError) as error:
        seen.append((f"{run}/", "run.end", type(error).__name__))


async def main():
    pipeline = Pipeline().with_stage("intake", Intake, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("check", Check, StageKind.TRANSFORM, dependencies=("intake",))
    pipeline = pipeline.with_stage("enrich", Enrich, StageKind.TRANSFORM, dependencies=("intake",))
    graph = pipeline.build()
    tasks = [asyncio.create_task(start(graph, "r0", "tenant-000", 0.0))]
    tasks.append(asyncio.create_task(start(graph, "r1", "tenant-001", 0.05)))
    tasks.append(asyncio.create_task(start(graph, "r2", "tenant-002", 0.1)))
    tasks.append(asyncio.create_task(start(graph, "r3", "tenant-003", 0.15)))
    tasks.append(asyncio.create_task(start(graph, "r4", "tenant-004", 0.2)))
    tasks.append(asyncio.create_task(start(graph, "r5", "tenant-005", 0.25)))
    tasks.append(asyncio.create_task(start(graph, "r6", "tenant-006", 0.3)))
    tasks.append(asyncio.create_task(start(graph, "r7", "tenant-007", 0.0)))
    tasks.append(asyncio.create_task(start(graph, "r8", "tenant-008", 0.05)))
    tasks.append(asyncio.create_task(start(graph, "r9", "tenant-009", 0.1)))
    await asyncio.wait(tasks, timeout=10)
    rows = [(stage.split("/")[0], kind, how) for stage, kind, how in seen]
    failed = {
        run
        for run, kind, how in rows
        if kind == "stage.end" and how.split(":")[0] in ("fail", "raise", "cancel_run")
    }
    got = {run: how for run, kind, how in rows if kind == "run.end"}
    done = [run for run, kind, how in rows if kind == "stage.end" and how == "ok"]
    whole = [run for run in got if done.count(run) == 3]
    fine = [run for run in whole if got[run] == "returned"]
    spoilt = [run for run in got if run not in fine and run not in failed]
    if spoilt and len(spoilt) < len(got):
        return f"nothing went wrong in {spoilt[0]}, but: {got[spoilt[0]]}, stages: {done}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION TENANT-4: {found}" if found else "HOLDS TENANT-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
