"""The users: each is a tenant who asks for runs, and looks for others' markers in each answer.

Loaded by Locust in a process of its own (gevent patches it), never by dagstorm. What a
user sent and saw goes into a file a process, one line a request, which dagstorm judges.

A worker on another machine has no such file: it is told what to do by the master's command line,
and sends its records there, some each second and the rest when its users have stopped, before
it says that they have. The master writes them as if they were its own.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from pathlib import Path
from typing import IO, Any

from locust import FastHttpUser, constant_throughput, events, task
from locust.runners import MasterRunner, WorkerRunner

HOW: dict[str, Any] = json.loads(Path(os.environ["DAGSTORM_LOAD"]).read_text("utf-8"))
# What the judge plants. In hexadecimal digits too: an engine may quote what it does not print.
PLANTED = re.compile(r"dg[mt][0-9a-f]{16}")
PLANTED_HEX = re.compile(r"6467(?:6d|74)(?:3[0-9]|6[1-6]){16}", re.IGNORECASE)
TEXT_MAX = 200
FOREIGN_MAX = 20
NAME_MAX = 100
TIMEOUT_S = float(HOW["timeout_s"])
SENT_EVERY_S = 1.0
SENT_AT_ONCE = 500
RECORDS = "dagstorm-records"

_files: dict[Any, IO[str]] = {}
_unsent: list[dict[str, Any]] = []
_noted = {"records": 0}
_workers: dict[str, dict[str, Any]] = {}


def note(record: dict[str, Any]) -> None:
    """Keep a record; processes are forked after this was loaded."""
    if HOW.get("remote"):
        _noted["records"] += 1
        _unsent.append(record)
        return
    file = _files.get(os.getpid())
    if file is None:
        path = Path(HOW["records"]) / f"{os.getpid()}.jsonl"
        file = _files[os.getpid()] = path.open("a", encoding="utf-8", buffering=1)
    file.write(json.dumps(record) + "\n")


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def words(parser: Any) -> None:
    """Let the master hand on how users behave; Locust gives its own words to workers."""
    parser.add_argument("--dagstorm-how", default="", include_in_web_ui=False)


@events.init.add_listener  # type: ignore[untyped-decorator]
def connect(environment: Any, **_more: Any) -> None:
    if isinstance(environment.runner, MasterRunner):
        environment.runner.register_message(RECORDS, taken)
    elif isinstance(environment.runner, WorkerRunner) and HOW.get("remote"):
        environment.runner.greenlet.spawn(send_now_and_then, environment.runner)


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def told(environment: Any, **_more: Any) -> None:
    how = getattr(environment.parsed_options, "dagstorm_how", "")
    if HOW.get("remote") and how:
        HOW.update(json.loads(how))


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def stopped(environment: Any, **_more: Any) -> None:
    """Send what is left: the users have stopped, and the master does not know of it yet."""
    if isinstance(environment.runner, WorkerRunner) and HOW.get("remote"):
        send(environment.runner)


def send_now_and_then(runner: Any) -> None:
    while True:
        time.sleep(SENT_EVERY_S)  # Locust has gevent patch it
        send(runner)


def send(runner: Any) -> None:
    """Send all records there are, in parts; each says how many there were so far."""
    while True:
        part = _unsent[:SENT_AT_ONCE]
        del _unsent[: len(part)]
        runner.send_message(
            RECORDS, {"records": part, "noted": _noted["records"], "now": time.time()}
        )
        if not _unsent:
            return


def taken(environment: Any, msg: Any, **_more: Any) -> None:
    """Write what a worker sent, and keep account of it."""
    del environment
    name = re.sub(r"[^\w.-]", "_", str(msg.node_id))[-NAME_MAX:]
    file = _files.get(name)
    if file is None:
        path = Path(HOW["records"]) / f"{name}.jsonl"
        file = _files[name] = path.open("a", encoding="utf-8", buffering=1)
        _workers[name] = {"name": name, "records": 0, "noted": 0, "behind_s": None}
    one = _workers[name]
    for record in msg.data["records"]:
        file.write(json.dumps(record) + "\n")
    one["records"] += len(msg.data["records"])
    one["noted"] = msg.data["noted"]
    # A message takes its time, and never less than none: the least is nearest to what clocks
    # differ by.
    behind_s = time.time() - msg.data["now"]
    one["behind_s"] = behind_s if one["behind_s"] is None else min(one["behind_s"], behind_s)
    draft = Path(HOW["workers"]).with_suffix(".part")
    draft.write_text(json.dumps(list(_workers.values()), indent=1), "utf-8")
    draft.replace(HOW["workers"])


def planted(text: str) -> set[str]:
    """Return every marker and tenant that a text holds, also in hexadecimal digits."""
    found = set(PLANTED.findall(text))
    found |= {bytes.fromhex(one).decode() for one in PLANTED_HEX.findall(text)}
    return found


def wait(user: Any) -> float:
    """Return how long a user waits: what is left of its share of the rate, or a time drawn."""
    if HOW["rate_per_user"]:
        if user.paced is None:
            user.paced = constant_throughput(HOW["rate_per_user"])
        return float(user.paced(user))
    low, high = HOW["think_s"]
    return float(low + (high - low) * secrets.randbelow(1_000) / 1_000)


class Tenant(FastHttpUser):
    """One user, one tenant."""

    wait_time = wait
    paced: Any = None
    max_retries = 0  # a request that is sent again by the client would look like a doubled one
    # Of all users in dagstorm's hands alike: a worker is not told before they are made.
    connection_timeout = TIMEOUT_S
    network_timeout = TIMEOUT_S

    def on_start(self) -> None:
        self.tenant = "dgt" + secrets.token_hex(8)

    @task
    def ask(self) -> None:
        program = HOW["programs"][0]
        if len(HOW["programs"]) > 1 and secrets.randbelow(100) < HOW["failing_percent"]:
            program = HOW["programs"][1]
        stream = secrets.randbelow(100) < HOW["stream_percent"]
        marker = "dgm" + secrets.token_hex(8)
        record: dict[str, Any] = {
            "marker": marker,
            "tenant": self.tenant,
            "program": program,
            "stream": stream,
            "at": time.time(),
            "status": None,
            "error": "stopped",  # unless something else is heard of it
        }
        headers = {
            "X-Tenant": self.tenant,
            "X-Correlation-Id": marker,
            "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
            # One connection a request: what a fault does to a connection is then one request's.
            "Connection": "close",
        }
        began_s = time.perf_counter()
        try:
            with self.client.post(
                "/runs/stream" if stream else "/runs",
                json={"program": program, "inputs": {"marker": marker}},
                headers=headers,
                name=f"{program}{' (stream)' if stream else ''}",
                catch_response=True,
            ) as response:
                record["took_s"] = round(time.perf_counter() - began_s, 6)
                self.read(response, record)
        finally:
            note(record)

    def read(self, response: Any, record: dict[str, Any]) -> None:
        """Take down what an answer says, as far as there is one."""
        try:
            # Not `response.text`, which guesses the encoding of each answer, and slowly.
            text = (response.content or b"").decode("utf-8", "replace")
            error = getattr(response, "error", None)
        except Exception as exc:  # cut in the middle: what was read of it is gone
            text, error = "", exc
        foreign = planted(text) - {record["marker"], record["tenant"]}
        record["status"] = response.status_code
        record["foreign"] = sorted(foreign)[:FOREIGN_MAX]
        if error is not None:
            record["error"], record["error_text"] = type(error).__name__, str(error)[:TEXT_MAX]
            response.failure(record["error"])
            return
        record["error"] = ""
        if record["status"] != 200:
            response.failure(f"status {record['status']}")
            return
        try:
            answer = json.loads(text.rstrip("\n").rsplit("\n", 1)[-1])
            answer = answer["answer"] if record["stream"] else answer
            outputs = answer["outputs"]
        except (ValueError, KeyError, TypeError):
            record["error"] = "no whole answer"
            response.failure(record["error"])
            return
        record["run"] = answer["run"]
        record["run_status"] = answer["status"]
        record["own"] = record["marker"] in json.dumps(outputs)
        if foreign:
            response.failure("another tenant's marker in the answer")
        else:
            response.success()


def close(**_how: Any) -> None:
    for file in _files.values():
        file.close()


events.quitting.add_listener(close)  # type: ignore[no-untyped-call]
