"""The kernel kills the process for want of memory, as it does in a container.

A stage takes memory until its control group may have no more. Nothing in the process can
report that, so it is held against what is held against `kill -9`: started again with enough
memory, the engine has to go on.
"""

from __future__ import annotations

import signal
import time
from typing import Any

from harness.lab.faults.bench import LIMIT_S, Bench
from harness.lab.faults.cgroup import memory_group
from harness.lab.faults.kill import Order, at_least_once, go_on, order_program
from harness.lab.faults.ledger import read_ledger
from harness.lab.faults.redrives import judge_redrives
from harness.lab.faults.tally import Tally, Trial, unsupported_row

__all__ = ["oom_row"]

HUNGRY = "pack"


def oom_row(bench: Bench) -> dict[str, Any]:
    """Let the kernel kill the process for want of memory; returns the unit row."""
    began_s = time.monotonic()
    tally = Tally(
        "oom",
        "The kernel kills the process for want of memory",
        "A stage takes memory up to its control group's ceiling (memory.max); then the process is "
        "started again without one and redriven.",
        ("PART-5",),
    )
    if bench.durable is None:
        return unsupported_row(tally, bench.seed, *bench.why_not_durable)
    program = order_program(not bench.offers("inputs"))
    for one in program["stages"]:
        if one["name"] == HUNGRY:
            one["steps"].insert(0, {"op": "call", "tool": "memory", "seconds": 0.0})
    order = Order(program, ("r0",))
    folder = bench.place.new_folder("oom")
    with memory_group("oom", bench.place.tell) as group:
        if group.folder is None:
            tally.not_fired += 1
            tally.remarks.append(f"no control group with a memory ceiling: {group.why}")
            return tally.row(bench.info, bench.seed, time.monotonic() - began_s)
        request = {**order.request(bench, folder, 0), "cgroup": str(group.folder)}
        with bench.subject(request) as subject:
            first = subject.rest(LIMIT_S)
        killed = first["code"] == -signal.SIGKILL and group.kills > 0
    if not killed:
        tally.not_fired += 1
        tally.remarks.append(f"the kernel did not kill it (it ended with code {first['code']})")
        return tally.row(bench.info, bench.seed, time.monotonic() - began_s)
    tally.remarks.append("the ceiling was a control group's (memory.max)")
    fed = {**order.request(bench, folder, 1), "fed": True}
    lives = [first, *go_on(bench, fed, order.runs)]
    entries = read_ledger(folder / "ledger")
    judged = judge_redrives(
        order.program, order.runs, entries, lives, at_least_once=at_least_once(bench)
    )
    sample = {"lives": len(lives), "kills": 1, **judged.figures}
    note = "killed by the kernel in a stage that took memory"
    tally.add(Trial(0, order.program, {}, entries, {"PART-5": judged}, sample, note))
    return tally.row(bench.info, bench.seed, time.monotonic() - began_s)
