"""What a run's process may not do: reach the real world, or sit on the event loop for ever.

An audit hook sees every socket and subprocess, whichever library or thread asks, and
cannot be taken out again: so it is set only in the forked process of one run.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

from harness.lab.probe_loop import ProbeLoop

__all__ = ["end_if_blocked", "refuse_the_world"]

_AUDITED = {
    "socket.connect": "a real socket",
    "socket.bind": "a real socket",
    "socket.sendto": "a real socket",
    "socket.getaddrinfo": "a real name look-up",
    "socket.gethostbyname": "a real name look-up",
    "subprocess.Popen": "a real subprocess",
    "os.system": "a real subprocess",
    "os.exec": "a real subprocess",
    "os.posix_spawn": "a real subprocess",
    "os.spawn": "a real subprocess",
}


def refuse_the_world(loop: ProbeLoop) -> None:
    """Refuse sockets and subprocesses for the rest of this process, whoever asks."""

    def audit(event: str, _args: Any) -> None:
        what = _AUDITED.get(event)
        if what is not None:
            raise loop.refuse(f"{what} ({event})")

    sys.addaudithook(audit)


def end_if_blocked(wall_s: float, blocked: Callable[[int, Any], None]) -> None:
    signal.signal(signal.SIGALRM, blocked)
    signal.setitimer(signal.ITIMER_REAL, wall_s)
