"""The `dagstorm` command.

Exit codes: 0 done, 1 findings that `--fail-on` names, 2 the user's input is wrong,
3 dagstorm or the machine failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import NoReturn

from harness import __version__
from harness.commands import (
    bisect,
    catalogue,
    compare,
    faults,
    findings,
    load,
    matrix,
    mocks,
    probe,
    proxy,
    replay,
    report,
    run,
)
from harness.kernel.errors import DagstormError, InputError

__all__ = ["main"]

# In the order of the help: what makes findings, what looks at them again, what there is.
COMMANDS = (
    *(run, faults, replay, bisect, probe, compare, findings, matrix),
    *(proxy, mocks, load, report, catalogue),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message.rstrip('.')} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, raises nothing."""
    try:
        parsed = _parser().parse_args(arguments)
        code: int = parsed.do(parsed)
        sys.stdout.flush()
        return code
    except DagstormError as exc:
        line = " ".join(str(exc).split())
        print(f"dagstorm: error: {line}", file=sys.stderr)
        return exc.exit_code
    except KeyboardInterrupt:
        print("dagstorm: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as exc:
        handle, path = tempfile.mkstemp(prefix="dagstorm-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        what = " ".join(f"{type(exc).__name__}: {exc}".split())[:300]
        print(f"dagstorm: error: dagstorm itself failed: {what}; see {path}", file=sys.stderr)
        return 3


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="dagstorm", description="Stress and chaos for asyncio DAG engines.")
    parser.add_argument("--version", action="version", version=f"dagstorm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    for group in COMMANDS:
        group.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
