"""An engine behind HTTP: what is answered, refused, and kept."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.engine.broken import CATALOGUE
from harness.kernel.errors import EnvironmentFault, InputError
from harness.lab.engines import parse_engine
from harness.lab.load.server import Served, serving
from harness.lab.resources import leak_verdict

HERE = Path(__file__).parent
HEADERS = {"X-Tenant": "ada", "X-Correlation-Id": "order-7"}
BODY = {"inputs": {"marker": "m-1"}}


def quiet(_text: str) -> None:
    pass


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    ledger = tmp_path_factory.mktemp("serve") / "runs.jsonl"
    engine = parse_engine("reference", CATALOGUE)
    with serving(engine, say=quiet, ledger=ledger, runs_at_once_max=20, life_s=600) as one:
        yield one


def raw(served: Served, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
    connection = http.client.HTTPConnection(served.host, served.port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_a_run_is_answered_by_what_the_engine_says(served: Served) -> None:
    answer = served.ask("POST", "/runs", BODY, HEADERS)
    assert answer["status"] == "ok"
    stages = ["fetch", "stock", "price", "join", "notify"]
    assert sorted(answer["outputs"]) == sorted(stages)
    assert answer["outputs"]["notify"] == {"stage": "notify", "marker": "m-1"}
    assert sorted(answer["measured_s"]) == sorted(stages)
    assert [e["ids"]["tenant"] for e in answer["event_reports"]] == ["ada"] * 4
    assert answer["logs"][0]["message"] == "priced m-1"


def test_nothing_of_the_request_is_in_the_answer_but_by_way_of_the_engine(served: Served) -> None:
    unread = {"inputs": {"marker": "m-1", "other": "never-read"}}
    answer = served.ask("POST", "/runs", unread, HEADERS | {"X-Other": "never-sent"})
    assert "never" not in json.dumps(answer)


def test_a_run_that_fails_is_answered_too(served: Served) -> None:
    answer = served.ask("POST", "/runs", {**BODY, "program": "failing"}, HEADERS)
    assert answer["status"] == "failed"
    assert "no stock for m-1" in answer["raised"]["message"]


def test_a_stream_tells_stages_as_they_come(served: Served) -> None:
    status, headers, data = raw(
        served, "POST", "/runs/stream", json.dumps(BODY).encode(), **{"X-Tenant": "ada"}
    )
    assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
    *lines, last = [json.loads(line) for line in data.splitlines()]
    ended = [one["stage"] for one in lines if one["kind"] == "stage.end"]
    assert (ended[0], ended[-2:]) == ("fetch", ["join", "notify"])
    assert [one["detail"] for one in lines if one["kind"] == "chunk"] == ["joined m-1"]
    assert last["answer"]["status"] == "ok"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "said"),
    [
        ("POST", "/runs", b"{", {"X-Tenant": "a"}, 400, b"not JSON"),
        ("POST", "/runs", b"[]", {"X-Tenant": "a"}, 400, b"expected an object"),
        ("POST", "/runs", b"{}", {}, 400, b"X-Tenant"),
        ("POST", "/runs", b'{"program": "x"}', {"X-Tenant": "a"}, 400, b"no program 'x'"),
        ("POST", "/runs", b" " * 70_000, {"X-Tenant": "a"}, 413, b""),
        ("GET", "/runs", b"", {}, 405, b"does not take GET"),
        ("GET", "/nothing", b"", {}, 404, b"no route /nothing"),
        ("POST", "/batch", b'{"runs": -1}', {}, 400, b"runs: 0 to"),
    ],
)
def test_bad_requests(  # noqa: PLR0917
    served: Served,
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    said: bytes,
) -> None:
    answered, _, data = raw(served, method, path, body, **headers)
    assert answered == status
    assert said in data


def test_beyond_the_limit_runs_are_refused_with_a_time_to_come_back(served: Served) -> None:
    def ask(_n: int) -> tuple[int, str | None]:
        body = json.dumps(BODY | {"program": "failing"}).encode()
        status, headers, _ = raw(served, "POST", "/runs", body, **{"X-Tenant": "ada"})
        return status, headers["Retry-After"]

    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(ask, range(240)))
    assert set(answers) <= {(200, None), (503, "1")}
    stats = served.ask("GET", "/stats")
    assert stats["open_runs"] == 0
    assert stats["refused"] == answers.count((503, "1"))
    assert stats["events"]["emitted"] == stats["events"]["delivered"] > 0


def test_an_address_in_use_is_the_machines_fault(served: Served) -> None:
    engine = parse_engine("reference", CATALOGUE)
    with (
        pytest.raises(EnvironmentFault, match=rf"cannot serve at 127\.0\.0\.1:{served.port}"),
        serving(engine, say=quiet, port=served.port),
    ):
        pass


def test_a_program_that_the_engine_cannot_run_is_refused() -> None:
    program = {"stages": [{"name": "a", "steps": [{"op": "emit", "type": "x"}]}]}
    engine = parse_engine("asyncio", CATALOGUE)
    with (
        pytest.raises(InputError, match="asyncio offers no events; leave out what needs it"),
        serving(engine, say=quiet, program={"program": program, "plan": {}}),
    ):
        pass


def test_a_program_of_the_users_own_is_served_under_its_name() -> None:
    steps = [{"op": "input"}, {"op": "ok", "value": "$marker"}]
    program = {"name": "mine", "stages": [{"name": "a", "steps": steps}]}
    engine = parse_engine("asyncio", CATALOGUE)
    with serving(engine, say=quiet, program={"program": program, "plan": {}}) as one:
        assert one.told["programs"] == ["mine"]
        assert one.ask("POST", "/runs", BODY, HEADERS)["outputs"] == {"a": "m-1"}


@pytest.mark.parametrize(
    ("engine", "leaks"),
    [
        ("reference", False),
        (f"{HERE}/keeping.py:Adapter", True),
        pytest.param("stageflow@1.2.0", False, marks=pytest.mark.engine),
    ],
)
def test_an_engine_that_keeps_its_contexts_leaks(engine: str, leaks: bool) -> None:
    with serving(parse_engine(engine, CATALOGUE), say=quiet, life_s=600) as one:
        held = [one.ask("POST", "/batch", {"runs": 40})["objects"] for _ in range(10)]
    verdict = leak_verdict(
        held, quantity="objects", unit="objects", runs_per_batch=40, warm_up=2, floor=0.05
    )
    assert verdict.leaks is leaks, verdict
