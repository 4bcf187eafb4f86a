"""The API's HTTP server against peers that are odd, slow, greedy or hostile."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator

import pytest

from harness.proxy import Limits, proxy_in_thread
from tests.proxy.wire import LIMIT_S, Api

LIMITS = Limits(
    request_head_bytes_max=4096,
    request_body_bytes_max=10_000,
    api_connections_max=8,
)
# Of a server of its own: on a busy machine the other tests' requests may take longer.
IMPATIENT = Limits(request_timeout_s=0.3, idle_timeout_s=0.6)


@pytest.fixture(scope="module")
def own() -> Iterator[Api]:
    with proxy_in_thread(limits=LIMITS) as server:
        yield Api(server.url)


@pytest.fixture(scope="module")
def impatient() -> Iterator[Api]:
    with proxy_in_thread(limits=IMPATIENT) as server:
        yield Api(server.url)


@pytest.fixture
def peer(own: Api) -> Iterator[socket.socket]:
    with socket.create_connection((own.host, own.port), timeout=LIMIT_S) as one:
        yield one


def talk(peer: socket.socket, data: bytes, *, end: bool = True) -> bytes:
    peer.sendall(data)
    if end:
        peer.shutdown(socket.SHUT_WR)
    got = bytearray()
    try:
        while part := peer.recv(1 << 16):
            got += part
    except ConnectionResetError:
        pass
    return bytes(got)


GET = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"


def test_requests_are_answered_in_order_on_one_connection(peer: socket.socket) -> None:
    other = GET.replace(b"/version", b"/proxies")
    got = talk(peer, GET + other + GET)
    assert got.count(b"HTTP/1.1 200 OK") == 3
    assert got.index(b"{}") > got.index(b"version") and got.rindex(b"version") > got.index(b"{}")


def test_connection_close_is_obeyed(peer: socket.socket) -> None:
    once = GET.replace(b"Host: x", b"Host: x\r\nConnection: close")
    assert talk(peer, once + GET, end=False).count(b"HTTP/1.1 200") == 1


def test_http_1_0(peer: socket.socket) -> None:
    assert talk(peer, b"GET /version HTTP/1.0\r\n\r\n", end=False).count(b"HTTP/1.1 200") == 1


def test_a_chunked_body(peer: socket.socket) -> None:
    body = json.dumps([]).encode()
    chunks = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in body) + b"0\r\nTrailer: t\r\n\r\n"
    head = b"POST /populate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    got = talk(peer, head + chunks + GET)
    assert b"201 Created" in got and b'{"proxies":null}' in got and b"version" in got


def test_expect_100_continue(peer: socket.socket) -> None:
    head = (
        b"POST /populate HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    peer.sendall(head)
    assert peer.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert b"201 Created" in talk(peer, b"[]")


def test_head_has_no_body(peer: socket.socket) -> None:
    got = talk(peer, b"HEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 404") and got.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /version\r\n\r\n", 400),
        (b"GET //a\rSet-Cookie:x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET  HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /version HTTP/9.9\r\nHost: x\r\n\r\n", 505),
        (b"GET /version HTTP/1.1\r\n\r\n", 400),
        (b"GET /version HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400),
        (b"GET /version HTTP/1.1\r\nHost: x\r\nbad name: y\r\n\r\n", 400),
        (b"POST /reset HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /reset HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /reset HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        (b"POST /reset HTTP/1.1\r\nHost: x\r\nContent-Length: 10001\r\n\r\n", 413),
        (b"POST /reset HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST /r HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /r HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n", 413),
        (b"POST /r HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc", 400),
        (b"GET /version HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 5000 + b"\r\n\r\n", 431),
        (b"A" * 9000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused_by_status(
    own: Api, peer: socket.socket, data: bytes, status: int
) -> None:
    assert talk(peer, data).startswith(b"HTTP/1.1 %d " % status)
    assert own.get("/version").status == 200


def test_a_refusal_arrives_though_much_was_sent_in_vain(peer: socket.socket) -> None:
    head = b"POST /reset HTTP/1.1\r\nHost: x\r\nContent-Length: 6000000\r\n\r\n"
    assert talk(peer, head + bytes(6_000_000)).startswith(b"HTTP/1.1 413 ")


def test_random_bytes_do_no_harm(own: Api) -> None:
    chance = random.Random(3)
    whole = b"POST /populate HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n" + b'[{"name":"a"}]'
    for _ in range(120):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with socket.create_connection((own.host, own.port), timeout=LIMIT_S) as one:
            talk(one, bytes(data))
    assert own.get("/version").status == 200


def test_a_request_that_never_ends_is_cut_off(impatient: Api) -> None:
    with socket.create_connection((impatient.host, impatient.port), timeout=LIMIT_S) as peer:
        began = time.monotonic()
        peer.sendall(b"GET /version HTTP/1.1\r\n")
        try:
            while time.monotonic() - began < LIMIT_S:
                peer.sendall(b"A")
                time.sleep(0.02)
        except OSError:
            pass
        assert 0.3 <= time.monotonic() - began < 5
    assert impatient.get("/version").status == 200


def test_an_idle_connection_is_closed(impatient: Api) -> None:
    with socket.create_connection((impatient.host, impatient.port), timeout=LIMIT_S) as peer:
        assert peer.recv(1) == b""


def test_too_many_connections_are_closed_and_others_served_again(own: Api) -> None:
    ones = [socket.create_connection((own.host, own.port), timeout=LIMIT_S) for _ in range(12)]
    closed = 0
    for one in ones:
        try:
            one.sendall(GET)
            closed += not one.recv(100)
        except (ConnectionResetError, BrokenPipeError):
            closed += 1
        one.close()
    assert closed >= 4
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            assert own.get("/version").status == 200
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError("no answer after the others had gone")
