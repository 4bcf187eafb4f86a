"""Kills writers of a registry at seeded moments, and says what they had told by then.

A process of its own, because it forks: python killed.py REGISTRY TIMES SEED. Prints a line of
JSON for each kill: what was told, and what the registry holds after it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness.findings.registry import Registry
from tests.findings.book import a_run, entry, row

STOCK = 40


def write(path: Path, name: str, pipe: int) -> None:
    """End runs for ever; tell of findings once the registry has their ids, as a campaign does."""
    rng = random.Random(name)
    for i in range(10_000):
        entries = [entry(f"{m:04x}") for m in rng.sample(range(STOCK), 5)]
        _, ids = a_run(Registry(path), f"{name}-{i}", entries, [row(verdict="fail")])
        os.write(pipe, json.dumps(ids).encode() + b"\n")


def main(path: Path, times: int, seed: int) -> None:
    rng = random.Random(seed)
    for i in range(times):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            write(path, f"w{i}", writer)
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as pipe:
            lines = [pipe.readline() for _ in range(rng.randrange(3))]
            time.sleep(rng.uniform(0.0, 0.03))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            lines += pipe.readlines()
        # To begin a run looks through the whole file.
        Registry(path).begin(f"after-{i}", "")
        print(
            json.dumps(
                {
                    "killed": os.WTERMSIG(status),
                    "told": [json.loads(x) for x in lines if x.endswith("\n")],
                    "holds": {m: k.id for m, k in Registry(path).known().items()},
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
