"""The way to the services: proxies of a unit's own, and none left afterwards."""

from __future__ import annotations

import socket

import pytest

from harness.kernel.errors import EnvironmentFault
from harness.kernel.plan import Toxic
from harness.lab.live_path import PROXIED, LivePath
from harness.proxy import Toxiproxy, proxy_in_thread

ADDRESSES = dict.fromkeys((*PROXIED, "events"), ("127.0.0.1", 9))
LATE = (Toxic("latency", {"latency": 5}), Toxic("timeout", stream="upstream"))


def test_without_toxics_the_way_is_straight_and_no_proxy_is_started() -> None:
    with LivePath(ADDRESSES, seed=1) as path:
        with path.through(()) as found:
            assert found == {name: list(at) for name, at in ADDRESSES.items()}
        assert path._client is None


def test_units_side_by_side_have_proxies_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy_in_thread() as server, LivePath(ADDRESSES, seed=1) as path:
        monkeypatch.setenv("TOXIPROXY_URL", server.url)
        client = Toxiproxy(server.url)
        with path.through(LATE) as one, path.through(LATE[:1]) as other:
            ports = [one[s][1] for s in PROXIED] + [other[s][1] for s in PROXIED]
            assert len(set(ports)) == 2 * len(PROXIED)
            assert one["events"] == other["events"] == ["127.0.0.1", 9]
            toxics = sorted(len(proxy.toxics) for proxy in client.proxies().values())
            assert toxics == [1, 1, 1, 2, 2, 2]
            said = [t for proxy in client.proxies().values() for t in proxy.toxics]
            late = [t.attributes["latency"] for t in said if t.type == "latency"]
            silent = [t.stream for t in said if t.type == "timeout"]
            assert (late, silent) == ([5] * 6, ["upstream"] * 3)
        assert client.proxies() == {}  # the user's server is left as it was found


def test_nothing_is_left_when_the_unit_fails() -> None:
    with LivePath(ADDRESSES, seed=1) as path:
        with pytest.raises(RuntimeError, match="unit"), path.through(LATE) as found:
            raise RuntimeError("unit")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(tuple(found["tool"]), timeout=5).close()


def test_a_server_that_is_not_there_is_the_environments_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("TOXIPROXY_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with (
            LivePath(ADDRESSES, seed=1) as path,
            pytest.raises(EnvironmentFault, match="no answer from Toxiproxy"),
            path.through(LATE),
        ):
            pass
