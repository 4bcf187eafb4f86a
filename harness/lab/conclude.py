"""From units to a finished run directory: findings, scripts, confirmations, data files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.kernel.errors import DagstormError
from harness.lab.campaign import Engine
from harness.lab.confirm import Script, confirm
from harness.lab.worker import Worker, WorkerDied

__all__ = ["confirmations", "write_json"]

Say = Callable[[str], None]


def write_json(path: Path, data: Any) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(data, indent=1, default=repr) + "\n", "utf-8")
    draft.replace(path)


def confirmations(
    folder: Path,
    engines: Sequence[Engine],
    bugs: Iterable[Mapping[str, Any]],
    say: Say,
) -> dict[str, dict[str, Any]]:
    """Write a stand-alone script for each bug and run it; say what each showed.

    Args:
        bugs: findings of kind bug as plain data; `reproduction` holds program and plan.

    Returns:
        fingerprint -> confirmation, confirmation_note and script.
    """
    wanted = list(bugs)
    answers: dict[str, dict[str, Any]] = {}
    scripts: list[Script] = []
    repro = folder / "repro"
    for engine in engines:
        mine = [b for b in wanted if _of(b, engine) and b["fingerprint"] not in answers]
        if not mine or engine.fault:
            continue
        worker = Worker(engine.python, engine.ref.adapter, isolated=engine.ref.isolated)
        try:
            worker.hello()
            for bug in mine:
                text = _render(worker, bug)
                if text is None:
                    note = "no script: on a real clock this clause cannot be told by one"
                    answers[bug["fingerprint"]] = _only_simulated(note)
                    continue
                repro.mkdir(exist_ok=True)
                file = repro / f"{bug['id']}.py"
                file.write_text(text, "utf-8")
                answers[bug["fingerprint"]] = {}
                scripts.append(Script(bug["fingerprint"], bug["clause"], file, engine.python))
        except (DagstormError, WorkerDied) as exc:
            for bug in mine:
                if bug["fingerprint"] not in answers:
                    answers[bug["fingerprint"]] = _only_simulated(f"no script: {exc}")
        finally:
            worker.close()
    if scripts:
        say(f"confirming {len(scripts)} findings by stand-alone scripts")
    answers.update(confirm(scripts))
    return {k: v for k, v in answers.items() if v}


def _only_simulated(note: str) -> dict[str, Any]:
    return {"confirmation": "simulated_only", "confirmation_note": note, "script": ""}


def _of(bug: Mapping[str, Any], engine: Engine) -> bool:
    """Say whether a bug's clearest witness comes from this engine in this version."""
    return bool(bug["reproduction"]["environment"].get("engine") == engine.ref.label)


def _render(worker: Worker, bug: Mapping[str, Any]) -> str | None:
    reproduction = bug["reproduction"]
    reply = worker.ask(
        {
            "op": "render",
            "program": reproduction["program"],
            "plan": reproduction["plan"],
            "clause": bug["clause"],
            "expected": bug["expected"],
            "actual": bug["actual"],
        }
    )
    text: str | None = reply["script"]
    return text
