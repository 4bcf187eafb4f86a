"""A control group with a memory ceiling, where one can be made: version 2, as root or delegated.

The group is made beside this process's own, or below it where that is the root. Above a
group's ceiling the kernel kills: no exception comes, as under RLIMIT_AS.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MemoryGroup", "memory_group", "own_group"]

REMOVE_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A control group of one subject, which joins it by itself.

    Attributes:
        folder: of the group, or None where none can be made.
        why: there is none.
    """

    folder: Path | None
    why: str = ""

    @property
    def kills(self) -> int:
        """Return how many processes of the group the kernel has killed for want of memory."""
        if self.folder is None:
            return 0
        for line in (self.folder / "memory.events").read_text("ascii").splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
        return 0


def own_group(
    cgroup: Path = Path("/proc/self/cgroup"), mounts: Path = Path("/proc/self/mountinfo")
) -> Path | None:
    """Return the folder of this process's own group of version 2, or None without that version."""
    try:
        lines = mounts.read_text("utf-8").splitlines()
        named = [x for x in cgroup.read_text("utf-8").splitlines() if x.startswith("0::")]
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 ") and named:
            return Path(before.split()[4] + named[0].removeprefix("0::")).resolve()
    return None


@contextlib.contextmanager
def memory_group(
    name: str, tell: Callable[..., object], own: Path | None = None
) -> Iterator[MemoryGroup]:
    """Make a group for the time of the block; processes in it must have ended by its end.

    Args:
        tell: keeps the group in mind for when this process is killed.
        own: this process's group; found out if it is not given.
    """
    own = own_group() if own is None else own
    made, why = (
        (None, "there is no control group of version 2 here")
        if own is None
        else _make(own, f"dagstorm-{os.getpid()}-{name}")
    )
    if made is None:
        yield MemoryGroup(None, why)
        return
    tell(cgroup=str(made))
    try:
        yield MemoryGroup(made)
    finally:
        until = time.monotonic() + REMOVE_LIMIT_S
        while True:
            try:
                made.rmdir()
                tell(uncgrouped=str(made))
                break
            except OSError:  # what was killed may take a moment to be gone
                if time.monotonic() > until:
                    break
                time.sleep(0.05)


def _make(own: Path, name: str) -> tuple[Path | None, str]:
    # The root has no processes' ceiling and no siblings: there it is made below.
    above = own.parent if (own.parent / "cgroup.procs").exists() else own
    try:
        offered = (above / "cgroup.controllers").read_text("ascii").split()
        if "memory" not in offered:
            return None, f"{above} has no memory controller"
        if "memory" not in (above / "cgroup.subtree_control").read_text("ascii").split():
            (above / "cgroup.subtree_control").write_text("+memory", "ascii")
        made = above / name
        made.mkdir()
    except OSError as exc:
        return None, f"{above}: {exc.strerror}"
    try:
        for file, value in (("memory.max", "max"), ("memory.swap.max", "0")):
            if (made / file).exists() or file == "memory.max":
                (made / file).write_text(value, "ascii")
    except OSError as exc:
        with contextlib.suppress(OSError):
            made.rmdir()
        return None, f"{made}: {exc.strerror}"
    return made, ""
