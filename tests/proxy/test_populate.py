"""/populate: many proxies in one request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.proxy.wire import Api, Proxied, Upstream, free_port


@pytest.fixture
def names(api: Api, name: str) -> Iterator[list[str]]:
    names = [f"{name}-{letter}" for letter in "abc"]
    yield names
    for one in names:
        api.delete(f"/proxies/{one}")


def one(name: str, port: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "upstream": "u:1", "listen": f"127.0.0.1:{port}", **more}


def test_an_empty_list(api: Api) -> None:
    reply = api.post("/populate", [])
    assert (reply.status, reply.json) == (201, {"proxies": None})


def test_all_are_made_in_their_order(api: Api, names: list[str]) -> None:
    reply = api.post("/populate", [one(n, 0, enabled=n != names[1]) for n in names])
    assert (reply.status, reply.type) == (201, "application/json")
    assert [p["name"] for p in reply.json["proxies"]] == names
    assert [p["enabled"] for p in reply.json["proxies"]] == [True, False, True]
    assert [api.get(f"/proxies/{n}").json for n in names] == reply.json["proxies"]


def test_an_invalid_one_stops_all_before_any_is_made(api: Api, names: list[str]) -> None:
    reply = api.post("/populate", [one(names[0], 0), {"name": names[1]}])
    expected = {
        "error": "missing required field: upstream at proxy 2",
        "status": 400,
        "proxies": None,
    }
    assert (reply.status, reply.type, reply.json) == (400, "application/json", expected)
    reply = api.post("/populate", [one(names[0], 0), {"upstream": "u:1"}])
    assert reply.json["error"] == "missing required field: name at proxy 2"
    assert api.get(f"/proxies/{names[0]}").status == 404


def test_the_first_that_cannot_start_stops_the_rest(
    api: Api, names: list[str], upstream: Upstream
) -> None:
    reply = api.post(
        "/populate", [one(names[0], 0), one(names[1], upstream.port), one(names[2], 0)]
    )
    assert reply.status == 500
    assert reply.json["error"] == f"listen tcp {upstream.address}: bind: address already in use"
    assert [p["name"] for p in reply.json["proxies"]] == names[:1]
    assert [api.get(f"/proxies/{n}").status for n in names] == [200, 404, 404]


@pytest.mark.parametrize("body", [b"", b"{}", b"5", b'[{"name":5}]', b"[5]", b"["])
def test_what_is_no_list_of_proxies(api: Api, body: bytes) -> None:
    reply = api.post("/populate", body)
    assert (reply.status, reply.json["status"]) == (400, 400)
    assert reply.json["error"].startswith("bad request body: ")


def test_an_identical_proxy_is_left_alone_also_its_enabled_flag(proxy: Proxied) -> None:
    port = proxy.address[1]
    client, server = proxy.pair()
    proxy.add("noop")
    same = one(proxy.name, port, upstream=proxy.upstream.address)
    reply = proxy.api.post("/populate", [same, {**same, "listen": f"localhost:{port}"}])
    assert reply.status == 201 and len(reply.json["proxies"][0]["toxics"]) == 1
    client.sendall(b"still here")
    assert server.recv(100) == b"still here"
    proxy.api.patch(proxy.path, {"enabled": False})
    assert proxy.api.post("/populate", [same]).json["proxies"][0]["enabled"] is False


def test_a_different_proxy_is_replaced(proxy: Proxied) -> None:
    client, _server = proxy.pair()
    proxy.add("noop")
    other = one(proxy.name, free_port(), upstream=proxy.upstream.address)
    reply = proxy.api.post("/populate", [other])
    assert reply.status == 201
    found = reply.json["proxies"][0]
    assert (found["listen"], found["toxics"]) == (other["listen"], [])
    assert client.recv(10) == b""
