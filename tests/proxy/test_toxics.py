"""Each toxic's behaviour. Times are bounded below exactly, above only against hanging."""

from __future__ import annotations

import threading
import time

import pytest

from tests.proxy.wire import Proxied, ending, read, read_all, silent

SLACK_S = 3.0


def crossing_s(a: object, b: object, data: bytes = b"x") -> float:
    """Return how long data take from one end to the other."""
    began = time.monotonic()
    a.sendall(data)  # type: ignore[attr-defined]
    assert read(b, len(data)) == data  # type: ignore[arg-type]
    return time.monotonic() - began


def test_latency_delays_its_direction_only(proxy: Proxied) -> None:
    path = proxy.add("latency", attributes={"latency": 150})
    client, server = proxy.pair()
    assert 0.15 <= crossing_s(server, client) < 0.15 + SLACK_S
    proxy.api.patch(path, {"attributes": {"latency": 60_000}})
    assert crossing_s(client, server) < SLACK_S


def test_latencies_in_a_chain_add_up(proxy: Proxied) -> None:
    proxy.add("latency", name="a", attributes={"latency": 60})
    proxy.add("latency", name="b", attributes={"latency": 60})
    client, server = proxy.pair()
    assert crossing_s(server, client) >= 0.12


def test_latency_is_pipelined_and_keeps_order(proxy: Proxied) -> None:
    proxy.add("latency", stream="upstream", attributes={"latency": 120, "jitter": 100})
    client, server = proxy.pair()
    began = time.monotonic()
    for number in range(80):
        client.sendall(b"%02d" % number)
        time.sleep(0.002)
    assert read(server, 160) == b"".join(b"%02d" % n for n in range(80))
    # One after another they would take 80 times 120 ms.
    assert time.monotonic() - began < 0.16 + 0.22 + SLACK_S


def test_latency_does_not_delay_a_bare_end(proxy: Proxied) -> None:
    proxy.add("latency", attributes={"latency": 30_000})
    client, server = proxy.pair()
    server.close()
    assert client.recv(10) == b""


def test_latency_does_delay_an_end_behind_data(proxy: Proxied) -> None:
    proxy.add("latency", attributes={"latency": 100})
    client, server = proxy.pair()
    began = time.monotonic()
    server.sendall(b"data")
    server.close()
    assert read_all(client) == b"data"
    assert time.monotonic() - began >= 0.1


def test_a_negative_latency_is_none(proxy: Proxied) -> None:
    proxy.add("latency", attributes={"latency": -5000})
    client, server = proxy.pair()
    assert crossing_s(server, client) < SLACK_S


def test_bandwidth_sets_the_rate(proxy: Proxied) -> None:
    proxy.add("bandwidth", attributes={"rate": 500})
    client, server = proxy.pair()
    took_s = crossing_s(server, client, bytes(100_000))
    assert 0.198 <= took_s < 0.2 + SLACK_S


def test_bandwidth_sends_in_tenths_of_a_second(proxy: Proxied) -> None:
    proxy.add("bandwidth", attributes={"rate": 100})
    client, server = proxy.pair()
    began = time.monotonic()
    server.sendall(bytes(30_000))
    read(client, 10_000)
    first_s = time.monotonic() - began
    read(client, 20_000)
    assert first_s >= 0.098 and time.monotonic() - began >= 0.298


def test_a_rate_of_zero_lets_nothing_pass_until_removed(proxy: Proxied) -> None:
    path = proxy.add("bandwidth", attributes={"rate": 0})
    client, server = proxy.pair()
    server.sendall(b"held")
    assert silent(client)
    proxy.api.delete(path)
    assert client.recv(10) == b"held"


def test_slow_close_delays_the_end_and_no_data(proxy: Proxied) -> None:
    path = proxy.add("slow_close", attributes={"delay": 60_000})
    client, server = proxy.pair()
    server.sendall(b"data")
    server.close()
    assert client.recv(10) == b"data"
    assert silent(client)
    began = time.monotonic()
    proxy.api.patch(path, {"attributes": {"delay": 150}})
    assert client.recv(10) == b""
    assert time.monotonic() - began >= 0.15


def test_removing_slow_close_closes_at_once(proxy: Proxied) -> None:
    path = proxy.add("slow_close", attributes={"delay": 60_000})
    client, server = proxy.pair()
    server.close()
    assert silent(client)
    proxy.api.delete(path)
    assert client.recv(10) == b""


def test_timeout_drops_data_and_closes(proxy: Proxied) -> None:
    path = proxy.add("timeout", stream="upstream", attributes={"timeout": 0})
    client, server = proxy.pair()
    client.sendall(b"dropped")
    assert silent(server)
    began = time.monotonic()
    proxy.api.patch(path, {"attributes": {"timeout": 150}})
    assert ending(client) == "eof"
    assert time.monotonic() - began >= 0.149
    assert read_all(server) == b""


def test_each_chunk_restarts_timeout(proxy: Proxied) -> None:
    proxy.add("timeout", stream="upstream", attributes={"timeout": 700})
    client, server = proxy.pair()
    time.sleep(0.4)
    began = time.monotonic()
    client.sendall(b"x")
    assert read_all(server) == b""
    assert time.monotonic() - began >= 0.699


def test_a_timeout_of_zero_never_closes_until_removed(proxy: Proxied) -> None:
    path = proxy.add("timeout", attributes={"timeout": 0})
    client, server = proxy.pair()
    server.sendall(b"dropped")
    assert silent(client)
    proxy.api.delete(path)
    assert read_all(client) == b""


def test_reset_closes_connections_under_timeout(proxy: Proxied) -> None:
    proxy.add("timeout", attributes={"timeout": 0})
    client, _server = proxy.pair()
    proxy.api.post("/reset")
    assert client.recv(10) == b""


def test_timeout_passes_the_end_of_its_source(proxy: Proxied) -> None:
    proxy.add("timeout", attributes={"timeout": 0})
    client, server = proxy.pair()
    server.close()
    assert client.recv(10) == b""


def test_reset_peer_resets_both_sides_after_the_first_chunk(proxy: Proxied) -> None:
    proxy.add("reset_peer", stream="upstream", attributes={"timeout": 100})
    client, server = proxy.pair()
    assert silent(client, 0.15)
    began = time.monotonic()
    client.sendall(b"x")
    assert ending(client) == "reset"
    assert time.monotonic() - began >= 0.1
    assert ending(server) == "reset"


def test_reset_peer_at_once(proxy: Proxied) -> None:
    proxy.add("reset_peer", attributes={"timeout": 0})
    client, server = proxy.pair()
    server.sendall(b"x")
    assert (ending(client), ending(server)) == ("reset", "reset")


def test_slicer_cuts_into_pieces_and_loses_nothing(proxy: Proxied) -> None:
    attributes = {"average_size": 100, "size_variation": 50, "delay": 5000}
    path = proxy.add("slicer", stream="upstream", attributes=attributes)
    client, server = proxy.pair()
    data = bytes(range(256)) * 4
    # At most 150 bytes a piece, so at least 7 of them and a delay of 5 ms after each.
    assert 6 * 0.005 <= crossing_s(client, server, data) < SLACK_S
    proxy.api.patch(path, {"attributes": {"delay": 60_000_000}})
    client.sendall(data)
    piece = server.recv(4096)
    assert 1 <= len(piece) <= 150
    assert silent(server)
    proxy.api.delete(path)
    assert piece + read(server, len(data) - len(piece)) == data


def test_slicer_without_a_delay(proxy: Proxied) -> None:
    proxy.add("slicer", attributes={"average_size": 64, "size_variation": 32})
    client, server = proxy.pair()
    data = bytes(range(256)) * 256
    sender = threading.Thread(target=server.sendall, args=(data,))
    sender.start()
    assert read(client, len(data)) == data
    sender.join()


@pytest.mark.parametrize("sent", [10, 11, 100_000])
def test_limit_data_passes_that_many_bytes_then_closes(proxy: Proxied, sent: int) -> None:
    proxy.add("limit_data", attributes={"bytes": 10})
    client, server = proxy.pair()
    server.sendall(b"x" * sent)
    assert read(client, 10) == b"x" * 10
    assert ending(client) == "eof"


def test_limit_data_below_the_limit_stays_open(proxy: Proxied) -> None:
    proxy.add("limit_data", stream="upstream", attributes={"bytes": 10})
    client, server = proxy.pair()
    client.sendall(b"x" * 9)
    assert read(server, 9) == b"x" * 9
    assert silent(server)
    client.sendall(b"yz")
    assert read_all(server) == b"y"


def test_limit_data_of_zero_closes_on_the_first_chunk(proxy: Proxied) -> None:
    proxy.add("limit_data", stream="upstream", attributes={"bytes": 0})
    client, server = proxy.pair()
    assert silent(server)
    client.sendall(b"x")
    assert read_all(server) == b""


def test_an_update_of_limit_data_keeps_the_count(proxy: Proxied) -> None:
    path = proxy.add("limit_data", attributes={"bytes": 100})
    client, server = proxy.pair()
    server.sendall(b"x" * 60)
    assert len(read(client, 60)) == 60
    proxy.api.patch(path, {"attributes": {"bytes": 70}})
    server.sendall(b"y" * 60)
    assert read_all(client) == b"y" * 10


def test_noop_does_nothing(proxy: Proxied) -> None:
    proxy.add("noop", attributes={"anything": 1})
    client, server = proxy.pair()
    server.sendall(b"x")
    assert client.recv(10) == b"x"


@pytest.mark.parametrize("type", ["timeout", "limit_data", "bandwidth", "reset_peer"])
def test_a_toxicity_of_zero_spares_every_connection(proxy: Proxied, type: str) -> None:
    proxy.add(type, toxicity=0, attributes={})
    client, server = proxy.pair()
    server.sendall(b"spared")
    assert client.recv(10) == b"spared"


def test_toxicity_is_drawn_per_connection(proxy: Proxied) -> None:
    proxy.add("limit_data", toxicity=0.5, attributes={"bytes": 0})
    spared = 0
    for _ in range(40):
        client, server = proxy.pair()
        server.sendall(b"x")
        spared += client.recv(10) == b"x"
    # Beyond these bounds once in a thousand million runs.
    assert 2 <= spared <= 38


def test_toxics_survive_disabling_and_come_to_new_connections(proxy: Proxied) -> None:
    proxy.api.patch(proxy.path, {"enabled": False})
    proxy.add("limit_data", attributes={"bytes": 1})
    proxy.api.patch(proxy.path, {"enabled": True})
    client, server = proxy.pair()
    server.sendall(b"ab")
    assert read_all(client) == b"a"
