"""Process, resource and clock faults: what an engine's promises are worth on a real machine.

Real processes are killed, stopped, starved and started again here, and what they did is
read from a ledger that outlives them. See `docs/faults.md`.
"""
