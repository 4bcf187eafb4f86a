"""Checkpoints: what a run has completed, kept where a later run can go on from it.

A stage's output is written when it has completed, before anything that needs it starts. So
whatever ends the run, a failure, a cancel or the end of the process, a *redrive* takes over
what was completed and runs the rest. A stage whose completion was not written yet is run
again: stages are run at least once, and those that were written are run no more.

The rules:
- what can be redriven is known by the first run's id, or by that of any of its redrives.
- one run or redrive holds the claim on it at a time; another one is refused. A claim ends
  with the run, and with the process that held it.
- a redrive is for the tenant of the first run, or refused.
- a redrive gets the inputs of the first run, and takes a pipeline of the same stages with the
  same needs: outputs may otherwise be taken for what they are not. What stages do, their
  timeouts and their order of declaration may have changed; mending that is what a redrive is for.
- skipped stages and branches that were cancelled stay as they are; chunks are not kept.
- a stage that was compensated is no longer completed, nor is what depends on it.
- a stage that was given up, because it did not stop, may still be at work when it is run again.
- a subpipeline is part of its stage, and is not kept by itself.

Writes are made in the loop's own thread, because nothing may start before they are done.
A store that takes long holds up the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from harness.engine.errors import EngineError
from harness.engine.graph import Graph, isolated
from harness.engine.result import StageResult

__all__ = [
    "CheckpointError",
    "CheckpointStore",
    "Checkpointed",
    "Checkpoints",
    "Kept",
    "MemoryCheckpoints",
    "RedriveRefused",
    "RunHead",
]


class CheckpointError(EngineError):
    """A checkpoint could not be written or read."""


class RedriveRefused(EngineError):
    """A run cannot be redriven, or not now; nothing was run."""


@dataclass(frozen=True, slots=True)
class RunHead:
    """What is kept of a run as a whole: its pipeline's name, stage -> needs, its inputs, and
    whom it was for."""

    pipeline: str
    needs: Mapping[str, tuple[str, ...]]
    inputs: Mapping[str, Any]
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one stage: completed, skipped or cancelled (its branch), as in a report."""

    stage: str
    status: str
    output: Any = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """What a redrive goes on from; `stages` in order of completion."""

    root: str
    head: RunHead
    stages: tuple[Kept, ...]


class CheckpointStore(Protocol):
    """Where checkpoints are kept. Each method's effect is there as a whole or not at all."""

    def begin(self, run_id: str, head: RunHead) -> None:
        """Take note of a new run, and claim it. Raises `CheckpointError` if the id is known."""
        ...

    def look(self, run_id: str) -> Checkpointed:
        """Return what is kept of a run. Raises `RedriveRefused` if there is no such run."""
        ...

    def claim(self, root: str) -> None:
        """Claim a run. Raises `RedriveRefused` if another run or redrive holds the claim."""
        ...

    def name(self, root: str, run_id: str) -> None:
        """Take note of a redrive's id. Raises `CheckpointError` if the id is known."""
        ...

    def keep(self, root: str, stage: Kept) -> None:
        """Keep one stage; when this returns, it is there."""
        ...

    def withdraw(self, root: str, stages: Iterable[str]) -> None:
        """Forget these stages."""
        ...

    def release(self, root: str) -> None:
        """Give up the claim on a run."""
        ...


class MemoryCheckpoints:
    """Checkpoints that live as long as the process: for tests, and redrives within it."""

    def __init__(self) -> None:
        self._heads: dict[str, RunHead] = {}
        self._stages: dict[str, dict[str, Kept]] = {}
        self._roots: dict[str, str] = {}
        self._claimed: set[str] = set()

    def begin(self, run_id: str, head: RunHead) -> None:
        self.name(run_id, run_id)
        self._heads[run_id] = head
        self._stages[run_id] = {}
        self._claimed.add(run_id)

    def look(self, run_id: str) -> Checkpointed:
        root = self._roots.get(run_id)
        if root is None:
            raise unknown(run_id, "this MemoryCheckpoints")
        return Checkpointed(root, self._heads[root], tuple(self._stages[root].values()))

    def claim(self, root: str) -> None:
        if root in self._claimed:
            raise claimed(root)
        self._claimed.add(root)

    def name(self, root: str, run_id: str) -> None:
        if run_id in self._roots:
            raise known(run_id)
        self._roots[run_id] = root

    def keep(self, root: str, stage: Kept) -> None:
        output = isolated(stage.output, f"stage {stage.stage!r}: its output")
        self._stages[root][stage.stage] = Kept(stage.stage, stage.status, output, stage.reason)

    def withdraw(self, root: str, stages: Iterable[str]) -> None:
        for stage in stages:
            self._stages[root].pop(stage, None)

    def release(self, root: str) -> None:
        self._claimed.discard(root)


def unknown(run_id: str, where: str) -> RedriveRefused:
    return RedriveRefused(f"run {run_id!r} is not in {where}; run it with checkpoints first")


def claimed(root: str) -> RedriveRefused:
    return RedriveRefused(f"run {root!r} is being run or redriven; wait until that is over")


def known(run_id: str) -> CheckpointError:
    return CheckpointError(
        f"run {run_id!r} has checkpoints already; redrive it, or give the new run another id"
    )


class Checkpoints:
    """The checkpoints of one run under way: those that it goes on from, and those it makes.

    Args:
        redrives: id of the run that is gone on with, or None for a new run.
    """

    def __init__(self, store: CheckpointStore, run_id: str, redrives: str | None) -> None:
        self._store = store
        self._run_id = run_id
        self._redrives = redrives
        self._root = run_id

    def open(self, graph: Graph, inputs: Mapping[str, Any], tenant: str) -> Checkpointed:
        """Claim the run, and return what there is to go on from.

        Raises:
            RedriveRefused: if it is not known, is claimed, or the pipeline has changed.
            CheckpointError: if the store fails, or knows the new run's id already.
        """
        needs = {name: tuple(sorted(spec.needs)) for name, spec in graph.stages.items()}
        head = RunHead(graph.settings.name, needs, inputs, tenant)
        if self._redrives is None:
            self._store.begin(self._run_id, head)
            return Checkpointed(self._run_id, head, ())
        root = self._find(self._redrives, tenant)
        self._store.claim(root)
        try:
            # Looked at again: until the claim was had, another redrive may have gone on.
            kept = self._store.look(root)
            changes = _changes(kept.head, head)
            if changes:
                raise RedriveRefused(
                    f"run {self._redrives!r} cannot be redriven, the pipeline has changed: "
                    f"{'; '.join(changes)}"
                )
            if self._run_id != self._redrives:
                self._store.name(root, self._run_id)
        except BaseException:
            self._store.release(root)
            raise
        self._root = root
        return kept

    def _find(self, run_id: str, tenant: str) -> str:
        """Return the first run of those that go by this id. A tenant is not told whether a run
        that is not its own is there."""
        if not tenant:
            found = self._store.look(run_id)
            if not found.head.tenant:
                return found.root
        else:
            with suppress(RedriveRefused):
                found = self._store.look(run_id)
                if found.head.tenant == tenant:
                    return found.root
        whose = f"tenant {tenant!r}" if tenant else "no tenant"
        raise RedriveRefused(f"run {run_id!r} is not among the checkpoints of {whose}")

    def keep(self, report: StageResult) -> None:
        """Keep a stage that has completed. Raises `CheckpointError`."""
        self._store.keep(self._root, Kept(report.name, report.status, report.output, report.reason))

    def withdraw(self, stages: Iterable[str], graph: Graph) -> None:
        """Forget stages, and all that depend on them. Raises `CheckpointError`."""
        found = dict.fromkeys(name for name in stages if name in graph.stages)
        names = list(found)
        for name in names:
            names += [one for one in graph.dependents[name] if one not in found]
            found |= dict.fromkeys(graph.dependents[name])
        self._store.withdraw(self._root, found)

    def close(self) -> None:
        """Give up the claim."""
        self._store.release(self._root)


def _changes(then: RunHead, now: RunHead) -> list[str]:
    """Say in what respect two pipelines differ that matters to a redrive."""
    found = []
    if then.pipeline != now.pipeline:
        found.append(f"it was {then.pipeline!r} and is {now.pipeline!r}")
    found += [f"stage {name!r} is gone" for name in then.needs if name not in now.needs]
    found += [f"stage {name!r} is new" for name in now.needs if name not in then.needs]
    found += [
        f"stage {name!r} needed {list(needs)} and needs {list(now.needs[name])}"
        for name, needs in then.needs.items()
        if name in now.needs and now.needs[name] != needs
    ]
    return found
