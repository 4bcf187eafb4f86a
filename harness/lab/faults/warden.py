"""The warden: a small process that outlives dagstorm for as long as it takes to tidy up.

It is told, a line of JSON each, which process groups are running and which folders, mounts and
control groups are in use. When its standard input ends, however that came about (the end,
Ctrl-C, `kill -9` of dagstorm), it kills the groups, unmounts and removes. It runs by itself, on
the standard library alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

TRIES = 3


def main() -> None:
    """Keep account until standard input ends, then tidy up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, None] = {}
    folders: dict[str, None] = {}
    mounts: dict[str, None] = {}
    cgroups: dict[str, None] = {}
    while line := sys.stdin.buffer.readline():
        told = json.loads(line)
        if "group" in told:
            groups[int(told["group"])] = None
        elif "gone" in told:
            groups.pop(int(told["gone"]), None)
        elif "folder" in told:
            folders[str(told["folder"])] = None
        elif "cgroup" in told:
            cgroups[str(told["cgroup"])] = None
        elif "uncgrouped" in told:
            cgroups.pop(str(told["uncgrouped"]), None)
        elif "mount" in told:
            mounts[str(told["mount"])] = None
        elif "unmounted" in told:
            mounts.pop(str(told["unmounted"]), None)
        # The answer says that it is kept in mind: what is told about may begin only then.
        sys.stdout.write("noted\n")
        sys.stdout.flush()
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    for place in cgroups:
        for _ in range(TRIES):
            try:
                os.rmdir(place)
                break
            except OSError:  # what was just killed is still there
                time.sleep(0.2)
    for place in mounts:
        subprocess.run(["umount", "-l", place], capture_output=True, check=False, timeout=20)
    for folder in folders:
        # A process that was just killed may still be writing.
        for _ in range(TRIES):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
