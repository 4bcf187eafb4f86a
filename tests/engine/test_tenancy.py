"""A run is held to its tenant: by the engine, and by the store that it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.engine import (
    Context,
    EngineError,
    MemoryCheckpoints,
    Pipeline,
    PipelineError,
    RedriveRefused,
    RunFailed,
    TenancyError,
)
from mocks.store import SqliteStore, attacks_on
from tests.engine.virtual import in_virtual_time


def one_stage(fn: Any, name: str = "p") -> Pipeline:
    pipeline = Pipeline(name)
    pipeline.stage("work", fn)
    return pipeline


async def _tenant(context: Context) -> str:
    return context.tenant


def test_a_child_run_has_its_parents_tenant() -> None:
    child = one_stage(_tenant, "child")

    async def delegate(context: Context) -> Any:
        return (await context.subpipeline(child)).outputs["work"]

    result = in_virtual_time(one_stage(delegate).run(tenant="north"))
    assert (result.tenant, result.outputs["work"]) == ("north", "north")


@pytest.mark.parametrize("as_child", [True, False])
def test_a_stage_cannot_start_a_run_for_another_tenant(as_child: bool) -> None:
    other = one_stage(_tenant, "other")

    async def cross(context: Context) -> Any:
        if as_child:
            return other.prepare(parent=context, tenant="south")
        return await other.run(tenant="south")

    with pytest.raises(RunFailed) as caught:
        in_virtual_time(one_stage(cross).run(run_id="r", tenant="north"))
    error = caught.value.__cause__
    assert isinstance(error, TenancyError)
    assert str(error) == (
        "stage 'work' of run 'r' works for tenant 'north' and cannot start a run for tenant "
        "'south'; start it outside of that run"
    )


def test_a_run_that_a_stage_starts_by_itself_has_the_stages_tenant_and_ids() -> None:
    other = one_stage(_tenant, "other")

    async def start(_context: Context) -> Any:
        result = await other.run()
        return [result.tenant, result.correlation_id, result.outputs["work"]]

    result = in_virtual_time(one_stage(start).run(tenant="north", correlation_id="abc"))
    assert result.outputs["work"] == ["north", "abc", "north"]


def test_a_run_without_a_tenant_may_start_runs_for_any() -> None:
    other = one_stage(_tenant, "other")

    async def start(_context: Context) -> Any:
        return [(await other.run(tenant=name)).tenant for name in ("north", "south")]

    result = in_virtual_time(one_stage(start).run())
    assert result.outputs["work"] == ["north", "south"]


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 201, 7])
def test_a_tenant_has_a_printable_name(name: Any) -> None:
    with pytest.raises(PipelineError, match="tenant: expected a name of 1 to 200 printable"):
        in_virtual_time(one_stage(_tenant).run(tenant=name))


def test_a_tenant_cannot_redrive_another_ones_run() -> None:
    checkpoints = MemoryCheckpoints()
    fails = [True]

    async def first(_context: Context) -> str:
        return "a value of north only"

    async def second(context: Context) -> Any:
        if fails.pop():
            raise ValueError("not yet")
        return context.input("first")

    pipeline = Pipeline("p")
    pipeline.stage("first", first)
    pipeline.stage("second", second, needs=["first"])
    with pytest.raises(RunFailed):
        in_virtual_time(pipeline.run(run_id="r", tenant="north", checkpoints=checkpoints))
    fails.append(False)
    for other in ({"tenant": "south"}, {}):
        with pytest.raises(RedriveRefused):
            in_virtual_time(pipeline.redrive("r", checkpoints=checkpoints, **other))  # type: ignore[arg-type]
    result = in_virtual_time(pipeline.redrive("r", checkpoints=checkpoints, tenant="north"))
    assert (result.reused, result.outputs["second"]) == (("first",), "a value of north only")


# With a store.


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "tenants.sqlite")
    yield made
    made.close()


def test_each_tenant_finds_its_own_rows_under_the_same_key(store: SqliteStore) -> None:
    async def keep(context: Context) -> Any:
        context.store.put("note", f"of {context.tenant}")
        await asyncio.sleep(1)
        with context.store.session() as session:
            session.put("event", "second", 2)
        found = [context.store.get("note"), context.store.rows(), context.store.count(kind="event")]
        return [*found, context.store.delete("note"), context.store.delete("note")]

    async def main() -> list[Any]:
        pipeline = one_stage(keep)
        runs = [pipeline.run(tenant=name, store=store) for name in ("north", "south")]
        return [result.outputs["work"] for result in await asyncio.gather(*runs)]

    assert in_virtual_time(main()) == [
        [f"of {name}", [("note", f"of {name}")], 1, True, False] for name in ("north", "south")
    ]


def test_a_child_run_has_its_parents_store_under_its_parents_tenant(store: SqliteStore) -> None:
    async def keep(context: Context) -> None:
        context.store.put("note", "from the child")

    child = one_stage(keep, "child")

    async def delegate(context: Context) -> Any:
        await context.subpipeline(child)
        return context.store.get("note")

    result = in_virtual_time(one_stage(delegate).run(tenant="north", store=store))
    assert result.outputs["work"] == "from the child"


@pytest.mark.parametrize("how", attacks_on("sqlite"))
def test_no_attack_from_a_stages_own_session_gets_at_another_tenants_rows(
    store: SqliteStore, how: str
) -> None:
    async def keep(context: Context) -> None:
        context.store.put(f"order of {context.tenant}", f"a value of {context.tenant} only")

    async def attack(context: Context) -> Any:
        with context.store.session() as session:
            attempt = session.attempt(how, "south")  # type: ignore[attr-defined]
        return [attempt.refused, list(attempt.seen), attempt.changed]

    async def main() -> Any:
        for name in ("north", "south"):
            await one_stage(keep).run(tenant=name, store=store)
        return (await one_stage(attack).run(tenant="north", store=store)).outputs["work"]

    assert in_virtual_time(main()) == [True, [], 0]


def test_a_store_needs_a_tenant(store: SqliteStore) -> None:
    with pytest.raises(PipelineError, match="store: a run with a store needs a tenant"):
        in_virtual_time(one_stage(_tenant).run(store=store))


def test_a_run_without_a_store_says_so_when_it_is_used() -> None:
    async def keep(context: Context) -> None:
        context.store.put("note", 1)

    with pytest.raises(RunFailed) as caught:
        in_virtual_time(one_stage(keep).run(tenant="north"))
    assert isinstance(caught.value.__cause__, EngineError)
    assert str(caught.value.__cause__) == "the run has no store; give it one by `store=`"


def test_a_session_of_another_tenant_is_not_used(store: SqliteStore) -> None:
    class Mistaken:
        @contextmanager
        def session(self, _tenant: str) -> Iterator[Any]:
            with store.session("south") as session:
                yield session

    async def keep(context: Context) -> None:
        context.store.put("note", "whose?")

    with pytest.raises(RunFailed) as caught:
        in_virtual_time(one_stage(keep).run(tenant="north", store=Mistaken()))
    assert isinstance(caught.value.__cause__, TenancyError)
    with store.session("south") as session:
        assert session.rows("output") == []
