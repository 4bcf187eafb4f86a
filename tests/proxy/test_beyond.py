"""What the embedded proxy has that the Go server has not: seed, schedule, loss, a firm stand."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from typing import Any

import pytest

from harness.proxy import Limits, proxy_in_thread
from tests.proxy.wire import Api, Proxied, Upstream, is_listening, read, read_all, silent


def spared(api: Api, upstream: Upstream, connections: int) -> list[bool]:
    """Connect several times under a toxic that hits one in two; say which were spared."""
    api.post("/proxies", {"name": "p", "listen": "127.0.0.1:0", "upstream": upstream.address})
    proxy = Proxied(api, "p", upstream, [])
    proxy.add("limit_data", toxicity=0.5, attributes={"bytes": 0})
    found = []
    for _ in range(connections):
        client, server = proxy.pair()
        server.sendall(b"x")
        found.append(client.recv(10) == b"x")
        client.close()
    api.delete("/proxies/p")
    return found


def test_a_seed_repeats_toxicity(upstream: Upstream) -> None:
    runs = []
    for seed in (7, 7, 8):
        with proxy_in_thread(seed=seed) as server:
            runs.append(spared(Api(server.url), upstream, 24))
    assert runs[0] == runs[1] != runs[2]
    assert len(set(runs[0])) == 2


def test_a_seed_is_given_over_the_api(upstream: Upstream) -> None:
    with proxy_in_thread() as server:
        api = Api(server.url)
        fresh = api.get("/seed").json["seed"]
        first = spared(api, upstream, 24)
        assert api.post("/seed", {"seed": fresh}).json == {"seed": fresh}
        assert spared(api, upstream, 24) == first
        assert api.post("/seed", {}).status == 400


def test_packet_loss(embedded: Api, proxy: Proxied) -> None:
    path = proxy.add("packet_loss", stream="upstream")
    assert embedded.get(path).json["attributes"] == {"loss_rate": 0.1, "correlation": 0}
    for rate, expected in [(1.0, b""), (0, b"x"), (7, b""), (-1, b"x")]:
        embedded.patch(path, {"attributes": {"loss_rate": rate}})
        client, server = proxy.pair()
        client.sendall(b"x")
        client.close()
        assert read_all(server) == expected


def test_packet_loss_drops_about_its_rate_and_in_bursts(embedded: Api, proxy: Proxied) -> None:
    runs = {}
    for correlation in (0.0, 0.6):
        attributes = {"loss_rate": 0.3, "correlation": correlation}
        # Before it, pieces of one byte: each is a chunk of its own.
        cut = proxy.add("slicer", stream="upstream", attributes={"average_size": 1})
        path = proxy.add("packet_loss", stream="upstream", attributes=attributes)
        client, server = proxy.pair()
        client.sendall(bytes(n % 251 for n in range(3000)))
        client.close()
        runs[correlation] = len(read_all(server)) / 3000
        embedded.delete(path)
        embedded.delete(cut)
    # With p = 0.3 + 0.6 p, in bursts 0.75 are lost in the long run.
    assert runs[0.0] == pytest.approx(0.7, abs=0.08)
    assert runs[0.6] == pytest.approx(0.25, abs=0.12)


def test_a_toxic_starts_later(embedded: Api, proxy: Proxied) -> None:
    path = proxy.add("bandwidth", start_after_ms=60_000)
    assert embedded.get(path).json["started"] is False
    client, server = proxy.pair()
    server.sendall(b"x")
    assert client.recv(10) == b"x"
    began = time.monotonic()
    embedded.patch(path, {"start_after_ms": 100})
    while not embedded.get(path).json["started"]:
        assert time.monotonic() - began < 10
        time.sleep(0.01)
    assert time.monotonic() - began >= 0.1
    server.sendall(b"y")
    assert silent(client)


def test_a_toxic_ends_by_itself(embedded: Api, proxy: Proxied) -> None:
    began = time.monotonic()
    path = proxy.add("bandwidth", duration_ms=200)
    client, server = proxy.pair()
    server.sendall(b"x")
    assert client.recv(10) == b"x"
    assert time.monotonic() - began >= 0.2
    assert embedded.get(path).status == 404


def test_a_removed_toxic_does_not_come_back_for_its_time(embedded: Api, proxy: Proxied) -> None:
    for how in ({"start_after_ms": 30}, {"duration_ms": 30}):
        embedded.delete(proxy.add("bandwidth", **how))
    again = proxy.add("noop", name="bandwidth_downstream")
    time.sleep(0.1)
    assert embedded.get(again).json["type"] == "noop"


def test_a_proxy_is_down_for_a_while(embedded: Api, proxy: Proxied) -> None:
    address = proxy.address
    reply = embedded.patch(proxy.path, {"enabled": False, "duration_ms": 60_000})
    assert reply.json["enabled"] is False
    assert not is_listening(address)
    began = time.monotonic()
    embedded.patch(proxy.path, {"enabled": False, "duration_ms": 150})
    while not embedded.get(proxy.path).json["enabled"]:
        assert time.monotonic() - began < 10
        time.sleep(0.01)
    assert time.monotonic() - began >= 0.15
    assert is_listening(address)


def test_without_an_address_it_listens_on_loopback_only(embedded: Api, name: str) -> None:
    """Otherwise than Go, which listens on all interfaces."""
    for listen in ({}, {"listen": ""}, {"listen": ":0"}):
        made = embedded.post("/proxies", {"name": name, "upstream": "u:1", **listen}).json
        assert made["listen"].startswith("127.0.0.1:")
        embedded.delete(f"/proxies/{name}")


def test_a_name_with_a_slash_can_be_addressed(embedded: Api, name: str) -> None:
    odd = f"{name}/?#é"
    assert embedded.post("/proxies", {"name": odd, "upstream": "u:1"}).status == 201
    path = f"/proxies/{name}%2F%3F%23%C3%A9"
    assert embedded.get(path).json["name"] == odd
    assert embedded.post(f"{path}/toxics", {"type": "noop", "name": "a/b"}).status == 200
    assert embedded.delete(f"{path}/toxics/a%2Fb").status == 204
    assert embedded.delete(path).status == 204


HOSTILE = [0, 1, -1, 2**31, -(2**31), 2**62, -(2**62), 2**63 - 1, -(2**63)]
TYPES = {
    "bandwidth": ["rate"],
    "latency": ["latency", "jitter"],
    "limit_data": ["bytes"],
    "packet_loss": ["loss_rate", "correlation"],
    "reset_peer": ["timeout"],
    "slicer": ["average_size", "size_variation", "delay"],
    "slow_close": ["delay"],
    "timeout": ["timeout"],
}


@pytest.mark.parametrize("type", TYPES)
def test_no_attribute_value_hurts_the_server(embedded: Api, proxy: Proxied, type: str) -> None:
    names = TYPES[type]
    some = itertools.islice(itertools.product(HOSTILE, repeat=len(names)), 0, None, len(names) ** 2)
    for values in some:
        path = proxy.add(type, attributes=dict(zip(names, values, strict=True)))
        client, server = proxy.pair()
        for one in (server, client):
            # A toxic that ends connections at once may have done so between the two.
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                one.sendall(b"x" * 5)
        assert embedded.patch(path, {"toxicity": 2}).status == 200
        assert embedded.delete(path).status == 204
        client.close()
        server.close()
    client, server = proxy.pair()
    server.sendall(b"fine")
    assert client.recv(10) == b"fine"


def test_slices_of_an_average_of_zero_are_single_bytes(embedded: Api, proxy: Proxied) -> None:
    """Otherwise than Go, whose server dies of it."""
    proxy.add("slicer")
    client, server = proxy.pair()
    server.sendall(b"abc" * 1000)
    assert read(client, 3000) == b"abc" * 1000


def test_a_name_server_that_does_not_answer_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()

    real = socket.getaddrinfo

    def slow(host: str, *args: Any, **how: Any) -> Any:
        if host != "far.test":
            return real(host, *args, **how)
        answered.wait(10)
        return []

    began = time.monotonic()
    with proxy_in_thread(limits=Limits(lookup_timeout_s=0.2)) as server:
        monkeypatch.setattr("harness.proxy.address.socket.getaddrinfo", slow)
        api = Api(server.url)
        refused = api.post("/proxies", {"name": "a", "listen": "far.test:0", "upstream": "u:1"})
        assert refused.json["error"] == "listen tcp: lookup far.test: i/o timeout"
        upstream = Upstream()
        api.post("/proxies", {"name": "a", "upstream": "far.test:1"})
        proxy = Proxied(api, "a", upstream, [])
        assert proxy.connect().recv(1) == b""
        waiting = proxy.connect()
    assert time.monotonic() - began < 5
    assert waiting.recv(1) == b""
    answered.set()
    for one in proxy.opened:
        one.close()
    upstream.close()


def test_limits_have_names() -> None:
    limits = Limits(proxies_max=1, toxics_per_proxy_max=1, connections_max=1)
    upstream = Upstream()
    with proxy_in_thread(limits=limits) as server:
        api = Api(server.url)
        body: dict[str, Any] = {"name": "a", "upstream": upstream.address}
        assert api.post("/proxies", body).status == 201
        full = api.post("/proxies", {**body, "name": "b"})
        assert (full.status, full.json["error"][:16]) == (507, "too many proxies")
        assert api.post("/proxies/a/toxics", {"type": "noop"}).status == 200
        full = api.post("/proxies/a/toxics", {"type": "noop", "name": "b"})
        assert (full.status, full.json["error"][:15]) == (507, "too many toxics")
        proxy = Proxied(api, "a", upstream, [])
        client, server_end = proxy.pair()
        with pytest.raises(ConnectionResetError):
            proxy.connect().recv(1)
        assert api.get("/counters").json["proxies"]["a"]["refused"] == 1
        client.sendall(b"x")
        assert server_end.recv(1) == b"x"
        for one in proxy.opened:
            one.close()
    upstream.close()
