"""Locust as dagstorm sees it: a process of its own, started, watched, and surely ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.kernel.errors import EnvironmentFault

__all__ = [
    "WORKERS_LIMIT_S",
    "Master",
    "Users",
    "await_end",
    "check_end",
    "free_port",
    "read_lines",
    "read_workers",
    "users_running",
    "worker_running",
]

# Locust needs some seconds to import, and to write its reports at the end; much more when busy.
AROUND_S = 180.0
STOP_LIMIT_S = 20.0
CLIENT_TIMEOUT_S = 30.0
FAILING_PERCENT = 20
STREAM_PERCENT = 10
THINK_S = (0.2, 0.6)
LOG_SHOWN = 300
WORKERS_LIMIT_S = 120.0
WORKERS = "workers.json"

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Master:
    """Locust's master, to which workers of other machines come.

    Attributes:
        workers: so many must have come before the load begins.
        host, port: where it listens.
        public: by which workers reach this machine; the fault proxy listens for it, too.
    """

    workers: int
    host: str
    port: int
    public: str


@dataclass(frozen=True, slots=True)
class Users:
    """Who drives the load.

    Attributes:
        users: how many at once, each a tenant.
        time_s: for how long.
        rate: requests a second of all together, or None: each thinks for 0.2 to 0.6 s.
        processes: of Locust.
        more: further words for Locust's command line.
        master: who waits for workers on other machines, or None: all users are here.
    """

    users: int = 50
    time_s: float = 60.0
    rate: float | None = None
    processes: int = 1
    more: Sequence[str] = ()
    master: Master | None = None


@contextlib.contextmanager
def users_running(
    users: Users, url: str, folder: Path, programs: Sequence[str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run Locust against `url` for the time of the block; afterwards nothing of it is left.

    `folder` gets Locust's CSV and HTML reports, its log, and the users' records.
    """
    records = folder / "records"
    records.mkdir(parents=True, exist_ok=True)
    how = {
        "records": str(records.resolve()),
        "rate_per_user": users.rate / users.users if users.rate else 0.0,
        "think_s": THINK_S,
        "timeout_s": CLIENT_TIMEOUT_S,
        "programs": list(programs),
        "failing_percent": FAILING_PERCENT,
        "stream_percent": STREAM_PERCENT,
        "workers": str((folder / WORKERS).resolve()),
    }
    told = folder / "users.json"
    told.write_text(json.dumps(how, indent=1), "utf-8")
    command = _command(users, url)
    if users.master is not None:
        shared = ("rate_per_user", "think_s", "programs", "failing_percent", "stream_percent")
        command += ["--dagstorm-how", json.dumps({k: how[k] for k in shared})]
    wait_s = WORKERS_LIMIT_S if users.master is not None else 0.0
    limit_s = users.time_s + wait_s + AROUND_S + CLIENT_TIMEOUT_S
    with _guarded(command, told, folder, limit_s) as process:
        yield process


@contextlib.contextmanager
def worker_running(
    host: str, port: int, processes: int, folder: Path, limit_s: float
) -> Iterator[subprocess.Popen[bytes]]:
    """Run Locust's worker for a master elsewhere; afterwards nothing of it is left."""
    told = folder / "users.json"
    told.write_text(json.dumps({"remote": True, "timeout_s": CLIENT_TIMEOUT_S}), "utf-8")
    command = [
        *(sys.executable, "-m", "locust", "-f", str(_HERE / "locustfile.py"), "--worker"),
        *("--master-host", host, "--master-port", str(port), "--loglevel", "WARNING"),
        *(["--processes", str(processes)] if processes > 1 else []),
    ]
    with _guarded(command, told, folder, limit_s) as process:
        yield process


@contextlib.contextmanager
def _guarded(
    command: Sequence[str], told: Path, folder: Path, limit_s: float
) -> Iterator[subprocess.Popen[bytes]]:
    # What the user has set up for Locust elsewhere is not meant for this.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOCUST_")}
    environment |= {"DAGSTORM_LOAD": str(told.resolve()), "PYTHONDONTWRITEBYTECODE": "1"}
    with (folder / "locust.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", str(_HERE / "guard.py"), f"{limit_s:g}", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()


def _command(users: Users, url: str) -> list[str]:
    command = [
        *(sys.executable, "-m", "locust", "-f", str(_HERE / "locustfile.py"), "--headless"),
        *("--users", str(users.users), "--run-time", f"{max(1, round(users.time_s))}s"),
        *("--spawn-rate", f"{max(1.0, users.users / min(5.0, users.time_s / 5)):g}"),
        *("--host", url, "--csv", "load", "--html", "report.html", "--only-summary"),
        *("--stop-timeout", "10", "--exit-code-on-error", "0", "--loglevel", "WARNING"),
    ]
    if (master := users.master) is not None:
        command += ["--master", "--expect-workers", str(master.workers)]
        command += ["--expect-workers-max-wait", f"{WORKERS_LIMIT_S:.0f}"]
        command += ["--master-bind-host", master.host, "--master-bind-port", str(master.port)]
    elif users.processes > 1:
        port = str(free_port())
        command += ["--processes", str(users.processes), "--master-bind-host", "127.0.0.1"]
        command += ["--master-bind-port", port, "--master-port", port]
    return [*command, *users.more]


def free_port() -> int:
    """Return a port of loopback that nobody listens on at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def await_end(process: subprocess.Popen[bytes], limit_s: float, each: Callable[[], None]) -> bool:
    """Wait for Locust's end; False if it was interrupted, and ended in good order after that.

    Args:
        each: called ten times a second.

    Raises:
        KeyboardInterrupt: the second time.
    """
    until = time.monotonic() + limit_s
    interrupted = False
    while process.poll() is None:
        try:
            if time.monotonic() > until:
                return False
            each()
            time.sleep(0.1)
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            until = time.monotonic() + STOP_LIMIT_S
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.write(b"end\n")
                process.stdin.flush()
    return not interrupted


def check_end(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Raise if Locust did not end as it should: 0, or 1 for failed requests.

    Raises:
        EnvironmentFault: with the last line of its log.
    """
    if process.returncode == 0:
        return
    log = (folder / "locust.log").read_text("utf-8", errors="replace").strip().splitlines()
    last = f": {log[-1][:LOG_SHOWN]}" if log else ""
    raise EnvironmentFault(f"Locust ended with code {process.returncode}{last}")


def read_lines(paths: Sequence[Path]) -> list[Mapping[str, Any]]:
    """Return the objects of files of JSON lines; a last line cut in the middle is left out."""
    found: list[Mapping[str, Any]] = []
    for path in paths:
        if not path.exists():
            continue
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    found.append(json.loads(line))
    return found


def read_workers(folder: Path) -> list[dict[str, Any]]:
    """Return what the master keeps of each worker: name, records that came, records that it
    noted, and by how much its clock is behind at the most, in seconds."""
    path = folder / WORKERS
    if not path.exists():
        return []
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return found
