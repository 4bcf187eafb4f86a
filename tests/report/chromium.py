"""A real headless Chromium, spoken to over two pipes: no port, no driver, no package.

The DevTools protocol's messages are JSON, each ended by a zero byte. Everything has a deadline,
because a browser may hang like anything else.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Chromium", "Page", "find_chromium"]

NAMES = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome", "chrome")
DEADLINE_S = 60.0
LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)


def find_chromium() -> str | None:
    """Return the browser's command, or None if this machine has none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """A page that is open, and everything it did since: console, faults, requests."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self.browser = browser
        self.session = session
        self.console: list[str] = []
        self.requests: list[str] = []
        self.loaded = False

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.ask(method, params, self.session)

    def open(self, url: str) -> None:
        self.loaded = False
        self.ask("Page.navigate", url=url)
        self.browser.until(lambda: self.loaded)

    def run(self, expression: str) -> Any:
        """Evaluate a JavaScript expression in the page and return its value."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    def take(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Runtime.consoleAPICalled":
            self.console.append(f"{params['type']}: {params['args']}")
        elif method == "Runtime.exceptionThrown":
            self.console.append(f"exception: {params['exceptionDetails']}")
        elif method == "Log.entryAdded":
            self.console.append(f"log: {params['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])


class Chromium:
    """The browser's process; `close` ends it and all of its children."""

    def __init__(self, command: str, profile: Path) -> None:
        ours_in, theirs_out = _pipe()
        theirs_in, ours_out = _pipe()
        flags = [
            "--headless",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
            "about:blank",
        ]
        if os.geteuid() == 0:  # Chromium's sandbox refuses the superuser
            flags.insert(0, "--no-sandbox")
        # It reads commands from descriptor 3 and writes answers to descriptor 4.
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out), command, *flags],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.incoming, self.outgoing = ours_in, ours_out
        self.buffer = b""
        self.number = 0
        self.answers: dict[int, dict[str, Any]] = {}
        self.pages: dict[str, Page] = {}

    def new_page(self) -> Page:
        target = self.ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = self.pages[session["sessionId"]] = Page(self, session["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.ask(f"{domain}.enable")
        return page

    def ask(self, method: str, params: dict[str, Any], session: str = "") -> dict[str, Any]:
        self.number += 1
        number = self.number
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.outgoing, json.dumps(message).encode() + b"\0")
        self.until(lambda: number in self.answers)
        answer = self.answers.pop(number)
        assert "error" not in answer, f"{method}: {answer}"
        result: dict[str, Any] = answer["result"]
        return result

    def until(self, done: Any) -> None:
        """Take in what the browser says until `done()`; fail when the deadline is over."""
        deadline = time.monotonic() + DEADLINE_S
        while not done():
            left = deadline - time.monotonic()
            assert left > 0, "the browser did not answer in time"
            ready, _, _ = select.select([self.incoming], [], [], left)
            for message in self._messages() if ready else ():
                if "id" in message:
                    self.answers[message["id"]] = message
                elif message.get("sessionId") in self.pages:
                    self.pages[message["sessionId"]].take(message["method"], message["params"])

    def _messages(self) -> Iterator[dict[str, Any]]:
        chunk = os.read(self.incoming, 1 << 20)
        assert chunk, "the browser has gone"
        self.buffer += chunk
        *whole, self.buffer = self.buffer.split(b"\0")
        yield from (json.loads(one) for one in whole)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        os.close(self.incoming)
        os.close(self.outgoing)


def _pipe() -> tuple[int, int]:
    """Return a pipe whose ends are far from the descriptors 3 and 4, which the browser uses."""
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20))
        os.close(end)
    return ends[0], ends[1]
