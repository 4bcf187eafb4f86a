"""A serving process as the controller sees it: started, asked, stopped, and surely ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.kernel.errors import EnvironmentFault, HarnessFault, InputError
from harness.lab.engines import EngineRef, python_of
from harness.lab.environments import Say
from harness.lab.worker import BOOTSTRAP, ROOT

__all__ = ["RUNS_AT_ONCE_MAX", "Served", "serving"]

START_LIMIT_S = 90.0
STOP_LIMIT_S = 5.0
ANSWER_LIMIT_S = 60.0
STDERR_SHOWN = 300
RUNS_AT_ONCE_MAX = 500

# As a worker's, up to what it then runs.
_MAIN = """
from harness.lab.load.serve_main import main
from mocks.tools import simulated_tool
main(simulated_tool)
"""


@dataclass(frozen=True, slots=True)
class Served:
    """Where an engine is served.

    Attributes:
        pid: of the serving process.
        told: what the process said of itself: engine, version, capabilities, programs.
    """

    host: str
    port: int
    pid: int
    told: Mapping[str, Any]
    process: subprocess.Popen[bytes]

    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Ask the server directly; returns the answer's JSON.

        Raises:
            HarnessFault: if it does not answer, or refuses.
        """
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_LIMIT_S)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, dict(headers or {}))
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as exc:
            raise HarnessFault(f"the served engine does not answer {method} {path}: {exc}") from exc
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise HarnessFault(f"{method} {path}: {response.status}: {data[:200].decode()}")
        return json.loads(data)


@contextlib.contextmanager
def serving(
    engine: EngineRef,
    *,
    say: Say,
    program: Mapping[str, Any] | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    runs_at_once_max: int = RUNS_AT_ONCE_MAX,
    ledger: Path | None = None,
    life_s: float = 0.0,
) -> Iterator[Served]:
    """Serve an engine for the time of the block; nothing of it is left afterwards.

    Args:
        program: {"program", "plan"} to serve, or None for the default ones.
        ledger: a file to which a line is added for each run that is over.
        life_s: after so many seconds the process ends whatever happens; 0 for no such limit.

    Raises:
        InputError: if the engine cannot serve the program.
        EnvironmentFault: if the address cannot be listened on, or the process dies.
    """
    python = python_of(engine, say)
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "TZ": "UTC"}
    ours = BOOTSTRAP.partition("from harness.")[0].format(root=str(ROOT))
    flags = ["-P", "-s", *(["-S"] if engine.isolated else [])]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [python, *flags, "-c", ours + _MAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
        try:
            yield _started(
                process,
                errors,
                {
                    "adapter": dict(engine.adapter),
                    "program": program,
                    "host": host,
                    "port": port,
                    "runs_at_once_max": runs_at_once_max,
                    "ledger": str(ledger) if ledger else "",
                    "life_s": life_s,
                },
            )
        finally:
            _end(process)


def _started(process: subprocess.Popen[bytes], errors: IO[bytes], told: Any) -> Served:
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(told).encode() + b"\n")
        process.stdin.flush()
    except OSError:
        pass  # it has died; how, is seen below
    answer = _line(process)
    if not answer:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
        code = process.poll()
        how = "says nothing" if code is None else f"ended with code {code}"
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
        last = f": {said[-1][:STDERR_SHOWN]}" if said else ""
        raise EnvironmentFault(f"the serving process {how}{last}")
    message = json.loads(answer)
    if "error" in message:
        kinds = {"InputError": InputError, "EnvironmentFault": EnvironmentFault}
        raise kinds.get(message["error"]["kind"], HarnessFault)(message["error"]["message"])
    ok = message["ok"]
    return Served(ok["host"], ok["port"], ok["pid"], ok, process)


def _line(process: subprocess.Popen[bytes]) -> bytes:
    """Return the first line that the process says, or b"" if it says none in time."""
    said: queue.Queue[bytes] = queue.Queue()
    stdout = process.stdout
    assert stdout is not None
    threading.Thread(target=lambda: said.put(stdout.readline()), daemon=True).start()
    try:
        return said.get(timeout=START_LIMIT_S)
    except queue.Empty:
        return b""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop the process in good order, and kill it and its children if that takes too long."""
    assert process.stdin is not None
    try:
        with contextlib.suppress(OSError):
            process.stdin.write(b"stop\n")
            process.stdin.flush()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=STOP_LIMIT_S)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
