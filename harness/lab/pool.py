"""Worker processes kept ready: to start one costs more than most of what it is asked.

A worker that answered serves whoever asks for its engine next, in whatever phase of a campaign;
what a unit comes to does not depend on which worker ran it. One that died or hung is gone.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator

from harness.kernel.errors import DagstormError
from harness.lab.engines import EngineRef
from harness.lab.subject import Engine
from harness.lab.worker import Worker, WorkerDied

__all__ = ["IDLE_PER_THREAD", "Pool"]

# Idle workers for each of those at work: three engines' share of a campaign. A campaign over all
# releases of an engine would otherwise hold the memory of dozens of processes.
IDLE_PER_THREAD = 3

Watch = Callable[[EngineRef, int, int], None]


class Pool:
    """Workers of several engines, for several threads.

    Args:
        threads: that ask for workers at the same time.
        watch: told of each new worker, by engine, number and process id.
    """

    def __init__(self, threads: int, watch: Watch = lambda _ref, _number, _pid: None) -> None:
        self._idle_max = IDLE_PER_THREAD * max(1, threads)
        self._watch = watch
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        # The one that was used last comes last.
        self._idle: list[tuple[Engine, Worker]] = []
        self._open: set[Worker] = set()
        self._closed = False

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End every worker, also those that are at work; none is started afterwards."""
        with self._lock:
            self._closed = True
            workers = list(self._open)
            self._idle.clear()
        for worker in workers:
            self._end(worker)

    @contextlib.contextmanager
    def lend(self, engine: Engine) -> Iterator[Worker]:
        """Lend a worker that has greeted; it is ended if the block raises `WorkerDied`.

        Raises:
            WorkerDied: if a new one dies of its adapter, or the pool is closed.
            DagstormError: as the worker says to its adapter.
        """
        worker = self._take(engine)
        if worker is None:
            worker = self._start(engine)
        try:
            yield worker
        except DagstormError:
            self._keep(engine, worker)  # it is well: this is its answer
            raise
        except BaseException:
            self._end(worker)
            raise
        self._keep(engine, worker)

    @contextlib.contextmanager
    def fresh(self, engine: Engine) -> Iterator[Worker]:
        """Lend a worker that has run nothing, and end it afterwards. Raises as `lend`."""
        worker = self._start(engine)
        try:
            yield worker
        finally:
            self._end(worker)

    def _start(self, engine: Engine) -> Worker:
        with self._lock:
            if self._closed:
                raise WorkerDied("no worker is started any more: the campaign was stopped")
            number = next(self._numbers)
        worker = Worker(engine.python, engine.ref.adapter, isolated=engine.ref.isolated)
        with self._lock:
            self._open.add(worker)
            late = self._closed
        try:
            if late:
                raise WorkerDied("the campaign was stopped")
            self._watch(engine.ref, number, worker.pid)
            worker.hello()
        except BaseException:
            self._end(worker)
            raise
        return worker

    def _take(self, engine: Engine) -> Worker | None:
        with self._lock:
            for place in reversed(range(len(self._idle))):
                if self._idle[place][0] is engine:
                    return self._idle.pop(place)[1]
        return None

    def _keep(self, engine: Engine, worker: Worker) -> None:
        surplus = worker
        with self._lock:
            if not self._closed:
                self._idle.append((engine, worker))
                if len(self._idle) <= self._idle_max:
                    return
                surplus = self._idle.pop(0)[1]
        self._end(surplus)

    def _end(self, worker: Worker) -> None:
        with self._lock:
            self._open.discard(worker)
        worker.close()
