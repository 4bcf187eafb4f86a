"""`dagstorm mocks`: services for an engine of the user's own, and what goes wrong by seed."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from harness.cli import main
from mocks.services import Knobs, services

ROOT = Path(__file__).resolve().parents[2]
ASKED = 40
RATES = Knobs(error_rate=0.3, malformed_rate=0.2, cut_rate=0.2)


def met(address: tuple[str, int]) -> str:
    """Ask for the same thing once more, and say how the client took the answer."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        connection.request("POST", "/tool/search", "{}")
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            return "error"
        json.loads(body)
    except (http.client.IncompleteRead, ConnectionError):
        return "cut"
    except ValueError:
        return "malformed"
    finally:
        connection.close()
    return "answered"


def test_requests_without_a_name_meet_fates_of_their_own_alike_in_each_run() -> None:
    seen = []
    for _ in range(2):
        with services(seed=7, knobs=RATES, counted=True) as hosted:
            seen.append([met(hosted.addresses["tool"]) for _ in range(ASKED)])
        told = {how: n for (_, how), n in hosted.ended.items()}
        assert told == Counter(seen[-1])
    assert seen[0] == seen[1]
    assert set(seen[0]) == {"answered", "error", "malformed", "cut"}


def test_a_request_with_a_name_meets_the_same_fate_each_time() -> None:
    with services(seed=7, knobs=Knobs(error_rate=0.5)) as hosted:
        assert len({met(hosted.addresses["tool"]) for _ in range(8)}) == 1


def test_it_serves_until_it_is_told_to_stop() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", "mocks", "--delay", "5ms", "--error-rate", "100%"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/tool/NAME", said)
        assert found, said
        assert met(("127.0.0.1", int(found[1]))) == "error"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert "dagstorm mocks: tool: 0 answered, 1 error, 0 malformed, 0 cut, 0 left" in errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--error-rate", "60%", "--cut", "60%"], "more than 1 together"),
        (["--error-rate", "2"], "expected a share such as 5%"),
        (["--delay", "11s"], "expected a time up to 10s"),
        (["--tools-port", "70000"], "expected a port from 0 to 65535"),
    ],
)
def test_bad_words_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mocks", *words]) == 2
    assert said in capsys.readouterr().err
