"""The fingerprint: by what a finding is known again in another campaign.

It is made of what does not change from run to run: the clause, the engine, the engine's
file and function, and the shape of the violation. Seeds, times, versions, line numbers
and names of stages stay out, because each of them would make the old defect look new.
"""

from __future__ import annotations

import hashlib
import json
import re

__all__ = ["component_of", "fingerprint"]

_LOCATION = re.compile(r"^(?P<file>.+?):[0-9]+(?:[:\s]+(?P<function>.*))?$", re.DOTALL)


def component_of(location: str) -> tuple[str, str]:
    """Split `file:line function` into file and function; either may be "".

    >>> component_of("pipeline/dag.py:276 UnifiedStageGraph.run")
    ('pipeline/dag.py', 'UnifiedStageGraph.run')
    """
    location = location.strip().replace("\\", "/")
    match = _LOCATION.match(location)
    if match is None:
        return location, ""
    return match["file"], (match["function"] or "").strip()


def fingerprint(kind: str, clause: str, engine: str, location: str, shape: str) -> str:
    """Return 16 hexadecimal digits that name a finding for good.

    Args:
        kind: bug, dx, improvement or strength.
        clause: id of the clause, or "" if no clause is concerned.
        engine: the subject's name, without its version.
        location: `file:line function` inside the engine, or "".
        shape: kebab-case kind of the violation; the missing capability of an improvement.
    """
    file, function = component_of(location)
    known = json.dumps(["1", kind, clause, engine, file, function, shape])
    return hashlib.sha256(known.encode("utf-8", "replace")).hexdigest()[:16]
