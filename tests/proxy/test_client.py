"""The harness's own client: typed answers, typed errors, dangerous values refused."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.kernel.errors import InputError
from harness.proxy import Toxiproxy, network
from harness.proxy.client import (
    AlreadyExists,
    BadRequest,
    NotFound,
    Proxy,
    ServerFailed,
    Toxic,
    Unreachable,
    ValueRefused,
)
from harness.proxy.danger import danger_of
from tests.proxy.wire import Api, Upstream, free_port, is_listening


@pytest.fixture
def client(api: Api) -> Toxiproxy:
    return Toxiproxy(api.url)


@pytest.fixture
def made(client: Toxiproxy, upstream: Upstream, name: str) -> Iterator[Proxy]:
    yield client.create(name, upstream.address)
    try:
        client.delete(name)
    except NotFound:
        pass


def test_what_there_is_comes_back_typed(client: Toxiproxy, made: Proxy) -> None:
    assert isinstance(client.version(), str) and client.version()
    toxic = client.add_toxic(made.name, "latency", attributes={"latency": 5})
    expected = Toxic(
        "latency_downstream", "latency", "downstream", 1.0, {"latency": 5, "jitter": 0}
    )
    assert toxic == expected
    listed = client.proxy(made.name)
    assert listed == Proxy(made.name, made.listen, made.upstream, True, (expected,))
    assert client.proxies()[made.name] == listed
    assert client.toxics(made.name) == [expected]
    changed = client.update_toxic(made.name, expected.name, toxicity=0.5, attributes={"jitter": 1})
    assert (changed.toxicity, changed.attributes) == (0.5, {"latency": 5, "jitter": 1})
    client.remove_toxic(made.name, expected.name)
    assert client.toxics(made.name) == []
    assert is_listening(made.address)
    client.delete(made.name)
    assert made.name not in client.proxies()


def test_each_error_has_its_type_and_says_what_the_server_said(
    client: Toxiproxy, made: Proxy
) -> None:
    with pytest.raises(NotFound, match="404: proxy not found") as caught:
        client.proxy("none")
    assert caught.value.status == 404
    with pytest.raises(AlreadyExists, match="409: proxy already exists"):
        client.create(made.name, "u:1")
    with pytest.raises(BadRequest, match="400: invalid toxic type"):
        client.add_toxic(made.name, "nonsense")
    with pytest.raises(ServerFailed, match=r"500: listen tcp .* address already in use"):
        client.create(made.name + "b", "u:1", listen=made.listen)


def test_two_clients_do_not_share_a_server(client: Toxiproxy, made: Proxy) -> None:
    other = Toxiproxy(f"http://127.0.0.1:{free_port()}", timeout_s=1)
    with pytest.raises(Unreachable, match=r"no answer from Toxiproxy at http://127.0.0.1"):
        other.version()
    assert made.name in client.proxies()


@contextmanager
def answering(data: bytes) -> Iterator[str]:
    """A server that answers everything alike, or (empty) not at all."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            one, _ = listener.accept()
            with one:
                one.recv(1 << 16)
                if data:
                    one.sendall(data)
                else:
                    over.wait(10)

        over = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        thread.join()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", Unreachable),
        (b"SSH-2.0-OpenSSH\r\n", Unreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", ServerFailed),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", ServerFailed),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", ServerFailed),
        (b"HTTP/1.1 302 No\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n", ServerFailed),
    ],
)
def test_what_is_no_toxiproxy_is_an_error(data: bytes, error: type[Exception]) -> None:
    with answering(data) as url, pytest.raises(error):
        Toxiproxy(url, timeout_s=10 if data else 0.3).proxies()


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8474", "https://x:1", "http://", "http://x:99999", "http://x:y"]
)
def test_what_is_no_url_is_the_users_mistake(url: str) -> None:
    with pytest.raises(InputError, match="expected a URL such as"):
        Toxiproxy(url)


def test_no_proxy_of_the_environment_is_used(
    client: Toxiproxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
    assert client.version()


DANGEROUS = [
    ("slicer", {}),
    ("slicer", {"average_size": 0}),
    ("slicer", {"average_size": 10, "size_variation": 10}),
    ("slicer", {"average_size": 10, "size_variation": -1}),
    ("bandwidth", {"rate": -1}),
    ("bandwidth", {"rate": 1 << 60}),
    ("latency", {"jitter": 1 << 62}),
    ("latency", {"latency": 1.5}),
    ("latency", {"latency": True}),
    ("reset_peer", {"timeout": 60_000}),
    ("timeout", {"timeout": 1 << 63}),
    ("packet_loss", {"loss_rate": float("nan")}),
]
HARMLESS = [
    ("slicer", {"average_size": 1}),
    ("slicer", {"average_size": 10, "size_variation": 9, "delay": 100}),
    ("bandwidth", {"rate": 0}),
    ("latency", {"latency": 86_400_000, "jitter": 5}),
    ("latency", {"latency": -5}),
    ("reset_peer", {"timeout": 5000}),
    ("limit_data", {"bytes": -1}),
    ("packet_loss", {"loss_rate": 0.5}),
    ("unknown", {"anything": 5}),
]


@pytest.mark.parametrize(("type", "attributes"), DANGEROUS)
def test_dangerous_values_are_refused_before_they_are_sent(
    client: Toxiproxy, made: Proxy, type: str, attributes: dict[str, float]
) -> None:
    with pytest.raises(ValueRefused, match=f"toxic {type}: "):
        client.add_toxic(made.name, type, attributes=attributes)
    assert client.toxics(made.name) == []


@pytest.mark.parametrize(("type", "attributes"), HARMLESS)
def test_harmless_values_are_not_refused(type: str, attributes: dict[str, float]) -> None:
    assert danger_of(type, attributes) is None


def test_an_update_is_judged_together_with_what_is_there(client: Toxiproxy, made: Proxy) -> None:
    client.add_toxic(made.name, "slicer", name="s", attributes={"average_size": 10})
    with pytest.raises(ValueRefused):
        client.update_toxic(made.name, "s", attributes={"size_variation": 10})
    assert client.update_toxic(made.name, "s", attributes={"size_variation": 9})


def test_a_toxic_for_a_block(client: Toxiproxy, made: Proxy) -> None:
    with client.toxic(made.name, "noop", stream="upstream") as toxic:
        assert client.toxics(made.name) == [toxic]
    assert client.toxics(made.name) == []
    with pytest.raises(ZeroDivisionError), client.toxic(made.name, "noop"):
        raise ZeroDivisionError
    assert client.toxics(made.name) == []
    with client.toxic(made.name, "noop"):
        client.reset()


def test_down_for_a_block(client: Toxiproxy, made: Proxy) -> None:
    with client.down(made.name):
        assert not is_listening(made.address)
    assert is_listening(made.address)


def test_down_says_when_it_cannot_come_up_again(client: Toxiproxy, made: Proxy) -> None:
    with pytest.raises(ServerFailed, match="address already in use"), client.down(made.name):
        taken = socket.create_server(made.address)
    taken.close()


def test_network_is_the_users_server_if_there_is_one(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOXIPROXY_URL", api.url)
    with network() as client:
        assert (client.url, client.guarded) == (api.url, True)
    monkeypatch.setenv("TOXIPROXY_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unreachable), network():
        pass


def test_network_is_an_own_server_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOXIPROXY_URL", raising=False)
    with network(seed=5) as client:
        assert client.proxies() == {}
        # The embedded server takes what would crash the other.
        proxy = client.create("p", "127.0.0.1:1")
        client.add_toxic("p", "slicer")
    with pytest.raises(Unreachable):
        client.version()
    assert not is_listening(proxy.address)
