"""Every reproduction on the release that is installed here, in one process.

    .../bin/python docs/verification/every.py

Prints a line for each and each graph: name, graph, `shown`, `not shown` or `-` (the release has not
got what it is about). Which should be shown stands in `docs/verification.md`.
"""

import importlib
from pathlib import Path

from start import judge

OTHERS = ("check", "every", "start")


def word(what):
    return "-" if what is None else "shown" if what else "not shown"


for path in sorted(Path(__file__).parent.glob("*.py")):
    if path.stem not in OTHERS:
        for kind, what in judge(importlib.import_module(path.stem)).items():
            print(path.stem, kind, word(what), sep="\t", flush=True)
