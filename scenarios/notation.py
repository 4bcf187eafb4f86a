"""Short names for steps and stages, so that a scenario reads as the program it is.

Each function makes one checked step of the step language; nothing here adds meaning. A
duration is given as one number, or as several to choose from: the first is the clear
case, which the undisturbed run (seed 0) takes, the others are ties and near misses.
"""

from __future__ import annotations

from typing import Any

from harness.kernel.program import Program, Retry, Stage
from harness.kernel.steps import Step, step

__all__ = [
    "acquire",
    "allocate",
    "beat",
    "call",
    "cancel_branch",
    "cancel_run",
    "chunk",
    "cleanup",
    "compensate",
    "context",
    "emit",
    "fail",
    "flaky",
    "flood",
    "generate",
    "given",
    "identify",
    "log",
    "mutate",
    "never",
    "ok",
    "parallel",
    "program",
    "put",
    "raises",
    "read",
    "sleep",
    "spawn",
    "stage",
    "subpipeline",
    "swallow",
    "thread",
    "timeout",
    "trespass",
    "using",
    "yields",
]

Seconds = float | tuple[float, ...]
Block = tuple[Step, ...]


def stage(
    name: str,
    *steps: Step,
    needs: str = "",
    timeout_s: float | None = None,
    idle_timeout_s: float | None = None,
    retry: Retry | None = None,
) -> Stage:
    """Declare a stage; `needs` names the stages it waits for, separated by spaces."""
    return Stage(name, steps, tuple(needs.split()), timeout_s, idle_timeout_s, retry)


def program(name: str, *stages: Stage) -> Program:
    return Program(stages, name)


def sleep(*seconds: float) -> Step:
    return step("sleep", seconds=seconds[0] if len(seconds) == 1 else seconds)


def yields(times: int = 1) -> Step:
    return step("yield", times=times)


def acquire(
    name: str, cleanup_s: Seconds = 0.0, *, sync: bool = False, fails: bool = False
) -> Step:
    kind = "sync" if sync else "async"
    return step("acquire", name=name, cleanup=kind, cleanup_s=cleanup_s, fails=fails)


def using(name: str, *steps: Step, cleanup_s: Seconds = 0.0, fails: bool = False) -> Step:
    return step("using", name=name, steps=steps, cleanup_s=cleanup_s, fails=fails)


def cleanup(
    name: str, cleanup_s: Seconds = 0.0, *, fails: bool = False, identify: bool = False
) -> Step:
    return step("cleanup", name=name, cleanup_s=cleanup_s, fails=fails, identify=identify)


def generate(name: str, items: int, every_s: Seconds) -> Step:
    return step("generate", name=name, items=items, every_s=every_s)


def chunk(value: Any) -> Step:
    return step("chunk", value=value)


def read(name: str) -> Step:
    return step("read", stage=name)


def mutate(name: str) -> Step:
    return step("mutate", stage=name)


def call(tool: str, seconds: Seconds, **args: Any) -> Step:
    return step("call", tool=tool, seconds=seconds, **args)


def parallel(*branches: Block) -> Step:
    return step("parallel", branches=branches)


def spawn(name: str, *steps: Step) -> Step:
    """Start a task of the stage's own, which the stage awaits at the end of its block."""
    return step("spawn", name=name, steps=steps)


def thread(seconds: Seconds, *, identify: bool = False) -> Step:
    return step("thread", seconds=seconds, identify=identify)


def beat() -> Step:
    return step("heartbeat")


def timeout(label: str, seconds: Seconds, *steps: Step, otherwise: Block = ()) -> Step:
    return step("timeout", label=label, seconds=seconds, steps=steps, otherwise=otherwise)


def subpipeline(child: Program, *, keep: bool = False) -> Step:
    return step("subpipeline", program=child, keep=keep)


def context() -> Step:
    return step("context")


def compensate(name: str, seconds: Seconds = 0.0, *, fails: bool = False) -> Step:
    return step("compensate", name=name, seconds=seconds, fails=fails)


def flaky(times: int = 1, error: str = "OSError") -> Step:
    """Fail in the first `times` executions of the stage, over retries and redrives together."""
    return step("flaky", times=times, error=error)


def emit(type: str, data: Any = None) -> Step:
    return step("emit", type=type, data=data)


def given() -> Step:
    """Read the run's own marker; later steps have it where their texts say "$marker"."""
    return step("input")


def identify(place: str = "stage") -> Step:
    return step("identify", place=place)


def log(message: str) -> Step:
    return step("log", message=message)


def put(key: str, value: Any) -> Step:
    """Write into the engine's store, under the run's tenant."""
    return step("store", key=key, value=value)


def trespass(how: str, tenant: str = "$other") -> Step:
    return step("trespass", how=how, tenant=tenant)


def flood(producer: str, count: int, every_s: Seconds = 0.0) -> Step:
    """Emit `count` numbered events, one each `every_s`, and look at the account after each."""
    return step("flood", producer=producer, count=count, every_s=every_s)


def ok(value: Any = None) -> Step:
    return step("ok", value=value)


def fail(message: str) -> Step:
    return step("fail", message=message)


def raises(error: str, message: str) -> Step:
    return step("raise", error=error, message=message)


def cancel_run(reason: str) -> Step:
    return step("cancel_run", reason=reason)


def cancel_branch(reason: str) -> Step:
    return step("cancel_branch", reason=reason)


def swallow(times: int, *steps: Step) -> Step:
    return step("swallow", times=times, steps=steps)


def allocate(megabytes: int) -> Step:
    """Take so much memory, which is more than there is."""
    return step("allocate", megabytes=megabytes)


def never() -> Step:
    return step("never")
