"""`dagstorm probe`: any async function of the user's, in the simulated laboratory.

No adapter and no program: the function is run undisturbed, cancelled at every point,
given timeouts, cancelled twice, and run under perturbed schedules; what it leaves behind
is reported with the place in the user's code and the line that shows it again. It all
happens in a process of its own; this side starts it, bounds it and reads its answer.

For pytest, in any test::

    from harness.lab.probe import assert_sound

    def test_checkout_survives_every_cancel():
        assert_sound(checkout, runs=50)
"""

from __future__ import annotations

import inspect
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.kernel.errors import EnvironmentFault, HarnessFault, InputError
from harness.lab.probe_report import text_of

__all__ = ["Probed", "assert_sound", "probe"]

BUDGET_S = 60.0
POINTS_MAX = 500
HORIZON_S = 3600.0
STEPS_MAX = 100_000
RUNS = 20
START_LIMIT_S = 60.0
LAST_RUN_LIMIT_S = 30.0
STDERR_SHOWN = 300

ROOT = Path(__file__).resolve().parents[2]

# Only dagstorm's own package comes from its folder; all else is the user's environment.
BOOTSTRAP = """
import sys
from importlib.util import spec_from_file_location as locate
ROOT = {root!r}
class Ours:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "harness":
            folder = ROOT + "/" + name
            return locate(name, folder + "/__init__.py", submodule_search_locations=[folder])
sys.meta_path.insert(0, Ours)
from harness.lab.probe_worker import main
main()
"""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe found.

    Attributes:
        answer: all of it as plain data (what `--json` prints).
    """

    answer: Mapping[str, Any] = field(repr=False)

    @property
    def defects(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self.answer["defects"]
        return found

    def __str__(self) -> str:
        return text_of(self.answer)


def probe(
    target: str | Callable[..., Any],
    *,
    args: Sequence[Any] | Mapping[str, Any] = (),
    runs: int = RUNS,
    seed: int = 1,
    points_max: int = POINTS_MAX,
    horizon_s: float = HORIZON_S,
    steps_max: int = STEPS_MAX,
    wall_s: float = 10.0,
    budget_s: float = BUDGET_S,
    may_raise: bool = False,
    only: Mapping[str, Any] | None = None,
    python: str | None = None,
    progress: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> Probed:
    """Probe one async function; returns what is wrong with it.

    Args:
        target: `package.module:function`, `path/to/file.py:function`, or a function at the
            top level of a module (it is imported anew, in another process).
        args: JSON values to call it with, by position or by name.
        runs: perturbed schedules to try, each undisturbed and with one cancel.
        seed: the first of them.
        points_max: cancel points to try; more are spread evenly.
        horizon_s: virtual seconds, and
        steps_max: callbacks after which a run counts as never ending.
        wall_s: real seconds after which one run counts as blocking the loop.
        budget_s: real seconds for everything.
        may_raise: it is right that the function raises when it is run undisturbed.
        only: fields of one `Disturbance`; nothing else is then run.
        python: interpreter to run it with; default this one.

    Raises:
        InputError: the target cannot be probed; the message says why and what to do.
    """
    name, paths = _name(target)
    plain = _plain(args)
    request = {
        "target": name,
        "options": _options(plain, horizon_s, steps_max, may_raise),
        "paths": paths,
        "args": plain,
        "runs": runs,
        "seed": seed,
        "points_max": points_max,
        "horizon_s": horizon_s,
        "steps_max": steps_max,
        "wall_s": wall_s,
        "budget_s": budget_s,
        "may_raise": may_raise,
        "only": dict(only) if only is not None else None,
    }
    limit_s = START_LIMIT_S + budget_s + LAST_RUN_LIMIT_S
    return Probed(_ask(request, python or sys.executable, limit_s, progress))


def assert_sound(target: str | Callable[..., Any], **options: Any) -> None:
    """Probe a function (see `probe`) and raise AssertionError with all that was found."""
    found = probe(target, **options)
    if found.defects:
        raise AssertionError("\n" + str(found))


def _plain(args: Sequence[Any] | Mapping[str, Any]) -> Any:
    try:
        return json.loads(json.dumps(dict(args) if isinstance(args, Mapping) else list(args)))
    except (TypeError, ValueError) as exc:
        raise InputError(f"probe: args must be JSON values: {exc}") from exc


def _options(args: Any, horizon_s: float, steps_max: int, may_raise: bool) -> str:
    """Return the options, as the command takes them, without which a run would be another."""
    words = f" --args {shlex.quote(json.dumps(args))}" if args else ""
    words += f" --horizon {horizon_s:g}" if horizon_s != HORIZON_S else ""
    words += f" --steps-max {steps_max}" if steps_max != STEPS_MAX else ""
    return words + (" --may-raise" if may_raise else "")


def _name(target: str | Callable[..., Any]) -> tuple[str, list[str]]:
    """Return how the worker finds the target, and the folders to look in."""
    if isinstance(target, str):
        return target, [os.getcwd()]
    function = inspect.unwrap(target)
    qualname = getattr(function, "__qualname__", "")
    if not inspect.isfunction(function) or "<" in qualname:
        raise InputError(
            f"probe {qualname or target!r}: expected a function at the top level of a module; "
            f"another process must be able to import it"
        )
    # By its file: what pytest calls a module cannot always be imported under that name.
    file = inspect.getsourcefile(function) or ""
    return f"{file}:{qualname}", [p for p in sys.path if p]


def _ask(
    request: Mapping[str, Any],
    python: str,
    limit_s: float,
    progress: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    # One hash seed everywhere: sets of texts then iterate alike in every process.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONASYNCIODEBUG", None)
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                [python, "-c", BOOTSTRAP.format(root=str(ROOT))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if request["only"] is not None else errors,
                env=environment,
                start_new_session=True,
            )
        except OSError as exc:
            raise InputError(f"probe: {python} cannot be started: {exc.strerror}") from exc
        assert process.stdin is not None and process.stdout is not None
        killer = threading.Timer(limit_s, _kill, [process.pid])
        killer.start()
        answer: dict[str, Any] = {}
        try:
            process.stdin.write((json.dumps(request) + "\n").encode())
            process.stdin.close()
            for line in process.stdout:
                message = json.loads(line)
                if "progress" in message:
                    progress(message["progress"])
                else:
                    answer = message
            process.wait()
        except (BrokenPipeError, ValueError):
            answer = {}
        finally:
            killer.cancel()
            _kill(process.pid)
            process.stdout.close()
            process.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
    if "ok" in answer:
        reply: dict[str, Any] = answer["ok"]
        return reply
    if "error" in answer:
        kinds = {"InputError": InputError, "EnvironmentFault": EnvironmentFault}
        raise kinds.get(answer["error"]["kind"], HarnessFault)(answer["error"]["message"])
    last = f": {said[-1][:STDERR_SHOWN]}" if said else ""
    raise EnvironmentFault(
        f"probe {request['target']}: its process ended with code {process.returncode} "
        f"(limit {limit_s:g} s){last}"
    )


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
