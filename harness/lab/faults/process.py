"""Subject processes as the controller sees them: started, listened to, killed, accounted for."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from harness.kernel.errors import EnvironmentFault
from harness.lab.faults import warden
from harness.lab.worker import BOOTSTRAP, ROOT

__all__ = ["Ending", "Place", "Subject"]

LINE_MAX_BYTES = 8 << 20
LINES_MAX = 2_000
START_LIMIT_S = 60.0
# The bootstrap of a worker, up to where it begins to be a worker.
START = BOOTSTRAP.partition("from harness.lab.")[0] + (
    "from harness.lab.faults.subject import main\nmain()\n"
)
MOUNT_LIMIT_S = 10


class Ending(dict[str, Any]):
    """What a subject said: its messages by their first key, and `code`, how it ended.

    `outcomes` holds (phase, run) -> outcome; `code` is negative for a signal, None for a
    subject that had to be killed because its time was up.
    """


class Place:
    """A folder for one command's work, and what must be tidied up with it; a context manager.

    Everything is gone when it is left, also if this process is killed.
    """

    def __enter__(self) -> Place:
        self._warden = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(warden.__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.folder = Path(tempfile.mkdtemp(prefix="dagstorm-faults-"))
        self._lock = threading.Lock()
        self._number = 0
        self.tell(folder=str(self.folder))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._warden.stdin is not None and self._warden.stdout is not None
        # Ctrl-C once more must not keep the warden waiting.
        self._warden.stdin.close()
        self._warden.wait()
        self._warden.stdout.close()

    def tell(self, **what: Any) -> None:
        """Have the warden keep something in mind; it does when this returns."""
        assert self._warden.stdin is not None and self._warden.stdout is not None
        with self._lock:
            try:
                self._warden.stdin.write(json.dumps(what).encode() + b"\n")
                self._warden.stdin.flush()
                answer = self._warden.stdout.readline()
            except OSError as exc:
                raise EnvironmentFault("faults: the process that tidies up is gone") from exc
        if answer.strip() != b"noted":
            raise EnvironmentFault("faults: the process that tidies up is gone")

    def new_folder(self, name: str) -> Path:
        """Make an empty folder of its own for one trial."""
        self._number += 1
        folder = self.folder / f"{self._number}-{name}"
        folder.mkdir()
        return folder

    def mount(self, folder: Path, size_bytes: int) -> str:
        """Mount a file system of that size at `folder`; returns "" or why it cannot be."""
        words = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "dagstorm", str(folder)]
        if not sys.platform.startswith("linux") or shutil.which("mount") is None:
            return "there is no tmpfs here"
        self.tell(mount=str(folder))
        why = _run(words)
        if why:
            self.tell(unmounted=str(folder))
        return why

    def grow(self, folder: Path, size_bytes: int) -> None:
        """Give a file system that `mount` made more room. Raises `EnvironmentFault`."""
        why = _run(["mount", "-o", f"remount,size={size_bytes}", str(folder)])
        if why:
            raise EnvironmentFault(f"{folder}: cannot be given more room: {why}")

    def unmount(self, folder: Path) -> None:
        if not _run(["umount", "-l", str(folder)]):
            self.tell(unmounted=str(folder))


def _run(words: list[str]) -> str:
    """Run a command of the system's; returns "" or what it said against it."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=MOUNT_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"code {done.returncode}")


class Subject:
    """One subject process; a context manager, which ends it and all that it started.

    Args:
        python: interpreter of the engine's environment.
        isolated: start without site-packages.
        nice: how much less of the processor it gets than others.
    """

    def __init__(
        self,
        place: Place,
        python: str,
        request: Mapping[str, Any],
        *,
        isolated: bool,
        nice: int = 0,
    ) -> None:
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))
        }
        environment |= {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "TZ": "UTC"}
        flags = ["-P", "-s", *(["-S"] if isolated else [])]
        slower = ["nice", "-n", str(nice)] if nice else []
        self._place = place
        self._process = subprocess.Popen(
            [*slower, python, *flags, "-c", START.format(root=str(ROOT))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._said: list[bytes] = []
        self.ending = Ending(outcomes={}, late=[], code=None)
        assert self._process.stdout is not None and self._process.stderr is not None
        self._threads = [
            threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._drain, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        # Nothing is run by it before the warden knows of it.
        place.tell(group=self._process.pid)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def __enter__(self) -> Subject:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.send(signal.SIGKILL)
        self._process.wait()
        for thread in self._threads:
            thread.join(5)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._place.tell(gone=self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: int) -> None:
        """Send a signal to the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def until(self, key: str, limit_s: float = START_LIMIT_S) -> bool:
        """Listen until a message with that key came; returns False if the process ended first."""
        deadline = time.monotonic() + limit_s
        while key not in self.ending:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return False
            if line is None:
                self._lines.put(None)
                return False
            self._take(line)
        return True

    def rest(self, limit_s: float) -> Ending:
        """Listen until the process ends; it is killed when its time is up."""
        deadline = time.monotonic() + limit_s
        in_time = True
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                in_time = False
                break
            if line is None:
                break
            self._take(line)
        if not in_time:
            self.send(signal.SIGKILL)
        code = self._process.wait()
        self.ending["code"] = code if in_time else None
        self.ending["stderr"] = b"".join(self._said)[-2_000:].decode(errors="replace").strip()
        return self.ending

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return  # killed while it was writing the line
        if "outcome" in message:
            self.ending["outcomes"][message["phase"], message["run"]] = message["outcome"]
        elif "late" in message:
            self.ending["late"].append(message["late"])
        else:
            self.ending.update(message)

    def _read(self, stream: IO[bytes]) -> None:
        for _ in range(LINES_MAX):
            line = stream.readline(LINE_MAX_BYTES)
            if not line:
                break
            self._lines.put(line)
        self._lines.put(None)

    def _drain(self, stream: IO[bytes]) -> None:
        while chunk := os.read(stream.fileno(), 8192):
            self._said.append(chunk)
            del self._said[:-16]
