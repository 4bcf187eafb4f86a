"""Routes, verbs, statuses, headers: what every client builds on."""

from __future__ import annotations

import pytest

from tests.proxy.wire import Api, Proxied

KNOWN = [
    ("/version", "GET"),
    ("/reset", "POST"),
    ("/populate", "POST"),
    ("/proxies", "GET POST"),
    ("/proxies/a", "GET POST PATCH DELETE"),
    ("/proxies/a/toxics", "GET POST"),
    ("/proxies/a/toxics/b", "GET POST PATCH DELETE"),
]


def test_version(api: Api) -> None:
    reply = api.get("/version")
    assert (reply.status, reply.type) == (200, "application/json;charset=utf-8")
    assert list(reply.json) == ["version"]
    assert reply.body.endswith(b"\n")


@pytest.mark.parametrize(("path", "verbs"), KNOWN)
def test_other_verbs_are_405_with_an_empty_body(api: Api, path: str, verbs: str) -> None:
    wrong = {"GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS"} - set(verbs.split())
    assert {(verb, api(verb, path).status) for verb in wrong} == {(verb, 405) for verb in wrong}
    assert {api(verb, path).body for verb in wrong} == {b""}


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/proxies/a/nothing", "/proxies/", "/v2/proxies"]
)
def test_other_paths_are_404_in_plain_text(api: Api, path: str) -> None:
    reply = api.get(path)
    assert (reply.status, reply.body) == (404, b"404 page not found\n")
    assert reply.type.startswith("text/plain")


def test_a_browser_is_turned_away(api: Api) -> None:
    reply = api("GET", "/proxies", headers={"User-Agent": "Mozilla/5.0 (X11)"})
    assert (reply.status, reply.body) == (403, b"User agent not allowed\n")
    assert api("GET", "/proxies", headers={"User-Agent": "mozilla/5.0"}).status == 200


def test_every_reply_has_a_request_id_of_its_own(api: Api) -> None:
    replies = [api.get("/version"), api.get("/version"), api.get("/proxies/none")]
    ids = {reply.headers["x-toxiproxy-request-id"] for reply in replies}
    assert len(ids) == 3


def test_the_life_of_a_proxy(api: Api, name: str) -> None:
    created = api.post("/proxies", {"name": name, "listen": "localhost:0", "upstream": "junk"})
    assert (created.status, created.type) == (201, "application/json")
    listen = created.json["listen"]
    assert listen.startswith("127.0.0.1:") and not listen.endswith(":0")
    expected = {"name": name, "listen": listen, "upstream": "junk", "enabled": True, "toxics": []}
    assert {key: created.json[key] for key in expected} == expected
    assert api.get(f"/proxies/{name}").body == created.body
    assert api.get("/proxies").json[name] == created.json
    assert api.patch(f"/proxies/{name}", {"enabled": False}).json["enabled"] is False
    assert api.post(f"/proxies/{name}", {"enabled": True}).json == created.json
    deleted = api.delete(f"/proxies/{name}")
    assert (deleted.status, deleted.body) == (204, b"")
    assert api.get(f"/proxies/{name}").status == 404


def test_the_life_of_a_toxic(proxy: Proxied) -> None:
    api, path = proxy.api, f"{proxy.path}/toxics"
    created = api.post(path, {"type": "latency", "attributes": {"latency": 100}})
    expected = {
        "attributes": {"latency": 100, "jitter": 0},
        "name": "latency_downstream",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 1,
    }
    assert (created.status, created.type, created.json) == (200, "application/json", expected)
    one = f"{path}/latency_downstream"
    assert api.get(one).json == expected
    assert api.get(path).json == api.get(proxy.path).json["toxics"] == [expected]
    patched = api.patch(one, {"attributes": {"jitter": 5}, "toxicity": 0.5})
    expected |= {"attributes": {"latency": 100, "jitter": 5}, "toxicity": 0.5}
    assert (patched.status, patched.json) == (200, expected)
    posted = api.post(one, {"attributes": {"latency": 7}, "name": "x", "stream": "upstream"})
    expected |= {"attributes": {"latency": 7, "jitter": 5}}
    assert (posted.status, posted.json) == (200, expected)
    deleted = api.delete(one)
    assert (deleted.status, deleted.body) == (204, b"")
    assert api.get(one).status == 404
    assert api.get(path).body == b"[]"


def test_toxics_are_listed_upstream_first_each_in_order_of_creation(proxy: Proxied) -> None:
    for name, stream in [
        ("a", "downstream"),
        ("b", "upstream"),
        ("c", "downstream"),
        ("d", "UpStream"),
    ]:
        proxy.add("noop", name=name, stream=stream)
    found = [(t["name"], t["stream"]) for t in proxy.api.get(f"{proxy.path}/toxics").json]
    expected = [("b", "upstream"), ("d", "UpStream"), ("a", "downstream"), ("c", "downstream")]
    assert found == expected


def test_keys_match_in_any_case_and_what_follows_the_first_value_is_ignored(
    api: Api, name: str
) -> None:
    body = (
        b'{"NAME":"%s","Upstream":"u:1","LISTEN":"127.0.0.1:0","other":[1]} trailing'
        % name.encode()
    )
    reply = api.post("/proxies", body)
    assert (reply.status, reply.json["upstream"]) == (201, "u:1")
    assert api.delete(f"/proxies/{name}").status == 204


def test_null_is_the_default(proxy: Proxied) -> None:
    body = {"type": "latency", "name": None, "stream": None, "toxicity": None, "attributes": None}
    reply = proxy.api.post(f"{proxy.path}/toxics", body)
    expected = {
        "attributes": {"latency": 0, "jitter": 0},
        "name": "latency_downstream",
        "type": "latency",
        "stream": "downstream",
        "toxicity": 1,
    }
    assert (reply.status, reply.json) == (200, expected)


def test_toxicity_is_not_checked_and_keeps_32_bits(proxy: Proxied) -> None:
    for number, (given, kept) in enumerate(
        [(7, 7), (-1, -1), (0.1, 0.1), (0.123456789, 0.12345679)]
    ):
        path = proxy.add("noop", name=f"n{number}", toxicity=given)
        assert proxy.api.get(path).json["toxicity"] == kept


TYPES = {
    "bandwidth": {"rate": 0},
    "latency": {"latency": 0, "jitter": 0},
    "limit_data": {"bytes": 0},
    "noop": {},
    "reset_peer": {"timeout": 0},
    "slicer": {"average_size": 0, "size_variation": 0, "delay": 0},
    "slow_close": {"delay": 0},
    "timeout": {"timeout": 0},
}


@pytest.mark.parametrize("type", TYPES)
def test_each_type_has_its_attributes(proxy: Proxied, type: str) -> None:
    assert proxy.api.get(proxy.add(type)).json["attributes"] == TYPES[type]


def test_an_identical_update_leaves_connections_alone(proxy: Proxied) -> None:
    client, server = proxy.pair()
    port = proxy.address[1]
    reply = proxy.api.patch(
        proxy.path, {"listen": f"localhost:{port}", "upstream": proxy.upstream.address}
    )
    assert (reply.status, reply.json["listen"]) == (200, f"127.0.0.1:{port}")
    client.sendall(b"still here")
    assert server.recv(100) == b"still here"
