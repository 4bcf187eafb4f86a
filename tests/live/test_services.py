"""The mock services: what they answer, what goes wrong by seed, and that they end."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mocks.services import Hosted, Knobs, services
from mocks.services.knobs import fate_of


@pytest.fixture(scope="module")
def hosted() -> Iterator[Hosted]:
    with services(seed=3) as running:
        yield running


def post(address: tuple[str, int], path: str, data: Any) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        connection.request("POST", path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def say(address: tuple[str, int], *lines: Any) -> list[Any]:
    """Say lines to the store on one connection; return its answers, the time they took left out."""
    answers = []
    with socket.create_connection(address, timeout=60) as sock, sock.makefile("rwb") as file:
        for line in lines:
            file.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
            file.flush()
            answer = json.loads(file.readline())
            answer.pop("worked_s", None)
            answers.append(answer)
    return answers


def test_a_tool_answers_once(hosted: Hosted) -> None:
    status, body = post(hosted.addresses["tool"], "/tool/search", {"run": "r0", "number": 2})
    assert (status, len(body)) == (200, 256)
    answer = json.loads(body)
    assert (answer["tool"], answer["number"], answer["ok"]) == ("search", 2, True)


def test_a_tool_fails_as_it_is_told(hosted: Hosted) -> None:
    status, body = post(hosted.addresses["tool"], "/tool/search", {"error": "OSError"})
    assert (status, json.loads(body)["error"]) == (200, "OSError")


def test_tokens_come_one_event_each_and_then_it_is_done(hosted: Hosted) -> None:
    status, body = post(hosted.addresses["tokens"], "/tokens", {"tool": "write", "chunks": 3})
    events = [json.loads(e.removeprefix("data: ")) for e in body.decode().split("\n\n") if e]
    assert status == 200
    assert [e.get("item") for e in events] == ["write#1.0", "write#1.1", "write#1.2", None]
    assert events[-1]["done"] is True


def test_the_store_keeps_values_and_finds_near_vectors(hosted: Hosted) -> None:
    assert say(
        hosted.addresses["kv"],
        {"op": "put", "key": "east", "value": [1, 0]},
        {"op": "put", "key": "north", "value": [0, 1]},
        {"op": "get", "key": "east"},
        {"op": "near", "vector": [1, 3]},
        {"op": "get", "key": "south"},
    ) == [
        {"ok": True},
        {"ok": True},
        {"ok": True, "value": [1, 0]},
        {"ok": True, "keys": ["north", "east"]},
        {"ok": True, "value": None},
    ]


def test_the_collector_has_every_event(hosted: Hosted) -> None:
    for n in range(3):
        post(hosted.addresses["events"], "/events", {"type": "done", "data": {"n": n}})
    assert list(hosted.events) == [("done", {"n": n}) for n in range(3)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", b"expected JSON"),
        (b"[1]", b"expected"),
        ({"seconds": "x"}, b"seconds: expected a number, got 'x'"),
        ({"seconds": float("nan")}, b"seconds: expected 0 to"),
        ({"chunks": -1}, b"chunks: expected a whole number from 0 to 10000, got -1"),
        ({"chunks": 10**9}, b"chunks: expected"),
    ],
)
def test_a_bad_request_is_told_what_was_expected(hosted: Hosted, data: Any, says: bytes) -> None:
    status, body = post(hosted.addresses["tokens"], "/tokens", data)
    assert status == 400
    assert body.startswith(says)


def test_a_body_beyond_the_limit_is_refused(hosted: Hosted) -> None:
    assert post(hosted.addresses["events"], "/events", b" " * 100_000)[0] == 413


def test_the_store_refuses_what_is_no_command(hosted: Hosted) -> None:
    told = say(hosted.addresses["kv"], b"{", {"op": "drop"}, {"op": "near", "vector": [0]})
    assert [set(one) for one in told] == [{"refused"}] * 3


def test_a_client_that_goes_away_is_noticed(hosted: Hosted) -> None:
    with socket.create_connection(hosted.addresses["kv"], timeout=60) as sock:
        sock.sendall(b'{"op": "get", "key": "x", "seconds": 60, "run": "gone"}\n')
        for _ in range(6_000):
            if any(one.request == "gone/#1" for one in hosted.served):
                break
            threading.Event().wait(0.01)
    one = next(one for one in hosted.served if one.request == "gone/#1")
    for _ in range(6_000):
        if one.how == "left":
            break
        threading.Event().wait(0.01)
    assert one.how == "left"


RATES = Knobs(error_rate=0.2, malformed_rate=0.2, cut_rate=0.2, delay_s=0.2, jitter_s=0.1)


def test_fates_are_drawn_by_seed_and_request_alone() -> None:
    names = [f"r0/tool#{n}" for n in range(500)]
    drawn = [fate_of(RATES, 7, "tool", name) for name in names]
    assert [fate_of(RATES, 7, "tool", name) for name in reversed(names)] == drawn[::-1]
    assert [fate_of(RATES, 8, "tool", name) for name in names] != drawn
    shares = {how: sum(f.how == how for f in drawn) for how in ("error", "malformed", "cut")}
    assert all(70 <= n <= 130 for n in shares.values()), shares
    assert all(0.1 <= f.delay_s <= 0.3 for f in drawn)


def test_a_knob_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="error_rate: expected a share from 0 to 1, got 2"):
        Knobs(error_rate=2)
    with pytest.raises(ValueError, match="more than 1 together"):
        Knobs(error_rate=0.6, cut_rate=0.6)


@pytest.mark.parametrize(
    ("knobs", "tool", "tokens"),
    [
        (Knobs(error_rate=1), "status 503", "status 503"),
        (Knobs(malformed_rate=1), "not JSON", "not JSON"),
        (Knobs(cut_rate=1), "cut", "cut"),
    ],
)
def test_what_goes_wrong_is_what_was_asked_for(knobs: Knobs, tool: str, tokens: str) -> None:
    with services(knobs=knobs) as running:
        assert met(running, "tool", "/tool/x") == tool
        assert met(running, "tokens", "/tokens") == tokens
    assert len({one.how for one in running.served}) == 1


def met(running: Hosted, service: str, path: str) -> str:
    """Say how a call went for its client."""
    try:
        status, body = post(running.addresses[service], path, {"chunks": 4})
    except (http.client.IncompleteRead, http.client.RemoteDisconnected, ConnectionError):
        return "cut"
    if status != 200:
        return f"status {status}"
    for event in body.decode().split("\n\n"):
        try:
            json.loads(event.removeprefix("data: ").strip() or "{}")
        except ValueError:
            return "not JSON"
    return "cut" if service == "tokens" and b"done" not in body else "whole"


def test_nothing_is_left_after_the_block() -> None:
    before = set(threading.enumerate())
    with services() as running:
        addresses = dict(running.addresses)
        held = socket.create_connection(addresses["kv"], timeout=60)
        held.sendall(b'{"op": "get", "seconds": 60}\n')
    with contextlib.closing(held):
        assert set(threading.enumerate()) <= before
        for address in addresses.values():
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=60).close()
    assert running.open == 0


def test_they_end_too_when_the_block_is_left_by_an_interrupt() -> None:
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt), services():
        raise KeyboardInterrupt
    assert set(threading.enumerate()) <= before


def test_many_clients_at_once_are_all_answered(hosted: Hosted) -> None:
    async def one(number: int) -> str:
        reader, writer = await asyncio.open_connection(*hosted.addresses["kv"])
        writer.write(json.dumps({"op": "put", "key": f"k{number}", "value": number}).encode())
        writer.write(b"\n")
        answer = json.loads(await reader.readline())
        writer.close()
        await writer.wait_closed()
        return str(answer["ok"])

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(one(n) for n in range(100)))

    assert asyncio.run(all_of_them()) == ["True"] * 100
