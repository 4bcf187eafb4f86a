"""What passes through a proxy without toxics, and how connections begin and end."""

from __future__ import annotations

import hashlib
import random
import socket
import threading

import pytest

from tests.proxy.wire import Api, Proxied, ending, free_port, is_listening, read, read_all


def test_bytes_pass_in_both_directions(proxy: Proxied) -> None:
    client, server = proxy.pair()
    client.sendall(b"question")
    assert server.recv(100) == b"question"
    server.sendall(b"answer")
    assert client.recv(100) == b"answer"


@pytest.mark.parametrize("toxic", ["none", "noop", "latency"])
def test_much_data_arrives_whole_and_in_order_both_ways_at_once(proxy: Proxied, toxic: str) -> None:
    for stream in () if toxic == "none" else ("upstream", "downstream"):
        proxy.add(toxic, stream=stream, attributes={"latency": 3} if toxic == "latency" else {})
    client, server = proxy.pair()
    data = random.Random(1).randbytes(4_000_000)
    digests: dict[str, str] = {}

    def send(one: socket.socket) -> None:
        one.sendall(data)

    def receive(name: str, one: socket.socket) -> None:
        digests[name] = hashlib.sha256(read(one, len(data))).hexdigest()

    work = [(send, client), (send, server)]
    threads = [threading.Thread(target=f, args=(one,)) for f, one in work]
    threads += [threading.Thread(target=receive, args=("up", server))]
    threads += [threading.Thread(target=receive, args=("down", client))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = hashlib.sha256(data).hexdigest()
    assert digests == {"up": expected, "down": expected}


def test_the_end_of_the_client_reaches_the_server(proxy: Proxied) -> None:
    client, server = proxy.pair()
    client.sendall(b"last words")
    client.close()
    assert read_all(server) == b"last words"


def test_the_end_of_the_server_reaches_the_client(proxy: Proxied) -> None:
    client, server = proxy.pair()
    server.sendall(b"last words")
    server.close()
    assert read_all(client) == b"last words"


def test_upstream_down_the_client_is_accepted_and_closed(proxy: Proxied) -> None:
    proxy.api.patch(proxy.path, {"upstream": f"127.0.0.1:{free_port()}"})
    assert proxy.connect().recv(10) == b""
    proxy.api.patch(proxy.path, {"upstream": "junk"})
    assert proxy.connect().recv(10) == b""


def test_an_upstream_given_by_name(proxy: Proxied) -> None:
    proxy.api.patch(proxy.path, {"upstream": f"localhost:{proxy.upstream.port}"})
    client, server = proxy.pair()
    client.sendall(b"x")
    assert server.recv(10) == b"x"


def test_disabling_drops_connections_and_refuses_new_ones(proxy: Proxied) -> None:
    client, server = proxy.pair()
    address = proxy.address
    proxy.api.patch(proxy.path, {"enabled": False})
    assert (client.recv(10), server.recv(10)) == (b"", b"")
    assert not is_listening(address)
    proxy.api.patch(proxy.path, {"enabled": True})
    assert proxy.address == address
    client, server = proxy.pair()
    client.sendall(b"again")
    assert server.recv(10) == b"again"


def test_deleting_drops_connections_and_frees_the_port(proxy: Proxied) -> None:
    client, server = proxy.pair()
    address = proxy.address
    assert proxy.api.delete(proxy.path).status == 204
    assert (client.recv(10), server.recv(10)) == (b"", b"")
    assert not is_listening(address)
    socket.create_server(address).close()


def test_another_upstream_drops_connections_and_keeps_toxics(proxy: Proxied) -> None:
    proxy.add("noop")
    client, _server = proxy.pair()
    address = proxy.address
    reply = proxy.api.patch(proxy.path, {"upstream": f"127.0.0.1:{free_port()}"})
    assert client.recv(10) == b""
    assert (len(reply.json["toxics"]), proxy.address) == (1, address)


@pytest.mark.parametrize("how", ["disabled", "deleted", "moved", "replaced"])
def test_held_data_are_discarded_with_their_connection(proxy: Proxied, how: str) -> None:
    proxy.add("latency", stream="upstream", attributes={"latency": 60_000})
    client, server = proxy.pair()
    client.sendall(b"lost")
    other = f"127.0.0.1:{free_port()}"
    if how == "disabled":
        proxy.api.patch(proxy.path, {"enabled": False})
    elif how == "deleted":
        proxy.api.delete(proxy.path)
    elif how == "moved":
        proxy.api.patch(proxy.path, {"listen": other})
    else:
        proxy.api.post("/populate", [{"name": proxy.name, "listen": other, "upstream": "u:1"}])
    assert read_all(server) == b""


@pytest.mark.parametrize("toxic", [False, True])
def test_a_half_close_is_kept(embedded: Api, proxy: Proxied, toxic: bool) -> None:
    """Otherwise than Go, which closes the other direction too."""
    for stream in ("upstream", "downstream") if toxic else ():
        proxy.add("noop", stream=stream)
    client, server = proxy.pair()
    client.sendall(b"request")
    client.shutdown(socket.SHUT_WR)
    assert read_all(server) == b"request"
    server.sendall(b"a long answer")
    server.shutdown(socket.SHUT_WR)
    assert read_all(client) == b"a long answer"


def test_a_slow_reader_pushes_back(embedded: Api, proxy: Proxied) -> None:
    client, server = proxy.pair()
    client.settimeout(0.3)
    sent = 0
    with pytest.raises(TimeoutError):
        while True:
            sent += client.send(bytes(1 << 16))
    held = embedded.get("/counters").json["proxies"][proxy.name]["upstream"]["held_bytes"]
    assert held <= 1 << 20
    assert len(read(server, sent)) == sent


def test_a_connection_that_is_reset_ends_the_other_side(proxy: Proxied) -> None:
    client, server = proxy.pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    assert ending(server) in ("eof", "reset")


def test_many_connections_at_once(proxy: Proxied) -> None:
    pairs = [proxy.pair() for _ in range(60)]
    for number, (client, _) in enumerate(pairs):
        client.sendall(b"%d" % number)
    assert [server.recv(10) for _, server in pairs] == [b"%d" % n for n in range(60)]
