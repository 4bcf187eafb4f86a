"""Stands between dagstorm and Locust: when the one is gone, so is the other.

Run as a script, with nothing but the standard library: `guard.py LIMIT_S COMMAND …`. It is the
leader of a process group of its own. A line on its standard input asks the command to
end (by SIGINT, at which Locust still writes its reports); the end of the input, or of the
time, kills the whole group.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    limit_s, command = float(arguments[0]), arguments[1:]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    for number in (signal.SIGINT, signal.SIGTERM):  # dagstorm says when it is over
        signal.signal(number, signal.SIG_IGN)

    def kill() -> None:
        os.killpg(os.getpgrp(), signal.SIGKILL)

    def watch() -> None:
        if sys.stdin.readline():
            child.send_signal(signal.SIGINT)
            sys.stdin.readline()
        kill()

    threading.Thread(target=watch, daemon=True).start()
    end = threading.Timer(limit_s, kill)
    end.daemon = True
    end.start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
