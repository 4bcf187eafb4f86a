"""Starting and stopping: nothing runs or listens afterwards, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.cli import main
from harness.kernel.errors import EnvironmentFault
from harness.proxy import ProxyServer, Toxiproxy, proxy_in_thread
from tests.proxy.wire import LIMIT_S, Api, Proxied, Upstream, free_port, is_listening

ROOT = Path(__file__).resolve().parents[2]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "harness.cli", "proxy", *words]


@contextlib.contextmanager
def running(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen(
        command(*words),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("dagstorm proxy: http://127.0.0.1:"), process.communicate()
            yield process, line.split()[2]
        finally:
            process.kill()


def listening_here() -> set[int]:
    found = psutil.Process().net_connections("tcp")
    return {one.laddr.port for one in found if one.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_command_cleanly(
    tmp_path: Path, upstream: Upstream, number: signal.Signals
) -> None:
    file = tmp_path / "proxies.json"
    file.write_text(json.dumps([{"name": "p", "upstream": upstream.address}]))
    with running("--port", "0", "--seed", "5", "--config", str(file)) as (process, url):
        api = Api(url)
        assert api.get("/seed").json == {"seed": 5}
        proxy = Proxied(api, "p", upstream, [])
        address = proxy.address
        proxy.add("latency", attributes={"latency": 60_000})
        client, server = proxy.pair()
        server.sendall(b"held")
        # An API connection in the middle of a request does not hold it up either.
        with socket.create_connection((api.host, api.port)) as half:
            half.sendall(b"POST /proxies HTTP/1.1\r\n")
            process.send_signal(number)
            out, err = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, out, err) == (0, "", "dagstorm proxy: stopped\n")
        with client:
            assert client.recv(10) == b""
        assert not is_listening(address)
        assert not is_listening((api.host, api.port))


def test_a_taken_port_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with proxy_in_thread() as server:
        code = main(["proxy", "--port", str(server.port)])
    out, err = capsys.readouterr()
    assert (code, out) == (3, "")
    assert err.startswith(f"dagstorm: error: cannot listen on 127.0.0.1:{server.port}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        ("nonsense", "no JSON"),
        ('[{"name": "a"}]', "missing required field: upstream at proxy 1"),
        ('{"name": "a"}', "bad request body"),
    ],
)
def test_a_wrong_configuration_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, says: str
) -> None:
    before = listening_here()
    file = tmp_path / "proxies.json"
    if text is not None:
        file.write_text(text)
    code = main(["proxy", "--port", "0", "--config", str(file)])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err and str(file) in err
    assert listening_here() == before


def test_a_thread_leaves_nothing_behind(upstream: Upstream) -> None:
    before, threads = listening_here(), threading.active_count()
    descriptors = psutil.Process().num_fds()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            with proxy_in_thread() as server:
                client = Toxiproxy(server.url)
                address = client.create("p", upstream.address).address
                with socket.create_connection(address, timeout=LIMIT_S) as one:
                    upstream.accept().sendall(b"x")
                    assert one.recv(1) == b"x"
                    client.add_toxic("p", "timeout", attributes={"timeout": 60_000})
                assert len(listening_here()) == len(before) + 2
    assert (listening_here(), threading.active_count()) == (before, threads)
    # The three sockets that the upstream has accepted are the test's own.
    assert psutil.Process().num_fds() <= descriptors + 3


def test_an_error_inside_of_the_block_stops_the_thread_too() -> None:
    before = listening_here()
    with pytest.raises(ZeroDivisionError), proxy_in_thread():
        raise ZeroDivisionError
    assert listening_here() == before


def test_on_a_loop_of_ones_own(upstream: Upstream) -> None:
    async def main() -> bytes:
        async with ProxyServer(seed=1) as server:
            client = Toxiproxy(server.url)
            proxy = await asyncio.to_thread(client.create, "p", upstream.address)
            reader, writer = await asyncio.open_connection(*proxy.address)
            there = await asyncio.to_thread(upstream.accept)
            there.sendall(b"through")
            data = await reader.read(100)
            writer.close()
            await writer.wait_closed()
        # Also the connections' tasks are gone; what is left is this one.
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return data

    before = listening_here()
    assert asyncio.run(main()) == b"through"
    assert listening_here() == before


def test_a_cancelled_block_stops_the_server() -> None:
    async def main(inside: asyncio.Event) -> None:
        async with ProxyServer():
            inside.set()
            await asyncio.sleep(60)

    async def cancel() -> None:
        inside = asyncio.Event()
        task = asyncio.create_task(main(inside))
        await inside.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()

    before = listening_here()
    asyncio.run(cancel())
    assert listening_here() == before


def test_a_start_that_is_cancelled_leaves_nothing_open() -> None:
    async def cancelled_after(turns: int) -> bool:
        server = ProxyServer()
        task = asyncio.create_task(server.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await server.close()
        return task.cancelled()

    async def at_every_turn() -> int:
        turns = 0
        while await cancelled_after(turns):
            turns += 1
        return turns

    descriptors = psutil.Process().num_fds()
    assert asyncio.run(at_every_turn()) >= 2
    assert psutil.Process().num_fds() == descriptors


def test_a_taken_port_in_process() -> None:
    port = free_port()
    with proxy_in_thread(port=port):
        descriptors = psutil.Process().num_fds()
        expected = pytest.raises(EnvironmentFault, match=f"cannot listen on 127.0.0.1:{port}")
        with expected, proxy_in_thread(port=port):
            pass
        assert psutil.Process().num_fds() == descriptors
