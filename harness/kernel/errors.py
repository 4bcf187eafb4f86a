"""The errors dagstorm raises itself, and the exit code that each means.

Three kinds are told apart because three different people must act: the user
(`InputError`), whoever runs the machine (`EnvironmentFault`), and dagstorm's own
authors (`HarnessFault`). None of them is ever a finding about an engine.
"""

from __future__ import annotations

__all__ = [
    "DagstormError",
    "EnvironmentFault",
    "HarnessFault",
    "InputError",
    "NotOffered",
    "SimulationRefused",
]


class DagstormError(Exception):
    """Base of every error that dagstorm raises on purpose.

    The message is one line: what is wrong, where, and what to do.
    """

    exit_code = 3


class InputError(DagstormError):
    """The user's input is wrong; exit code 2."""

    exit_code = 2


class EnvironmentFault(DagstormError):
    """The machine cannot do what was asked (no index, no disk, no engine); exit code 3."""

    exit_code = 3


class HarnessFault(DagstormError):
    """dagstorm itself is at fault; exit code 3."""

    exit_code = 3


class SimulationRefused(DagstormError):
    """Code under simulation asked for something that only the real world has.

    Real sockets and subprocesses have no virtual time; the message says what to stub.
    """

    exit_code = 3


class NotOffered(DagstormError):
    """A step asked a stage port for a capability that the adapter never claimed.

    Raised inside a stage only if a program was run without checking
    `required_capabilities` first, so it is dagstorm's fault, not the engine's.
    """

    exit_code = 3
