"""The tools that stages call to do something that counts, or to get into trouble.

`effect` is what must not be done twice; `block` holds up the event loop; `memory` and
`files` take all that there is, under a ceiling that they set themselves, and leave the
process without until `lift` is called, so that the engine has to cope with that as well.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.kernel.errors import HarnessFault
from harness.kernel.interpreter import Execution

__all__ = ["FaultTool", "ceiling"]

MEMORY_LEFT_BYTES = 64 << 20
BITE_BYTES = 4 << 20
FILES_LEFT = 6


class FaultTool:
    """The mock behind `call` steps of one subject process.

    Args:
        cgroup: folder of the control group whose ceiling `memory` runs against; "" for RLIMIT_AS.
    """

    def __init__(self, cgroup: str = "") -> None:
        self._cgroup = cgroup
        self._limits: dict[int, tuple[int, int]] = {}
        self._files: list[int] = []
        self.lifted = False

    async def __call__(self, ex: Execution, args: Mapping[str, Any], number: int) -> list[Any]:
        tool, seconds = args["tool"], args["seconds"]
        if tool == "block" and not self.lifted:
            ex.note("fault.fired", ("block", number))
            time.sleep(seconds)  # noqa: ASYNC251 (that is the fault)
            ex.note("block.end", ("block", number))
            return []
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ex.note("interrupt")
            raise
        if tool == "effect":
            ex.note("effect", number)
        elif tool == "memory" and not self.lifted:
            self._memory(ex)
        elif tool == "files" and not self.lifted:
            self._descriptors(ex)
        return []

    def store(self) -> Any:
        """Raise `HarnessFault`: no program of faults keeps tenants' rows."""
        raise HarnessFault("faults: there is no store for tenants here")

    async def collect(self, run: str, number: int, type: str, data: Any, seconds: float) -> None:
        """Raise `HarnessFault`: no program of faults has a sink."""
        raise HarnessFault("faults: there is no event sink here")

    async def allocate(self, megabytes: int) -> Any:
        """Raise `HarnessFault`: memory runs out by a call of the tool `memory` here."""
        raise HarnessFault("faults: a program calls the tool `memory` in place of `allocate`")

    def _memory(self, ex: Execution) -> None:
        if self._cgroup:
            self._until_killed(ex)
            return
        import resource

        self._limit(resource.RLIMIT_AS, _address_space_bytes() + MEMORY_LEFT_BYTES)
        taken = []
        try:
            for _ in range(4 * MEMORY_LEFT_BYTES // BITE_BYTES):
                taken.append(bytearray(BITE_BYTES))
        except MemoryError:
            ex.note("fault.fired", ("memory", len(taken)))
            raise

    def _until_killed(self, ex: Execution) -> None:
        """Take memory until the kernel ends it; it returns only if that never happens."""
        group = Path(self._cgroup)
        held = int((group / "memory.current").read_text("ascii"))
        (group / "memory.max").write_text(str(held + MEMORY_LEFT_BYTES), "ascii")
        ex.note("fault.fired", ("memory", 0))  # nobody can note it afterwards
        # Pages count when they are written to.
        taken = [b"x" * BITE_BYTES for _ in range(4 * MEMORY_LEFT_BYTES // BITE_BYTES)]
        del taken

    def _descriptors(self, ex: Execution) -> None:
        import resource

        self._limit(resource.RLIMIT_NOFILE, len(os.listdir("/proc/self/fd")) + FILES_LEFT)
        try:
            for _ in range(1_000):
                self._files.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            ex.note("fault.fired", ("files", len(self._files)))
            raise

    def _limit(self, which: int, value: int) -> None:
        self._limits.setdefault(which, ceiling(which, value))

    def lift(self) -> None:
        """Give back what was taken and raise the ceilings again; no fault fires any more."""
        import resource

        self.lifted = True
        for which, before in self._limits.items():
            resource.setrlimit(which, before)
        while self._files:
            os.close(self._files.pop())


def ceiling(which: int, value: int) -> tuple[int, int]:
    """Lower the soft limit of this process for one resource; returns the limits as they were."""
    import resource

    soft, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, hard))
    return soft, hard


def _address_space_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
