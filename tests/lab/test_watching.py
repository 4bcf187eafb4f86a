"""What workers hold is sampled while they live, with the windows in which a fault was at work."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

from harness.lab.engines import EngineRef
from harness.lab.watching import Watching


def test_workers_are_sampled_until_they_are_gone_and_faults_have_their_windows(
    tmp_path: Path,
) -> None:
    ref = EngineRef("toy", "1.0", "", {})
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with Watching(every_s=0.02) as watching:
        try:
            watching.worker(ref, 3, child.pid)
            with watching.fault("toy@1.0 pack/one: latency"):
                assert watching._sampler.wait_for(3, limit_s=30)
        finally:
            child.kill()
            child.wait()
        gone_s = time.time()
        growth = [{"engine": "toy", "memory_growth_mb": 0.0}]
        watching.write(tmp_path, growth)
    with (tmp_path / "resources.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["process"] for row in rows} == {"toy@1.0 #3"}
    assert all(int(row["rss_bytes"]) > 0 and float(row["at_s"]) <= gone_s for row in rows)
    told = json.loads((tmp_path / "resources.json").read_text("utf-8"))
    (window,) = told["windows"]
    assert window["what"] == "toy@1.0 pack/one: latency"
    assert told["began_s"] <= window["begin_s"] <= window["end_s"] <= gone_s
    assert (told["samples"], told["growth"]) == (len(rows), growth)
