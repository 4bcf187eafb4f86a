"""/reset: every proxy up, no toxics, open connections untouched.

The server under test is shared, so only what is said about this test's own proxies counts.
"""

from __future__ import annotations

from tests.proxy.wire import Proxied, is_listening


def test_reset_starts_proxies_and_removes_toxics(proxy: Proxied) -> None:
    proxy.add("latency", stream="upstream", attributes={"latency": 60_000})
    proxy.add("noop")
    address = proxy.address
    proxy.api.patch(proxy.path, {"enabled": False})
    reply = proxy.api.post("/reset", b"whatever")
    assert (reply.status, reply.body) == (204, b"")
    left = proxy.api.get(proxy.path).json
    assert (left["enabled"], left["toxics"]) == (True, [])
    assert is_listening(address)


def test_reset_keeps_connections_and_lets_go_what_was_held(proxy: Proxied) -> None:
    proxy.add("latency", stream="upstream", attributes={"latency": 60_000})
    client, server = proxy.pair()
    client.sendall(b"held")
    proxy.api.post("/reset")
    assert server.recv(10) == b"held"


def test_a_proxy_that_cannot_start(proxy: Proxied) -> None:
    taken = proxy.upstream.address
    assert proxy.api.patch(proxy.path, {"listen": taken}).status == 500
    reply = proxy.api.post("/reset")
    assert reply.status == 500
    assert reply.json["error"] == f"listen tcp {taken}: bind: address already in use"
