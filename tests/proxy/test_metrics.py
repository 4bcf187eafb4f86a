"""/metrics, and the live counters that the embedded proxy has beside it."""

from __future__ import annotations

import re
import time

import pytest

from tests.proxy.wire import Api, Proxied, read


def bytes_of(api: Api, proxy: str) -> dict[tuple[str, str], float]:
    reply = api.get("/metrics")
    if reply.status == 404:
        pytest.skip("this server was started without metrics")
    assert reply.status == 200 and reply.type.startswith("text/plain")
    found = {}
    for line in reply.body.decode().splitlines():
        match = re.fullmatch(r"toxiproxy_proxy_(\w+)_bytes_total\{(.*)\} (\S+)", line)
        if match:
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2]))
            assert sorted(labels) == ["direction", "listener", "proxy", "upstream"]
            if labels["proxy"] == proxy:
                found[match[1], labels["direction"]] = float(match[3])
    return found


def test_bytes_are_counted_by_direction(proxy: Proxied) -> None:
    client, server = proxy.pair()
    client.sendall(b"x" * 1000)
    read(server, 1000)
    server.sendall(b"y" * 70)
    read(client, 70)
    client.close()
    server.close()
    expected = {
        ("received", "upstream"): 1000,
        ("sent", "upstream"): 1000,
        ("received", "downstream"): 70,
        ("sent", "downstream"): 70,
    }
    until = time.monotonic() + 5
    while bytes_of(proxy.api, proxy.name) != expected and time.monotonic() < until:
        time.sleep(0.01)
    assert bytes_of(proxy.api, proxy.name) == expected


def test_any_verb_will_do(api: Api) -> None:
    assert len({api(verb, "/metrics").status for verb in ("GET", "POST", "PUT")}) == 1


def test_metrics_and_counters_are_live(embedded: Api, proxy: Proxied) -> None:
    proxy.add("timeout", stream="upstream", name="hole", attributes={"timeout": 0})
    client, server = proxy.pair()
    server.sendall(b"x" * 500)
    read(client, 500)
    assert bytes_of(embedded, proxy.name)["sent", "downstream"] == 500
    proxy.add("bandwidth", name="shut")
    client.sendall(b"z" * 9)
    server.sendall(b"y" * 7)
    until = time.monotonic() + 5
    while time.monotonic() < until:
        [one] = embedded.get(f"{proxy.path}/connections").json
        if one["upstream"]["dropped_bytes"] and one["downstream"]["held_bytes"]:
            break
    assert one["client"] == "{}:{}".format(*client.getsockname())
    assert one["upstream"] == {
        "received_bytes": 9,
        "sent_bytes": 0,
        "held_bytes": 0,
        "dropped_bytes": 9,
        "toxics": ["hole"],
        "ended": False,
    }
    assert one["downstream"]["toxics"] == ["shut"]
    assert (one["downstream"]["sent_bytes"], one["downstream"]["held_bytes"]) == (500, 7)
    counters = embedded.get("/counters").json["proxies"][proxy.name]
    assert (counters["open"], counters["accepted"]) == (1, 1)
    assert counters["downstream"] == {"received_bytes": 507, "sent_bytes": 500, "held_bytes": 7}
