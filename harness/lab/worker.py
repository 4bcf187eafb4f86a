"""A worker process as the controller sees it: started, asked, and killed if need be.

Whatever an engine does to its process (hang, spin, exit, print, flood, grow), the
controller's side ends in a reply or in a `WorkerDied` that says how it went.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import psutil

from harness.kernel.errors import EnvironmentFault, HarnessFault, InputError
from harness.lab.environments import cache_folder

__all__ = ["AGAIN_LIMIT_S", "HELLO_LIMIT_S", "UNIT_LIMIT_S", "Worker", "WorkerDied", "WorkerHung"]

HELLO_LIMIT_S = 60.0
UNIT_LIMIT_S = 60.0
AGAIN_LIMIT_S = 10.0
# A process that the machine keeps from its work, stopped or without a processor, is waited for
# so many times as long; one that spins gets more than this share of a processor, as a rule.
WAITS_MAX = 6
BUSY_SHARE = 0.5
LINE_MAX_BYTES = 64 * 1024 * 1024
STDERR_KEPT = 64 * 1024
QUEUE_MAX = 1_000

ROOT = Path(__file__).resolve().parents[2]

# Only dagstorm's own packages come from its folder: if it is installed, that folder is a
# site-packages, and the engine must not see what else is in there. Their bytecode is kept in
# dagstorm's cache: to compile them anew is half of what it takes to start a worker, and neither
# they nor an adapter's folder are to be written into.
BOOTSTRAP = """
import sys
from importlib.machinery import PathFinder, SourceFileLoader
from os import environ
ROOT, CACHE = {root!r}, environ.pop("DAGSTORM_BYTECODE", None)
class Kept(SourceFileLoader):
    def get_code(self, name):
        before = sys.pycache_prefix, sys.dont_write_bytecode
        if CACHE:
            sys.pycache_prefix, sys.dont_write_bytecode = CACHE, False
        try:
            return super().get_code(name)
        finally:
            sys.pycache_prefix, sys.dont_write_bytecode = before
class Ours:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("harness", "scenarios", "mocks"):
            spec = PathFinder.find_spec(name, path or [ROOT])
            if spec is not None and type(spec.loader) is SourceFileLoader:
                spec.loader = Kept(name, spec.origin)
            return spec
sys.meta_path.insert(0, Ours)
from harness.lab.worker_main import main
from mocks.live_tool import LiveTool
from mocks.tools import simulated_tool
main(simulated_tool, LiveTool)
"""


class WorkerDied(Exception):
    """The worker's process ended, hung or broke the protocol; the message says how."""


class WorkerHung(WorkerDied):
    """The worker said nothing for too long and was killed."""


class Worker:
    """One worker process for one engine.

    Args:
        python: interpreter of the engine's environment.
        adapter: what the worker loads the adapter by.
        isolated: start without site-packages.

    Attributes:
        info: what the adapter says of its engine, once `hello` was said.
    """

    def __init__(self, python: str, adapter: Mapping[str, Any], *, isolated: bool = False) -> None:
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))
        }
        # One hash seed everywhere: sets of texts then iterate alike in every process.
        environment |= {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "TZ": "UTC"}
        environment["DAGSTORM_BYTECODE"] = str(cache_folder() / "bytecode")
        flags = ["-P", "-s", *(["-S"] if isolated else [])]
        self._process = subprocess.Popen(
            [python, *flags, "-c", BOOTSTRAP.format(root=str(ROOT))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._lines: queue.Queue[bytes | None] = queue.Queue(QUEUE_MAX)
        self._errors: deque[bytes] = deque()
        self._number = 0
        self._adapter = dict(adapter)
        self.info: dict[str, Any] = {}
        assert self._process.stdout is not None and self._process.stderr is not None
        self._threads = [
            threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._drain, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _next_line(self, limit_s: float) -> bytes | None:
        """Return what the worker says next, None if it ended; raise `WorkerHung` as `ask`."""
        for _ in range(WAITS_MAX):
            before_s = self._processor_s()
            try:
                return self._lines.get(timeout=limit_s)
            except queue.Empty:
                if not self._kept_from_work(self._processor_s() - before_s, limit_s):
                    break
        self.close()
        raise WorkerHung(f"worker hung: no word for {limit_s:g} s")

    def _processor_s(self) -> float:
        """Return the processor time, in seconds, that the worker has had."""
        try:
            times = psutil.Process(self.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def _kept_from_work(self, took_s: float, limit_s: float) -> bool:
        """Say whether it was the machine that left the worker no time: it is stopped, or would
        run and had hardly a processor."""
        try:
            status = psutil.Process(self.pid).status()
        except psutil.Error:
            return False
        if status in (psutil.STATUS_STOPPED, psutil.STATUS_DISK_SLEEP):
            return True
        return bool(status == psutil.STATUS_RUNNING and took_s < BUSY_SHARE * limit_s)

    def hello(self) -> dict[str, Any]:
        """Load the adapter; returns {"info": …, "python": …}. Raises as `ask`."""
        said = self.ask({"op": "hello", "adapter": self._adapter}, limit_s=HELLO_LIMIT_S)
        self.info = said["info"]
        return said

    def ask(
        self,
        request: Mapping[str, Any],
        *,
        limit_s: float = UNIT_LIMIT_S,
        progress: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Send a request and wait for its reply.

        Args:
            limit_s: seconds without a word from the worker after which it counts as hung.

        Raises:
            WorkerDied: if it died, hung, or said something that is not the protocol.
            InputError, EnvironmentFault, HarnessFault: as the worker says.
        """
        self._number += 1
        line = json.dumps({**request, "id": self._number}) + "\n"
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError, OSError) as exc:
            raise WorkerDied(self._how()) from exc
        while True:
            answer = self._next_line(limit_s)
            if answer is None:
                raise WorkerDied(self._how())
            try:
                message = json.loads(answer)
                number = message["id"]
            except (ValueError, TypeError, KeyError) as exc:
                self.close()
                raise WorkerDied(f"worker broke the protocol: {answer[:80]!r}") from exc
            if number != self._number:
                continue
            if "progress" in message:
                if progress is not None:
                    progress(message["progress"])
                continue
            if "error" in message:
                self._raise(message["error"])
            reply: dict[str, Any] = message["ok"]
            return reply

    @staticmethod
    def _raise(error: Mapping[str, str]) -> None:
        kinds = {"InputError": InputError, "EnvironmentFault": EnvironmentFault}
        raise kinds.get(error["kind"], HarnessFault)(error["message"])

    def _read(self, stream: IO[bytes]) -> None:
        while True:
            line = stream.readline(LINE_MAX_BYTES)
            if not line:
                break
            self._lines.put(line)
        self._lines.put(None)

    def _drain(self, stream: IO[bytes]) -> None:
        kept = 0
        while chunk := stream.read1(8192) if hasattr(stream, "read1") else stream.read(8192):
            self._errors.append(chunk)
            kept += len(chunk)
            while kept > STDERR_KEPT:
                kept -= len(self._errors.popleft())

    def _how(self) -> str:
        """Say how the process ended."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "worker closed its output"
        self._threads[1].join(timeout=1)
        said = b"".join(self._errors).decode(errors="replace").strip().splitlines()
        last = f": {said[-1][:200]}" if said else ""
        if code < 0:
            return f"worker died of signal {signal.Signals(-code).name}{last}"
        return f"worker exited with code {code}{last}"

    def close(self) -> None:
        """End the process and all that it started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass
