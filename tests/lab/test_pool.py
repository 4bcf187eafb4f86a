"""Workers are kept for the next who asks, and none outlives its pool."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from harness.engine.broken import CATALOGUE
from harness.kernel.errors import InputError
from harness.lab.engines import EngineRef, parse_engine, python_of
from harness.lab.pool import IDLE_PER_THREAD, Pool
from harness.lab.subject import Engine
from harness.lab.worker import WorkerDied

DIES = """
import os
from harness.adapters.reference import Adapter as Reference


class Adapter(Reference):
    def info(self):
        os._exit(3)
"""


def engine(name: str = "reference") -> Engine:
    ref = parse_engine(name, CATALOGUE)
    return Engine(ref, python=python_of(ref, lambda _text: None))


def test_a_worker_that_answered_serves_the_next_who_asks_for_its_engine() -> None:
    one, started = engine(), list[int]()
    with Pool(1, lambda _ref, number, _pid: started.append(number)) as pool:
        with pool.lend(one) as first:
            assert first.info["name"] == "reference"
        with pytest.raises(InputError), pool.lend(one) as again:
            assert again is first
            again.ask({"op": "no such thing"})
        with pool.lend(one) as still, pool.lend(one) as another:
            assert (still, started) == (first, [1, 2])
            assert another is not first
    assert not psutil.pid_exists(first.pid)


def test_a_worker_that_died_is_lent_to_nobody_else() -> None:
    one = engine()
    with Pool(1) as pool:
        with pytest.raises(WorkerDied), pool.lend(one) as first:
            psutil.Process(first.pid).kill()
            first.ask({"op": "hello", "adapter": {}})
        with pool.lend(one) as second:
            assert second is not first


def test_idle_workers_have_a_limit_and_those_idle_for_longest_are_ended() -> None:
    engines = [engine() for _ in range(IDLE_PER_THREAD + 1)]
    pids = []
    with Pool(1) as pool:
        for one in engines:
            with pool.lend(one) as worker:
                pids.append(worker.pid)
        assert [psutil.pid_exists(pid) for pid in pids] == [False] + [True] * IDLE_PER_THREAD
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_closed_pool_starts_no_worker() -> None:
    pool = Pool(1)
    pool.close()
    with pytest.raises(WorkerDied, match="stopped"), pool.lend(engine()):
        pass


def test_an_adapter_that_dies_while_it_greets_leaves_nothing_open(tmp_path: Path) -> None:
    file = tmp_path / "engine.py"
    file.write_text(DIES, "utf-8")
    ref = EngineRef("own", "", "", {"file": str(file), "attr": "Adapter"})
    one = Engine(ref, python=python_of(ref, lambda _text: None))
    with Pool(1) as pool:
        with pytest.raises(WorkerDied, match="code 3"), pool.lend(one):
            pass
        assert not pool._open
    # Bytecode goes to the cache of dagstorm, not beside the file of whoever wrote it.
    assert [path.name for path in tmp_path.iterdir()] == ["engine.py"]
