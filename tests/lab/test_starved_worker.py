"""A worker that the machine stops has not hung, and its engine is accused of nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from harness.lab.worker import Worker, WorkerHung

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nobody stops a process there")

REFERENCE = {"module": "harness.adapters.reference", "subject": "reference"}


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(sys.executable, REFERENCE)
    made.hello()
    yield made
    made.close()


def test_a_worker_that_was_stopped_meanwhile_answers_when_it_goes_on(worker: Worker) -> None:
    os.kill(worker.pid, signal.SIGSTOP)
    goes_on = threading.Timer(0.7, os.kill, (worker.pid, signal.SIGCONT))
    goes_on.start()
    said = worker.ask({"op": "hello", "adapter": REFERENCE}, limit_s=0.3)
    goes_on.join()
    assert said["info"]["name"] == "reference"


def test_one_that_is_stopped_for_good_is_given_up(worker: Worker) -> None:
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(WorkerHung, match=r"worker hung: no word for 0.05 s"):
        worker.ask({"op": "hello", "adapter": REFERENCE}, limit_s=0.05)
