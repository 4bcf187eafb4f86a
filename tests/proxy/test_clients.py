"""Clients that were written for the Go server: unmodified, or by the requests they make."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import toxiproxy
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from tests.proxy.wire import Api, Proxied, Reply, free_port, is_listening


@pytest.fixture
def pypi(api: Api, monkeypatch: pytest.MonkeyPatch) -> Iterator[toxiproxy.Toxiproxy]:
    """toxiproxy-python as it is installed. It keeps its one server in a global."""
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    before = APIConsumer.host, APIConsumer.port
    client = toxiproxy.Toxiproxy()
    client.update_api_consumer(api.host, api.port)
    yield client
    APIConsumer.host, APIConsumer.port = before


def test_toxiproxy_python(pypi: toxiproxy.Toxiproxy, proxy: Proxied, name: str) -> None:
    assert pypi.running() is True
    assert b"version" in pypi.version()
    made = pypi.create(upstream=proxy.upstream.address, name=name + "-py")
    address = ("127.0.0.1", int(made.listen.rpartition(":")[2]))
    try:
        assert made.enabled is True and is_listening(address)
        assert pypi.get_proxy(made.name).upstream == proxy.upstream.address
        with pytest.raises(ProxyExists):
            pypi.create(upstream="u:1", name=made.name)
        made.add_toxic(type="latency", attributes={"latency": 123})
        assert made.get_toxic("latency_downstream").attributes == {"latency": 123, "jitter": 0}
        made.add_toxic(name="second", type="limit_data", stream="upstream", toxicity=0.5)
        assert sorted(made.toxics()) == ["latency_downstream", "second"]
        with pytest.raises(InvalidToxic):
            made.add_toxic(type="nonsense")
        with pytest.raises(NotFound):
            made.destroy_toxic("none")
        with made.down():
            assert not is_listening(address)
        assert is_listening(address)
        assert made.destroy_toxic("second") is True
        assert pypi.reset() is True
        assert made.toxics() == {}
    finally:
        assert pypi.destroy(made) is True
    assert pypi.get_proxy(made.name) is None


def test_toxiproxy_python_populates(pypi: toxiproxy.Toxiproxy, name: str) -> None:
    wanted = [
        {"name": f"{name}-{n}", "upstream": "localhost:3306", "listen": f"localhost:{free_port()}"}
        for n in range(2)
    ]
    for _ in range(2):
        made = pypi.populate(wanted)
        assert [one.name for one in made] == [one["name"] for one in wanted]
    for one in made:
        assert one.destroy() is True


def node(api: Api, method: str, path: str, body: object = None) -> Reply:
    """Send what toxiproxy-node-client sends: fetch, JSON, the verbs of the older API."""
    headers = {"User-Agent": "node", "Accept": "*/*", "Accept-Language": "*"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    return api(method, path, body, headers)


def test_the_requests_of_the_npm_client(api: Api, proxy: Proxied, name: str) -> None:
    made = f"{name}-npm"
    assert b"version" in node(api, "GET", "/version").body
    body = {
        "name": made,
        "listen": "localhost:0",
        "upstream": proxy.upstream.address,
        "enabled": True,
    }
    created = node(api, "POST", "/proxies", body)
    assert created.status == 201 and created.json["toxics"] == []
    assert made in node(api, "GET", "/proxies").json
    update = {
        "enabled": False,
        "listen": created.json["listen"],
        "upstream": created.json["upstream"],
    }
    updated = node(api, "POST", f"/proxies/{made}", update)
    assert (updated.status, updated.json["enabled"]) == (200, False)
    toxic = {
        "attributes": {"rate": 10},
        "name": "slow",
        "stream": "upstream",
        "toxicity": 1.0,
        "type": "bandwidth",
    }
    added = node(api, "POST", f"/proxies/{made}/toxics", toxic)
    assert (added.status, added.json) == (200, toxic)
    assert node(api, "GET", f"/proxies/{made}/toxics").json == [toxic]
    assert node(api, "GET", f"/proxies/{made}/toxics/slow").json == toxic
    changed = node(
        api, "POST", f"/proxies/{made}/toxics/slow", {**toxic, "attributes": {"rate": 99}}
    )
    assert changed.json == {**toxic, "attributes": {"rate": 99}}
    removed = node(api, "DELETE", f"/proxies/{made}/toxics/slow")
    assert (removed.status, removed.body) == (204, b"")
    populated = node(api, "POST", "/populate", [body])
    assert (populated.status, populated.json["proxies"][0]["name"]) == (201, made)
    assert node(api, "POST", "/reset").status == 204
    assert node(api, "DELETE", f"/proxies/{made}").status == 204
