"""Toxics that come, change and go on open connections with data on their way."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import time

from tests.proxy.wire import Api, Proxied, ending, read, read_all, silent


def test_a_toxic_comes_to_an_open_connection(proxy: Proxied) -> None:
    client, server = proxy.pair()
    server.sendall(b"before")
    assert client.recv(10) == b"before"
    proxy.add("latency", attributes={"latency": 100})
    began = time.monotonic()
    server.sendall(b"after")
    assert client.recv(10) == b"after"
    assert time.monotonic() - began >= 0.1


def test_an_update_changes_what_is_on_its_way(proxy: Proxied) -> None:
    path = proxy.add("bandwidth", attributes={"rate": 0})
    client, server = proxy.pair()
    server.sendall(b"held")
    assert silent(client)
    proxy.api.patch(path, {"attributes": {"rate": 1000}})
    assert client.recv(10) == b"held"


def test_removing_writes_what_is_held_at_once_in_order(proxy: Proxied) -> None:
    path = proxy.add("latency", attributes={"latency": 60_000})
    client, server = proxy.pair()
    for number in range(10):
        server.sendall(b"%d" % number)
        time.sleep(0.005)
    assert silent(client)
    proxy.api.delete(path)
    assert read(client, 10) == b"0123456789"


def test_what_a_removed_toxic_held_goes_through_the_next_ones(proxy: Proxied) -> None:
    path = proxy.add("latency", name="first", attributes={"latency": 60_000})
    proxy.add("limit_data", attributes={"bytes": 3})
    client, server = proxy.pair()
    server.sendall(b"abcdef")
    assert silent(client)
    proxy.api.delete(path)
    assert read(client, 10) == b"abc"
    assert client.recv(10) == b""


def test_toxics_that_come_to_an_open_connection_work_in_the_order_of_their_coming(
    proxy: Proxied,
) -> None:
    client, server = proxy.pair()
    proxy.add("bandwidth", attributes={"rate": 0})
    proxy.add("limit_data", attributes={"bytes": 0})
    server.sendall(b"held by the first, so never seen by the second")
    assert silent(client)


def test_limit_data_counts_from_when_it_came(proxy: Proxied) -> None:
    client, server = proxy.pair()
    server.sendall(b"x" * 50)
    assert len(read(client, 50)) == 50
    proxy.add("limit_data", attributes={"bytes": 5})
    server.sendall(b"y" * 50)
    assert read(client, 100) == b"y" * 5


def test_nothing_is_lost_or_reordered_while_toxics_come_and_go(proxy: Proxied) -> None:
    client, server = proxy.pair()
    data = random.Random(2).randbytes(6_000_000)
    over = threading.Event()

    def change() -> None:
        kinds = [
            ("latency", {"latency": 5, "jitter": 5}),
            ("slicer", {"average_size": 2000, "size_variation": 500, "delay": 10}),
            ("bandwidth", {"rate": 50_000}),
            ("noop", {}),
        ]
        while not over.is_set():
            paths = [proxy.add(kind, attributes=attributes) for kind, attributes in kinds]
            proxy.api.patch(paths[0], {"attributes": {"latency": 1}})
            for path in paths:
                assert proxy.api.delete(path).status == 204

    changing = threading.Thread(target=change)
    sending = threading.Thread(target=server.sendall, args=(data,))
    changing.start()
    sending.start()
    got = read(client, len(data))
    over.set()
    changing.join()
    sending.join()
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


def test_the_end_that_waits_in_a_removed_toxic_is_passed_on(proxy: Proxied) -> None:
    path = proxy.add("bandwidth", attributes={"rate": 0})
    client, server = proxy.pair()
    server.sendall(b"data")
    server.close()
    assert silent(client)
    proxy.api.delete(path)
    assert read(client, 100) == b"data"


def test_no_call_waits_for_a_stalled_reader(embedded: Api, proxy: Proxied) -> None:
    """Otherwise than Go, where each of these calls hangs and is answered 503 after 25 s."""
    client, server = proxy.pair()
    proxy.add("latency", name="old", attributes={"latency": 1})
    server.settimeout(0.2)
    data = random.Random(4).randbytes(1 << 26)
    sent = 0
    try:
        while sent < len(data):
            sent += server.send(data[sent : sent + (1 << 16)])
    except TimeoutError:
        pass
    assert sent < len(data), "the reader does not stall"
    began = time.monotonic()
    for type in ("latency", "slicer", "bandwidth", "limit_data", "slow_close", "reset_peer"):
        attributes = {"timeout": 60_000, "bytes": 1 << 40, "rate": 1 << 40}
        path = proxy.add(type, attributes=attributes)
        assert proxy.api.patch(path, {"toxicity": 0.5}).status == 200
        assert proxy.api.delete(path).status == 204
    assert proxy.api.delete(f"{proxy.path}/toxics/old").status == 204
    assert time.monotonic() - began < 5
    assert read(client, sent) == data[:sent]


def test_a_toxic_that_comes_to_a_half_closed_connection_goes_on_where_it_is(
    embedded: Api, proxy: Proxied
) -> None:
    client, server = proxy.pair()
    client.sendall(b"request")
    client.shutdown(socket.SHUT_WR)
    assert read_all(server) == b"request"
    server.sendall(b"an ")
    assert read(client, 3) == b"an "
    proxy.add("limit_data", attributes={"bytes": 6})
    server.sendall(b"answer, and more")
    assert read_all(client) == b"answer"
    assert ending(server) in ("eof", "reset")
    deadline = time.monotonic() + 5
    while (counters := embedded.get("/counters").json["proxies"][proxy.name])["open"]:
        assert time.monotonic() < deadline
    assert counters["upstream"] == {"received_bytes": 7, "sent_bytes": 7, "held_bytes": 0}
    assert counters["downstream"] == {"received_bytes": 19, "sent_bytes": 9, "held_bytes": 0}


def test_toxics_on_a_connection_whose_end_has_passed(proxy: Proxied) -> None:
    client, server = proxy.pair()
    server.shutdown(socket.SHUT_WR)
    assert client.recv(10) == b""
    path = proxy.add("latency", attributes={"latency": 10})
    assert proxy.api.patch(path, {"attributes": {"latency": 20}}).status == 200
    assert proxy.api.delete(path).status == 204
