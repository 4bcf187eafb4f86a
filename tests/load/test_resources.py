"""What processes hold, and which growth is a leak."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from harness.lab.load.held import growth
from harness.lab.resources import Sample, Sampler, leak_verdict, sample, slope


def verdict(series: list[float]) -> bool | None:
    return leak_verdict(
        series, quantity="objects", unit="objects", runs_per_batch=100, warm_up=2, floor=1.0
    ).leaks


def test_a_process_that_has_ended_holds_nothing_though_nobody_has_waited_for_it() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert sample("child", child.pid) is None


def test_steady_growth_is_a_leak() -> None:
    assert verdict([1_000 + 300 * i for i in range(10)]) is True


def test_growth_below_the_floor_is_none() -> None:
    assert verdict([1_000 + 50 * i for i in range(10)]) is False


def test_a_warm_up_is_no_leak() -> None:
    assert verdict([0, 5_000, 9_000, 9_000, 9_010, 9_000, 9_005, 9_000, 9_008, 9_001]) is False


def test_what_goes_up_and_down_is_no_leak() -> None:
    saw = [1_000, 5_000, 1_500, 4_500, 1_200, 5_100, 1_100, 5_300, 1_300, 5_400]
    assert verdict(saw) is False


def test_noise_is_rarely_called_a_leak() -> None:
    rng = random.Random(1)
    called = sum(verdict([rng.uniform(0, 5_000) for _ in range(10)]) is True for _ in range(2_000))
    # 4 above 4 by chance is 1 in 70; the session asks for it twice in a row, in fresh batches.
    assert called / 2_000 < 0.03


def test_too_few_batches_say_nothing() -> None:
    assert verdict([1.0] * 9) is None


def test_the_slope_does_not_heed_an_outlier() -> None:
    assert slope([(0, 0), (1, 1), (2, 2), (3, 300), (4, 4)]) == 1
    assert slope([(1, 5)]) == 0.0


@pytest.mark.parametrize(
    ("grows_bytes_a_s", "verdict"), [(0, "pass"), (10_000, "pass"), (1_000_000, "fail")]
)
def test_a_soak_finds_growth(grows_bytes_a_s: int, verdict: str) -> None:
    rng = random.Random(2)
    warm = [min(i, 20) * 1_000_000 for i in range(120)]
    samples = [
        Sample(
            i,
            "engine",
            40_000_000 + warm[i] + grows_bytes_a_s * i + rng.randrange(500_000),
            0.0,
            10,
            1,
            1,
            1,
        )
        for i in range(120)
    ]
    assert growth(samples).verdict == verdict
    assert growth(samples[:20]).verdict == "inconclusive"


def test_a_process_and_its_children_are_sampled() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    try:
        with Sampler({"it": process.pid, "gone": 2**22 - 1}, every_s=0.01) as sampler:
            assert sampler.wait_for(1, limit_s=60)
        own = sample("own", os.getpid(), alone=True)
    finally:
        process.communicate(b"\n", timeout=60)
    first = sampler.samples[0]
    assert first.process == "it"
    assert first.rss_bytes > 1 << 20
    assert first.descriptors >= 3
    assert own is not None and own.threads >= 1
    assert sample("it", process.pid) is None
