"""Engines by name: which there are, and how each is brought into a worker."""

from __future__ import annotations

import difflib
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from harness.kernel.errors import InputError
from harness.lab.environments import Say, ensure, versions

__all__ = ["ENGINES", "EngineRef", "known_engines", "parse_engine", "parse_engines", "python_of"]

ENTRY_POINTS = "dagstorm.engines"
PLAIN = "asyncio"


@dataclass(frozen=True, slots=True)
class EngineRef:
    """One engine in one version.

    Attributes:
        name: as the user says it.
        version: "" where the engine is not a release of a distribution; Python's for plain asyncio.
        distribution: what is installed for it, or "" for nothing.
        adapter: what a worker needs to load the adapter (see `worker_main`).
        isolated: the worker sees no site-packages at all.
    """

    name: str
    version: str
    distribution: str
    adapter: Mapping[str, Any]
    isolated: bool = False

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}" if self.version else self.name


ENGINES: Mapping[str, tuple[str, str, str]] = {
    "reference": ("", "harness.adapters.reference", "dagstorm's own engine, correct by design"),
    "stageflow": ("stageflow-core", "harness.adapters.stageflow", "Stageflow's unified graph"),
    "stageflow-legacy": ("stageflow-core", "harness.adapters.stageflow", "Stageflow's older graph"),
    "asyncio": ("", "harness.adapters.asyncio_plain", "plain asyncio: what the language gives"),
    "llama-index-workflows": (
        "llama-index-workflows",
        "harness.adapters.llama_workflows",
        "event-driven steps of LlamaIndex",
    ),
}


def known_engines(broken: Mapping[str, Any]) -> list[str]:
    """Return every engine's name: built in, broken on purpose, and registered by others."""
    return [
        *ENGINES,
        *(f"broken:{name}" for name in broken),
        *(e.name for e in entry_points(group=ENTRY_POINTS)),
    ]


def parse_engine(text: str, broken: Mapping[str, Any]) -> EngineRef:
    """Find the engine that `NAME[@VERSION]`, `broken:NAME` or `FILE.py:ATTR` names.

    Args:
        text: as the user gave it; without a version the newest release is taken.
        broken: the catalogue of broken engines.

    Raises:
        InputError: if there is no such engine or version.
        EnvironmentFault: if the newest release must be asked for and no index answers.
    """
    if ".py" in text and (text.endswith(".py") or ".py:" in text):
        path, _, attribute = text.partition(".py")
        file = Path(path + ".py")
        if not file.is_file():
            raise InputError(f"--engine {text}: no file {file}; give PATH/TO/FILE.py:CLASS")
        adapter = {"file": str(file.resolve()), "attr": attribute.lstrip(":") or "Adapter"}
        return EngineRef(f"{file.stem}", "", "", adapter)
    name, at, version = text.partition("@")
    if at and not version:
        raise InputError(f"--engine {text}: name a version after the @, or leave the @ out")
    if name.startswith("broken:") and name.removeprefix("broken:") in broken and not at:
        adapter = {"module": "harness.adapters.reference", "subject": name}
        return EngineRef(name, "", "", adapter, isolated=True)
    if name in ENGINES:
        distribution, module, _ = ENGINES[name]
        adapter = {"module": module, "subject": name}
        if not distribution:
            # What the language gives differs from one Python to the next.
            here = platform.python_version() if name == PLAIN else ""
            if at and version != here:
                has = f"here it is {here}" if here else f"{name} has no versions"
                raise InputError(f"--engine {text}: {has}; leave the @ out")
            return EngineRef(name, here, "", adapter, isolated=True)
        if not version:
            version = versions(distribution)[-1]
        return EngineRef(name, version, distribution, adapter)
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == name and not at:
            module, _, attribute = entry.value.partition(":")
            return EngineRef(name, "", "", {"module": module, "attr": attribute or "Adapter"})
    known = known_engines(broken)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known[:4])}, broken:NAME"
    raise InputError(f"--engine {text}: no such engine; {hint} (dagstorm engines list)")


def parse_engines(text: str, broken: Mapping[str, Any]) -> list[EngineRef]:
    """Find the engines that `NAME@all` or `NAME@FIRST..LAST` names, or the one of `parse_engine`.

    Released versions are taken, oldest first; either end of a range may be left out.

    Raises:
        InputError: as `parse_engine`, or if a range names no release.
        EnvironmentFault: if the releases must be asked for and no index answers.
    """
    name, at, wanted = text.partition("@")
    if not at or (wanted != "all" and ".." not in wanted):
        return [parse_engine(text, broken)]
    if name not in ENGINES or not ENGINES[name][0]:
        parse_engine(name, broken)  # a name that is none has a better message
        raise InputError(f"--engine {text}: {name} has no versions; leave the @ out")
    released = versions(ENGINES[name][0])
    first, _, last = ("", "", "") if wanted == "all" else wanted.partition("..")
    for end in (first, last):
        if end and end not in released:
            raise InputError(
                f"--engine {text}: {name} has no release {end!r}; there are {', '.join(released)}"
            )
    begin = released.index(first) if first else 0
    end_at = released.index(last) if last else len(released) - 1
    if begin > end_at:
        raise InputError(f"--engine {text}: {first} came after {last}; swap them")
    return [parse_engine(f"{name}@{v}", broken) for v in released[begin : end_at + 1]]


def python_of(engine: EngineRef, say: Say) -> str:
    """Return the interpreter to run an engine's worker with, its environment made if need be."""
    if not engine.distribution:
        return sys.executable
    return str(ensure(engine.distribution, engine.version, say).python)
