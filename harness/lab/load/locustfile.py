"""The users: each is a tenant who asks for runs, and looks for others' markers in each answer.

Loaded by Locust in a process of its own (gevent patches it), never by dagstorm. What a
user sent and saw goes into a file a process, one line a request, which dagstorm judges.
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

HOW = json.loads(Path(os.environ["DAGSTORM_LOAD"]).read_text("utf-8"))
# What the judge plants. In hexadecimal digits too: an engine may quote what it does not print.
PLANTED = re.compile(r"dg[mt][0-9a-f]{16}")
PLANTED_HEX = re.compile(r"6467(?:6d|74)(?:3[0-9]|6[1-6]){16}", re.IGNORECASE)
TEXT_MAX = 200
FOREIGN_MAX = 20

_files: dict[int, IO[str]] = {}


def note(record: dict[str, Any]) -> None:
    """Add a line to this process's own file; processes are forked after this was loaded."""
    file = _files.get(os.getpid())
    if file is None:
        path = Path(HOW["records"]) / f"{os.getpid()}.jsonl"
        file = _files[os.getpid()] = path.open("a", encoding="utf-8", buffering=1)
    file.write(json.dumps(record) + "\n")


def planted(text: str) -> set[str]:
    """Return every marker and tenant that a text holds, also in hexadecimal digits."""
    found = set(PLANTED.findall(text))
    found |= {bytes.fromhex(one).decode() for one in PLANTED_HEX.findall(text)}
    return found


def wait(user: Any) -> float:
    """Return how long a user thinks, drawn from its own stream."""
    low, high = HOW["think_s"]
    return float(low + (high - low) * secrets.randbelow(1_000) / 1_000)


class Tenant(FastHttpUser):
    """One user, one tenant."""

    wait_time = constant_throughput(HOW["rate_per_user"]) if HOW["rate_per_user"] else wait
    max_retries = 0  # a request that is sent again by the client would look like a doubled one
    connection_timeout = HOW["timeout_s"]
    network_timeout = HOW["timeout_s"]

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
