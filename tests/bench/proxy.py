"""What the embedded fault proxy costs against a direct connection, in the same run.

Client, server and proxy are processes of their own on loopback. Direct and proxied rounds
take turns, and what is printed are medians, of ratios where a ratio says it: the machine's
speed and its other work drop out. `python tests/bench/proxy.py` prints; it never fails.
`--url http://127.0.0.1:8474` measures another Toxiproxy server instead.

Two prices are the machine's and not the proxy's, and either would hide it. A core that has gone
to sleep wakes late (half a millisecond on a virtual machine): so a process of idle priority
keeps each core awake, for direct and proxied rounds alike. And waking a process on another core
may cost more than the proxy's whole work: so round trips and connects are measured with client,
server and proxy on one core, where only work counts, and as the scheduler places them: once with
all cores awake, and once as they are, when it gathers on one core who talk to each other.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from harness.proxy.client import Toxiproxy  # noqa: E402

Address = tuple[str, int]
MIB = 1 << 20
STREAM_BYTES, STREAM_ROUNDS = 256 * MIB, 9
TRIPS, TRIP_ROUNDS = 400, 15
CONNECTS, CONNECT_ROUNDS = 60, 15
LATENCY_MS, LATENCY_TRIPS, LATENCY_ROUNDS = 20, 20, 7
RATES_KB = (500, 2_000, 20_000)
MANY = 1_000
AWAKE_CORES_MAX = 16
# Figures of the Go server on a machine like the one this was written on, and what is asked.
GO_AND_ASKED = {
    "throughput": "Go 0.23-0.28, asked >= 0.35",
    "trip": "Go 65 us, asked <= 60",
    "connect": "Go 2.8, asked <= 2.5",
    "latency": "asked <= 0.5",
    "bandwidth": "Go 0.4 %, asked <= 0.5",
}


def spin(core: int) -> None:
    """Keep a core awake, at idle priority, as long as the benchmark lives."""
    parent = os.getppid()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    else:
        os.nice(19)
    print("spinning", flush=True)
    while os.getppid() == parent:
        for _ in range(100_000):
            pass


def serve() -> None:
    """Be the server: the first byte says what for. Prints its port; ends with its input."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    buffer = memoryview(bytearray(MIB))
    while True:
        for key, _ in selector.select():
            one = key.fileobj
            if one is sys.stdin:
                return
            if one is listener:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(client, selectors.EVENT_READ)
                continue
            assert isinstance(one, socket.socket)
            try:
                count = one.recv_into(buffer)
            except OSError:
                count = 0
            if not count:
                selector.unregister(one)
                one.close()
            elif buffer[:1] == b"S":
                left = int(bytes(buffer[1:count]))
                while left:
                    left -= one.send(buffer[: min(left, len(buffer))])
            else:
                if buffer[:1] == b"D":
                    wait_until(time.perf_counter() + int(bytes(buffer[1:count])) / 1000)
                one.sendall(buffer[:count])


def wait_until(due: float) -> None:
    """Sleep, but not into the last two milliseconds: how late that ends is the machine's doing."""
    time.sleep(max(0.0, due - time.perf_counter() - 0.002))
    while time.perf_counter() < due:
        pass


def connect(address: Address) -> socket.socket:
    one = socket.create_connection(address, timeout=30)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def stream(address: Address, size: int) -> float:
    """Return bytes per second of one stream from server to client."""
    buffer = memoryview(bytearray(MIB))
    with connect(address) as one:
        began = time.perf_counter()
        one.sendall(b"S%d" % size)
        left = size
        while left:
            left -= one.recv_into(buffer)
        return size / (time.perf_counter() - began)


def trip_s(address: Address, trips: int, data: bytes = b"x") -> float:
    """Return the median round trip of some bytes (one) on an open connection."""
    with connect(address) as one:
        times = []
        for _ in range(trips):
            began = time.perf_counter()
            one.sendall(data)
            one.recv(16)
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def connect_s(address: Address, connects: int) -> float:
    """Return the median time of a connect, a byte, and its answer."""
    times = []
    for _ in range(connects):
        began = time.perf_counter()
        with connect(address) as one:
            one.sendall(b"x")
            one.recv(16)
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def in_turn(
    measure: Callable[[Address], float], direct: Address, proxied: Address, rounds: int
) -> list[tuple[float, float]]:
    """Measure direct and proxied in turn, after one round for warming up."""
    pairs = [(measure(direct), measure(proxied)) for _ in range(rounds + 1)]
    return pairs[1:]


def many(address: Address, count: int) -> tuple[int, float]:
    """Hold many connections open at once; return how many answered, and the seconds taken."""
    began = time.perf_counter()
    ones = []
    answered = 0
    try:
        ones = [connect(address) for _ in range(count)]
        for number, one in enumerate(ones):
            one.sendall(b"x%06d" % number)
        for number, one in enumerate(ones):
            answered += one.recv(16) == b"x%06d" % number
    finally:
        for one in ones:
            one.close()
    return answered, time.perf_counter() - began


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[tuple[str, int]]:
    """Run a process of ours; yields the first line it prints, and its id."""
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as one:
        assert one.stdout is not None
        try:
            yield one.stdout.readline(), one.pid
        finally:
            one.terminate()


def raise_limit() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))


@contextlib.contextmanager
def awake(most: int) -> Iterator[int]:
    """Keep so many cores awake at most; yields how many."""
    cores = sorted(available())[:most]
    with contextlib.ExitStack() as stack:
        for core in cores:
            stack.enter_context(process(__file__, "--spin", str(core)))
        yield len(cores)


def available() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


@contextlib.contextmanager
def on_one_core(pids: Sequence[int]) -> Iterator[None]:
    """Have these processes and this one share one core."""
    before = available()
    for pid in (0, *pids):
        os.sched_setaffinity(pid, {min(before)})
    try:
        yield
    finally:
        for pid in (0, *pids):
            os.sched_setaffinity(pid, before)


def trips_and_connects(direct: Address, proxied: Address, where: str) -> None:
    pairs = in_turn(lambda a: trip_s(a, TRIPS), direct, proxied, TRIP_ROUNDS)
    added_us = statistics.median(b - a for a, b in pairs) * 1e6
    base_us = statistics.median(a for a, _ in pairs) * 1e6
    print(
        f"round trip, {where}: +{added_us:.0f} us on {base_us:.0f} us direct "
        f"({GO_AND_ASKED['trip']})"
    )
    pairs = in_turn(lambda a: connect_s(a, CONNECTS), direct, proxied, CONNECT_ROUNDS)
    ratio = statistics.median(b / a for a, b in pairs)
    base_us = statistics.median(a for a, _ in pairs) * 1e6
    print(
        f"connect and first byte, {where}: {ratio:.2f} of direct ({base_us:.0f} us; "
        f"{GO_AND_ASKED['connect']})"
    )


def latency_off_ms(
    client: Toxiproxy, name: str, direct: Address, proxied: Address
) -> tuple[float, float]:
    """Return by how much a delayed trip is off an undelayed one and the delay.

    First where the server itself waits: who has slept so long is woken late and slow, whoever
    made him wait. Then where the toxic does.
    """
    waits = b"D%d" % LATENCY_MS
    rounds: list[tuple[float, float]] = []
    for _ in range(LATENCY_ROUNDS):
        by_server = trip_s(direct, LATENCY_TRIPS, waits) - trip_s(direct, TRIPS)
        undelayed = trip_s(proxied, TRIPS)
        with client.toxic(name, "latency", attributes={"latency": LATENCY_MS}):
            by_toxic = trip_s(proxied, LATENCY_TRIPS) - undelayed
        rounds.append((by_server, by_toxic))
    first, second = (statistics.median(one) * 1000 for one in zip(*rounds, strict=True))
    return first - LATENCY_MS, second - LATENCY_MS


def report(client: Toxiproxy, direct: Address, pids: Sequence[int], most: int) -> None:
    """Measure and print.

    Args:
        pids: the server's and the proxy's process, if the latter is ours.
        most: cores to keep awake.
    """
    name = "dagstorm-bench"
    proxied = client.create(name, f"{direct[0]}:{direct[1]}").address
    try:
        trips_and_connects(direct, proxied, "as scheduled")
        with awake(most) as cores:
            print(f"{cores} of {len(available())} cores kept awake by processes of idle priority:")
            report_awake(client, name, (direct, proxied), pids)
    finally:
        client.delete(name)


def report_awake(
    client: Toxiproxy, name: str, addresses: tuple[Address, Address], pids: Sequence[int]
) -> None:
    direct, proxied = addresses
    pairs = in_turn(lambda a: stream(a, STREAM_BYTES), direct, proxied, STREAM_ROUNDS)
    ratio = statistics.median(b / a for a, b in pairs)
    gb = statistics.median(a for a, _ in pairs) / 1e9
    print(f"single stream: {ratio:.2f} of direct ({gb:.1f} GB/s; {GO_AND_ASKED['throughput']})")

    if len(pids) == 2 and hasattr(os, "sched_setaffinity"):
        with on_one_core(pids):
            trips_and_connects(direct, proxied, "on one core")
    trips_and_connects(direct, proxied, "as scheduled")

    off_ms = latency_off_ms(client, name, direct, proxied)
    print(
        f"latency {LATENCY_MS} ms: off by {off_ms[1]:+.2f} ms at the median "
        f"({GO_AND_ASKED['latency']}); without a proxy, a server that waits so long to the "
        f"microsecond: {off_ms[0]:+.2f} ms"
    )

    for rate in RATES_KB:
        with client.toxic(name, "bandwidth", attributes={"rate": rate}):
            errors = []
            for _ in range(3):
                errors.append(stream(proxied, rate * 1000) / (rate * 1000) - 1)
        print(
            f"bandwidth {rate} KB/s: off by {statistics.median(errors) * 100:+.2f} % "
            f"over one second ({GO_AND_ASKED['bandwidth']})"
        )

    answered, took_s = many(proxied, MANY)
    direct_s = many(direct, MANY)[1]
    print(
        f"{MANY} concurrent connections: {answered} answered rightly, in {took_s:.2f} s "
        f"(direct {direct_s:.2f} s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--url", help="measure this server")
    parser.add_argument("--asleep", action="store_true", help="let idle cores sleep")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--spin", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    raise_limit()
    if options.spin is not None:
        spin(options.spin)
        return
    if options.serve:
        serve()
        return
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    most = 0 if options.asleep else AWAKE_CORES_MAX
    with process(__file__, "--serve") as (port, server):
        print(f"load {load:.1f} before")
        direct = ("127.0.0.1", int(port))
        if options.url:
            report(Toxiproxy(options.url, timeout_s=30), direct, [server], most)
            return
        with process("-m", "harness.cli", "proxy", "--port", "0") as (line, proxy):
            client = Toxiproxy(line.split()[2], timeout_s=30, guarded=False)
            report(client, direct, [server, proxy], most)


if __name__ == "__main__":
    main()
