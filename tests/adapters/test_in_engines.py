"""The tests of Stageflow's adapter, run where Stageflow is: in its own environments."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from harness.lab.environments import ensure

HERE = Path(__file__).resolve().parent
FILES = [HERE / "test_stageflow.py", HERE / "test_stageflow_services.py"]


# Slow, and some compare scripts on the real clock with the laboratory: not on a busy machine.
@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.5.1", "1.2.0"])
def test_the_adapter_in_the_environment_of(version: str) -> None:
    python = ensure("stageflow-core", version, print).python
    done = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, FILES)],
        cwd=HERE.parent.parent,
        # pytest comes from the environment of this test; what the engine needs comes first.
        env={**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout
