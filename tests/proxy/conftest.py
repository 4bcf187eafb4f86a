"""The server under test: the embedded one, or whatever TOXIPROXY_URL names.

    TOXIPROXY_URL=http://127.0.0.1:8474 python -m pytest tests/proxy -m "not slow"

Tests that take the fixture `embedded` are about what the embedded proxy does beyond the Go
server, or deliberately otherwise; on another server they are skipped.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Iterator

import pytest

from harness.proxy import proxy_in_thread
from tests.proxy.wire import Api, Proxied, Upstream

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def api() -> Iterator[Api]:
    url = os.environ.get("TOXIPROXY_URL")
    if url:
        yield Api(url)
        return
    with proxy_in_thread(seed=1) as server:
        yield Api(server.url)


@pytest.fixture
def embedded(api: Api) -> Api:
    if "dagstorm" not in api.get("/version").json["version"]:
        pytest.skip("about the embedded proxy only")
    return api


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    one = Upstream()
    yield one
    one.close()


@pytest.fixture
def name() -> str:
    """A name that no other proxy on the server has."""
    return f"test-{next(_NUMBERS)}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def proxy(api: Api, upstream: Upstream, name: str) -> Iterator[Proxied]:
    body = {"name": name, "listen": "127.0.0.1:0", "upstream": upstream.address}
    reply = api.post("/proxies", body)
    assert reply.status == 201, reply.body
    one = Proxied(api, name, upstream, [])
    yield one
    for client in one.opened:
        client.close()
    api.delete(f"/proxies/{name}")
