"""What a command started, and whether any of it is left: processes, ports, temporary files."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Command:
    """A `dagstorm` command in a process group of its own."""

    process: subprocess.Popen[str]
    family: list[psutil.Process] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)

    def look(self) -> None:
        """Note the processes that there are, and the ports that they listen on."""
        root = psutil.Process(self.process.pid)
        self.family = [root, *root.children(recursive=True)]
        for one in self.family:
            with contextlib.suppress(psutil.Error):
                listening = [c for c in one.net_connections("inet") if c.status == "LISTEN"]
                self.ports |= {c.laddr.port for c in listening}

    def left(self, limit_s: float = 60.0) -> list[str]:
        """Return what is left of it after at most so long."""
        gone, alive = psutil.wait_procs(self.family, timeout=limit_s)
        del gone
        left = [f"process {' '.join(p.cmdline())[:80]}" for p in alive if p.is_running()]
        return left + [f"port {port}" for port in self.ports if listens(port)]


def listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def eventually(true: Callable[[], bool], limit_s: float) -> bool:
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def command(*words: str, temporary: Path | None = None) -> Iterator[Command]:
    """Start `dagstorm`; whatever happens, nothing that was seen of it outlives the block."""
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    environment["TMPDIR"] = str(temporary or tempfile.gettempdir())
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *words],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    started = Command(process)
    try:
        yield started
    finally:
        for one in [*started.family, process]:
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                one.kill()
        process.communicate()
