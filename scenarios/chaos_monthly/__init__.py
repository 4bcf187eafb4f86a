"""Chaos: failures by chance, a bad network, a wall clock that is set, no more memory."""

from __future__ import annotations

from harness.contract.scenario import Pack
from scenarios.chaos_monthly.chance import CHANCE
from scenarios.chaos_monthly.clocks import CLOCKS
from scenarios.chaos_monthly.machine import MACHINE
from scenarios.chaos_monthly.mission import CHAOS_MONTHLY
from scenarios.chaos_monthly.network import NETWORK

__all__ = ["PACK"]

PACK = Pack(
    id="chaos_monthly",
    title="Chaos, each month",
    page=(
        "What a production month brings: one call in ten fails, the network is late by up to a "
        "second or breaks answers off, the machine's clock is set, memory runs out. Each comes "
        "alone and then all come together. In simulation the network, the clock and the chance "
        "are the laboratory's own and a seed gives them again; live (`--lab live`) calls go over "
        "sockets to the mock services, through a fault proxy with the same toxics, and memory is "
        "really taken until the process may have no more. A scenario whose network was never felt "
        "is inconclusive."
    ),
    scenarios=(*CHANCE, *NETWORK, *CLOCKS, *MACHINE),
    missions=(CHAOS_MONTHLY,),
)
