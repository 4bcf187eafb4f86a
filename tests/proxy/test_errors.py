"""What is refused, with which status and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.proxy.wire import Api, Proxied, Reply, free_port

PROXY = {"name": "n", "upstream": "u:1", "listen": "127.0.0.1:0"}


def error_of(reply: Reply) -> tuple[int, str]:
    assert reply.json["status"] == reply.status
    assert reply.type.startswith("text/plain") and reply.body.endswith(b"}\n")
    return reply.status, reply.json["error"]


def test_missing_fields(api: Api) -> None:
    assert error_of(api.post("/proxies", {})) == (400, "missing required field: name")
    assert error_of(api.post("/proxies", {"name": "x"})) == (
        400,
        "missing required field: upstream",
    )
    assert error_of(api.post("/proxies", {"name": "", "upstream": "u:1"}))[0] == 400
    assert error_of(api.post("/proxies", b"null")) == (400, "missing required field: name")


@pytest.mark.parametrize("body", [b"", b"  \n"])
def test_an_empty_body_is_an_eof(api: Api, body: bytes) -> None:
    assert error_of(api.post("/proxies", body)) == (400, "bad request body: EOF")


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        b'{"name"',
        b'{"name":1,"upstream":"u:1"}',
        b"[]",
        b'"text"',
        b"12",
        b'{"name":"x","upstream":"u:1","enabled":"yes"}',
        b'{"name":"x","upstream":"u:1","enabled":1}',
        b'{"name":NaN,"upstream":"u:1"}',
        b"\xff\xfe",
        b"[" * 50_000,
    ],
)
def test_a_body_that_is_no_proxy(api: Api, body: bytes) -> None:
    status, text = error_of(api.post("/proxies", body))
    assert status == 400 and text.startswith("bad request body: ")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"nonsense", "invalid character 'o' in literal null (expecting 'u')"),
        (b'{"name":tru}', "invalid character '}' in literal true (expecting 'e')"),
        (b'{"name":-x}', "invalid character 'x' in numeric literal"),
        (b'{"name":-Infinity}', "invalid character 'I' in numeric literal"),
        (b'{"name":nul', "unexpected EOF"),
        (b'{"name" 1}', "invalid character '1' after object key"),
        (
            b'{"name":1}',
            "json: cannot unmarshal number into Go struct field Proxy.name of type string",
        ),
        (b"5", "json: cannot unmarshal number into Go value of type toxiproxy.Proxy"),
    ],
)
def test_what_is_wrong_with_a_body_is_said_as_go_says_it(api: Api, body: bytes, text: str) -> None:
    assert error_of(api.post("/proxies", body)) == (400, f"bad request body: {text}")


def test_names_are_unique(proxy: Proxied) -> None:
    again = proxy.api.post("/proxies", {**PROXY, "name": proxy.name})
    assert error_of(again) == (409, "proxy already exists")
    proxy.add("noop", name="one", stream="upstream")
    again = proxy.api.post(f"{proxy.path}/toxics", {"type": "latency", "name": "one"})
    assert error_of(again) == (409, "toxic already exists")


@pytest.mark.parametrize("path", ["", "/toxics", "/toxics/t"])
def test_no_such_proxy(api: Api, path: str) -> None:
    assert error_of(api.get(f"/proxies/none{path}")) == (404, "proxy not found")


def test_no_such_toxic(proxy: Proxied) -> None:
    path = f"{proxy.path}/toxics/none"
    expected = (404, "toxic not found")
    assert error_of(proxy.api.get(path)) == expected
    assert error_of(proxy.api.delete(path)) == expected
    assert error_of(proxy.api.patch(path, {})) == expected


def test_a_wrong_toxic_says_so_stream_first(proxy: Proxied) -> None:
    path = f"{proxy.path}/toxics"
    stream = "stream was invalid, can be either upstream or downstream"
    for body, expected in [
        ({"type": "nonsense"}, "invalid toxic type"),
        ({"type": "down"}, "invalid toxic type"),
        ({"type": "Latency"}, "invalid toxic type"),
        ({}, "invalid toxic type"),
        ({"type": "latency", "stream": "sideways"}, stream),
        ({"type": "nonsense", "stream": "sideways"}, stream),
        ({"type": "latency", "stream": ""}, stream),
    ]:
        assert error_of(proxy.api.post(path, body)) == (400, expected)


BAD: list[Any] = [5.0, 1.5, "5", True, [], {}, 1 << 63, -(1 << 63) - 1]


@pytest.mark.parametrize("value", BAD, ids=repr)
def test_attributes_are_64_bit_integers_written_as_such(proxy: Proxied, value: Any) -> None:
    reply = proxy.api.post(
        f"{proxy.path}/toxics", {"type": "latency", "attributes": {"latency": value}}
    )
    status, text = error_of(reply)
    assert status == 400 and text.startswith("bad request body: ")
    assert proxy.api.get(f"{proxy.path}/toxics").json == []


def test_the_ends_of_the_range_are_taken(proxy: Proxied) -> None:
    path = proxy.add("slow_close", attributes={"delay": (1 << 63) - 1})
    assert proxy.api.get(path).json["attributes"]["delay"] == (1 << 63) - 1
    assert proxy.api.patch(path, {"attributes": {"delay": -(1 << 63)}}).status == 200


def test_a_taken_port(proxy: Proxied, name: str) -> None:
    listen = "{}:{}".format(*proxy.address)
    reply = proxy.api.post("/proxies", {**PROXY, "name": name + "-b", "listen": listen})
    assert error_of(reply) == (500, f"listen tcp {listen}: bind: address already in use")
    assert proxy.api.get(f"/proxies/{name}-b").status == 404


def test_an_address_that_is_none(api: Api, name: str) -> None:
    reply = api.post("/proxies", {**PROXY, "name": name, "listen": "junk"})
    assert error_of(reply) == (500, "listen tcp: address junk: missing port in address")
    reply = api.post("/proxies", {**PROXY, "name": name, "listen": "127.0.0.1:99999"})
    assert error_of(reply)[0] == 500
    assert api.get(f"/proxies/{name}").status == 404


def test_a_disabled_proxy_keeps_the_text_it_was_given(api: Api, name: str) -> None:
    body = {**PROXY, "name": name, "listen": "localhost:0", "enabled": False}
    reply = api.post("/proxies", body)
    assert (reply.status, reply.json["listen"], reply.json["enabled"]) == (
        201,
        "localhost:0",
        False,
    )
    enabled = api.patch(f"/proxies/{name}", {"enabled": True}).json
    assert enabled["listen"].startswith("127.0.0.1:")
    api.delete(f"/proxies/{name}")


def test_moving_to_a_taken_port_leaves_the_proxy_disabled_there(proxy: Proxied, name: str) -> None:
    taken = proxy.upstream.address
    reply = proxy.api.patch(proxy.path, {"listen": taken})
    assert error_of(reply) == (500, f"listen tcp {taken}: bind: address already in use")
    left = proxy.api.get(proxy.path).json
    assert (left["enabled"], left["listen"]) == (False, taken)
    listen = f"127.0.0.1:{free_port()}"
    moved = proxy.api.patch(proxy.path, {"listen": listen, "enabled": True})
    assert (moved.status, moved.json["listen"]) == (200, listen)


def test_a_failed_update_changes_nothing(embedded: Api, proxy: Proxied) -> None:
    """Otherwise than Go, which keeps the attributes before the bad one."""
    path = proxy.add("latency", attributes={"latency": 1, "jitter": 2})
    body = b'{"attributes":{"latency":50,"jitter":"x"},"toxicity":0.5}'
    assert error_of(proxy.api.patch(path, body))[0] == 400
    left = proxy.api.get(path).json
    assert (left["attributes"], left["toxicity"]) == ({"latency": 1, "jitter": 2}, 1)
