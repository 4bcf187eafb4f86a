"""The loop that serves a proxy's sockets by itself while it waits, awake where that pays."""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
import time

import pytest

from harness.proxy.loop import Wakefulness, new_loop
from harness.proxy.server import ProxyServer
from harness.proxy.watch import LINUX
from tests.proxy.wire import Api, Proxied, Upstream, read, read_all


def tries(pattern: list[bool], times: int) -> int:
    """Return how often it is waited awake where this is what would come of it."""
    wakefulness = Wakefulness()
    for number in range(times):
        if wakefulness.pays():
            wakefulness.note(paid=pattern[number % len(pattern)])
    return wakefulness.tries


def test_it_is_waited_awake_as_long_as_it_pays_and_hardly_ever_where_it_does_not() -> None:
    assert tries([True], 10_000) == 10_000
    assert tries([True, True, False], 10_000) == 10_000
    assert tries([False], 10_000) < 100


def test_it_is_tried_again_after_a_time_in_which_it_did_not_pay() -> None:
    wakefulness = Wakefulness()
    for _ in range(10_000):
        if wakefulness.pays():
            wakefulness.note(paid=False)
    for _ in range(2_000):
        if wakefulness.pays():
            wakefulness.note(paid=True)
    before = wakefulness.tries
    for _ in range(100):
        assert wakefulness.pays()
        wakefulness.note(paid=True)
    assert wakefulness.tries == before + 100


@pytest.mark.skipif(not LINUX, reason="only epoll is waited on awake")
def test_what_had_come_already_does_not_speak_for_waiting_awake() -> None:
    """Client, server and proxy on one core: who waits awake only keeps the others from working."""
    loop = new_loop(wakeful=True)
    wakefulness = Wakefulness()
    ours, theirs = socket.socketpair()
    try:
        selector = loop.shared_selector  # type: ignore[attr-defined]
        selector.register(ours, selectors.EVENT_READ)
        empty_handed = 0
        for _ in range(500):
            theirs.send(b"x")
            selector._wait_awake(wakefulness)
            ours.recv(1)
            tried = wakefulness.tries
            assert selector._wait_awake(wakefulness) == []
            empty_handed += wakefulness.tries - tried
        assert empty_handed < 50
    finally:
        ours.close()
        theirs.close()
        loop.close()


@pytest.mark.parametrize("wakeful", [False, True])
def test_the_loop_is_still_a_loop_while_bytes_pass(upstream: Upstream, wakeful: bool) -> None:
    """Timers, threads and calls from elsewhere get their turn beside a busy connection."""
    ticks: list[float] = []

    async def main() -> str:
        async with ProxyServer(seed=1) as server:
            api = Api(server.url)
            loop = asyncio.get_running_loop()
            body = {"name": "p", "listen": "127.0.0.1:0", "upstream": upstream.address}
            await asyncio.to_thread(api.post, "/proxies", body)
            proxy = Proxied(api, "p", upstream, [])
            client, there = await asyncio.to_thread(proxy.pair)
            over = threading.Event()

            def back_and_forth() -> None:
                while not over.is_set():
                    client.sendall(b"x")
                    there.sendall(there.recv(1))
                    assert client.recv(1) == b"x"

            talking = loop.run_in_executor(None, back_and_forth)
            for _ in range(5):
                began = time.monotonic()
                await asyncio.sleep(0.01)
                ticks.append(time.monotonic() - began)
            answer = loop.create_future()
            threading.Timer(
                0.01, loop.call_soon_threadsafe, (answer.set_result, "from a thread")
            ).start()
            said: str = await answer
            over.set()
            await talking
            client.close()
            return said

    loop = new_loop(wakeful=wakeful)
    try:
        assert loop.run_until_complete(asyncio.wait_for(main(), 20)) == "from a thread"
    finally:
        loop.close()
    assert all(one >= 0.01 for one in ticks)


def test_elsewhere_than_on_linux_the_loop_watches_each_socket(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.proxy.watch.LINUX", False)

    def use(proxy: Proxied) -> bytes:
        client, server = proxy.pair()
        client.sendall(b"request")
        client.shutdown(socket.SHUT_WR)
        assert read_all(server) == b"request"
        proxy.add("latency", attributes={"latency": 20})
        server.sendall(b"answer")
        server.shutdown(socket.SHUT_WR)
        answer = read_all(client)
        client.close()
        client, server = proxy.pair()
        client.close()
        assert read_all(server) == b""
        return answer

    async def main() -> bytes:
        async with ProxyServer(seed=1) as server:
            api = Api(server.url)
            body = {"name": "p", "listen": "127.0.0.1:0", "upstream": upstream.address}
            await asyncio.to_thread(api.post, "/proxies", body)
            return await asyncio.to_thread(use, Proxied(api, "p", upstream, []))

    assert asyncio.run(asyncio.wait_for(main(), 20)) == b"answer"


def test_a_connection_on_which_nothing_passes_costs_nothing(upstream: Upstream) -> None:
    async def main() -> float:
        async with ProxyServer(seed=1) as server:
            api = Api(server.url)
            body = {"name": "p", "listen": "127.0.0.1:0", "upstream": upstream.address}
            await asyncio.to_thread(api.post, "/proxies", body)
            proxy = Proxied(api, "p", upstream, [])
            client, there = await asyncio.to_thread(proxy.pair)
            client.sendall(b"x")
            assert await asyncio.to_thread(read, there, 1) == b"x"
            before = time.thread_time()
            await asyncio.sleep(0.3)
            client.close()
            return time.thread_time() - before

    loop = new_loop(wakeful=True)
    try:
        assert loop.run_until_complete(main()) < 0.1
    finally:
        loop.close()


def test_what_the_loop_itself_watches_is_told_of(upstream: Upstream) -> None:
    async def main() -> list[bytes]:
        loop = asyncio.get_running_loop()
        async with ProxyServer(seed=1):
            ends = [socket.socketpair() for _ in range(3)]
            seen: list[bytes] = []
            done = loop.create_future()

            def readable(one: socket.socket) -> None:
                seen.append(one.recv(10))
                loop.remove_reader(one)
                if len(seen) == len(ends):
                    done.set_result(None)

            for here, there in ends:
                here.setblocking(False)
                loop.add_reader(here, readable, here)
                there.send(b"x")
            await asyncio.wait_for(done, 10)
            for pair in ends:
                for one in pair:
                    one.close()
            return seen

    loop = new_loop()
    try:
        assert loop.run_until_complete(main()) == [b"x"] * 3
    finally:
        loop.close()
