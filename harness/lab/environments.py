"""Environments of engines: one virtual environment for each release, made once and kept.

An environment is built beside its place and renamed into it, so that a half-made one is
never used, and two dagstorms at once cannot clash. Its dependencies are those that a user
would have got on the day of the release, where the index says which those were: a
newer dependency could break, or mend, an engine that never saw it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from harness.kernel.errors import EnvironmentFault, InputError

__all__ = ["Environment", "cache_folder", "ensure", "installed", "versions"]

ROUNDS_MAX = 4
INSTALL_LIMIT_S = 300
INDEX_LIMIT_S = 30
LOCK_PATIENCE_S = 300

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Environment:
    """A ready environment: its interpreter, and what was recorded when it was made."""

    python: Path
    record: Mapping[str, Any]


def cache_folder() -> Path:
    """Return where dagstorm keeps environments: $DAGSTORM_HOME, or the user's cache folder."""
    home = os.environ.get("DAGSTORM_HOME")
    if home:
        return Path(home)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "dagstorm"


def _place(distribution: str, version: str) -> Path:
    minor = f"py{sys.version_info[0]}.{sys.version_info[1]}"
    return cache_folder() / "engines" / f"{distribution}-{version}-{minor}"


def installed(distribution: str) -> list[str]:
    """Return the versions that can be used without an index, oldest first."""
    minor = f"-py{sys.version_info[0]}.{sys.version_info[1]}"
    root = cache_folder() / "engines"
    names = [
        p.name for p in root.glob(f"{distribution}-*{minor}") if (p / "dagstorm.json").exists()
    ]
    found = [n.removeprefix(f"{distribution}-").removesuffix(minor) for n in names]
    return sorted(found, key=_order)


def _order(version: str) -> Version:
    try:
        return Version(version)
    except InvalidVersion:
        return Version("0")


def ensure(distribution: str, version: str, say: Say) -> Environment:
    """Return the environment of one release, made now if there is none yet.

    Raises:
        InputError: if the index has no such release.
        EnvironmentFault: if it cannot be made: no index, no disk.
    """
    place = _place(distribution, version)
    found = _ready(place)
    if found is not None:
        return found
    released = versions(distribution)
    if version not in released:
        raise InputError(
            f"{distribution} has no version {version!r}; released: {', '.join(released)}"
        )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _Lock(place.parent / f"{place.name}.lock"):
            found = _ready(place)
            if found is not None:
                return found
            say(f"installing {distribution} {version} into an environment of its own")
            return _make(place, distribution, version)
    except OSError as exc:
        raise EnvironmentFault(
            f"cannot make an environment in {place.parent}: {exc}; set DAGSTORM_HOME to a "
            f"folder that can be written"
        ) from exc


def _ready(place: Path) -> Environment | None:
    try:
        record = json.loads((place / "dagstorm.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    python = place / "bin" / "python"
    return Environment(python, record) if python.exists() else None


def _make(place: Path, distribution: str, version: str) -> Environment:
    building = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=place.parent))
    try:
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", str(building)],
            check=True,
            capture_output=True,
            timeout=INSTALL_LIMIT_S,
        )
        python = building / "bin" / "python"
        date = _release_date(distribution, version)
        limits: dict[str, str] = {}
        why = "the index does not say when the release was made"
        if date is not None:
            limits, why = _as_of(python, distribution, version, date)
        failure = _pip(python, [f"{distribution}=={version}"], limits)
        if failure and limits:
            why = "the dependencies of that day cannot be installed here"
            limits = {}
            failure = _pip(python, [f"{distribution}=={version}"], limits)
        if failure:
            raise EnvironmentFault(f"pip cannot install {distribution} {version}: {failure}")
        record = {
            "distribution": distribution,
            "version": version,
            "resolved_as_of": date[:10] if date and limits else "today",
            "resolved_why": "" if limits else why,
            "packages": _frozen(python),
            "python": sys.version.split()[0],
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        (building / "dagstorm.json").write_text(json.dumps(record, indent=1), "utf-8")
        if place.exists():
            shutil.rmtree(place)
        building.rename(place)
    except subprocess.SubprocessError as exc:
        raise EnvironmentFault(f"cannot make an environment for {distribution}: {exc}") from exc
    finally:
        shutil.rmtree(building, ignore_errors=True)
    made = _ready(place)
    if made is None:
        raise EnvironmentFault(f"the environment {place} is not usable; remove it and try again")
    return made


def _pip_command(python: Path, *arguments: str) -> list[str]:
    base = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    return [*base, *arguments]


def _pip(python: Path, wanted: list[str], limits: Mapping[str, str]) -> str:
    """Install; return "" or pip's last line of complaint."""
    with _constraints(limits) as file:
        done = subprocess.run(
            _pip_command(python, "install", "--quiet", "--no-input", *wanted, *file.arguments),
            capture_output=True,
            text=True,
            timeout=INSTALL_LIMIT_S,
            check=False,
        )
    return "" if done.returncode == 0 else _last_error(done.stderr)


class _constraints:
    """A constraints file for the time of a `with` block."""

    def __init__(self, limits: Mapping[str, str]) -> None:
        self.limits = limits
        self.path = ""

    @property
    def arguments(self) -> list[str]:
        return ["--constraint", self.path] if self.limits else []

    def __enter__(self) -> _constraints:
        handle, self.path = tempfile.mkstemp(prefix="dagstorm-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(f"{name}<={version}\n" for name, version in self.limits.items())
        return self

    def __exit__(self, *_exc: object) -> None:
        os.unlink(self.path)


def _last_error(text: str) -> str:
    lines = [x for x in text.splitlines() if x.startswith("ERROR")] or text.splitlines() or ["?"]
    return re.sub(r"https?://\S+", "the index", lines[-1])[:300]


def _frozen(python: Path) -> list[str]:
    done = subprocess.run(
        _pip_command(python, "freeze"), capture_output=True, text=True, timeout=60, check=True
    )
    return sorted(done.stdout.split())


def _as_of(python: Path, distribution: str, version: str, date: str) -> tuple[dict[str, str], str]:
    """Find upper bounds for all dependencies: the newest release of each up to `date`.

    Resolves, bounds what was resolved, and resolves again until nothing changes; an older
    dependency may need others. Returns ({}, why) where the index does not say enough.
    """
    limits: dict[str, str] = {}
    for _ in range(ROUNDS_MAX):
        with _constraints(limits) as file:
            done = subprocess.run(
                _pip_command(
                    python,
                    *("install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"),
                    *(f"{distribution}=={version}", *file.arguments),
                ),
                capture_output=True,
                text=True,
                timeout=INSTALL_LIMIT_S,
                check=False,
            )
        if done.returncode != 0:
            return {}, "the dependencies of that day cannot be resolved"
        names = [item["metadata"]["name"] for item in json.loads(done.stdout)["install"]]
        fresh = {n: n for n in names if n != distribution and n not in limits}
        if not fresh:
            return limits, ""
        for name in fresh:
            newest = _newest_until(name, date)
            if newest is None:
                return {}, "the index does not say when the dependencies were released"
            limits[name] = newest
    return limits, ""


def _index() -> str:
    """Return the base address of the index that pip is set up to use."""
    configured = os.environ.get("PIP_INDEX_URL")
    if not configured:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        configured = done.stdout.strip() if done.returncode == 0 else ""
    base = (configured or "https://pypi.org/simple").rstrip("/")
    return base.removesuffix("/simple")


_described: dict[str, Any] = {}


def _describe(name: str) -> Mapping[str, Any] | None:
    """Return what the index's JSON interface says of a distribution, or None."""
    if name not in _described:
        address = f"{_index()}/pypi/{name}/json"
        try:
            with urllib.request.urlopen(address, timeout=INDEX_LIMIT_S) as reply:
                _described[name] = json.load(reply)
        except (OSError, ValueError):
            _described[name] = None
    found: Mapping[str, Any] | None = _described[name]
    return found


def _release_date(distribution: str, version: str) -> str | None:
    described = _describe(distribution) or {}
    stamps = [f.get("upload_time_iso_8601") for f in described.get("releases", {}).get(version, ())]
    return max((s for s in stamps if s), default=None)


def _newest_until(name: str, date: str) -> str | None:
    described = _describe(name)
    if described is None:
        return None
    here = ".".join(str(n) for n in sys.version_info[:3])
    fitting: list[Version] = []
    for text, files in described.get("releases", {}).items():
        try:
            version = Version(text)
        except InvalidVersion:
            continue
        usable = [f for f in files if not f.get("yanked") and _fits(f.get("requires_python"), here)]
        stamps = [f.get("upload_time_iso_8601") for f in usable]
        if version.is_prerelease or not stamps or not all(stamps):
            continue
        if min(stamps) <= date:
            fitting.append(version)
    return str(max(fitting)) if fitting else None


def _fits(requires: str | None, here: str) -> bool:
    try:
        return not requires or here in SpecifierSet(requires)
    except InvalidSpecifier:
        return False


def versions(distribution: str) -> list[str]:
    """Return all released versions, oldest first.

    Raises:
        EnvironmentFault: if the index cannot be reached.
    """
    described = _describe(distribution)
    if described is not None and described.get("releases"):
        return sorted((v for v, files in described["releases"].items() if files), key=_order)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check"),
            *("--retries", "1", "--timeout", "10", "index", "versions", distribution),
        ],
        capture_output=True,
        text=True,
        timeout=INSTALL_LIMIT_S,
        check=False,
    )
    match = re.search(r"Available versions: (.+)", done.stdout)
    if match is None:
        ready = ", ".join(installed(distribution)) or "none"
        raise EnvironmentFault(
            f"the package index cannot be reached for {distribution}; check the network or pip's "
            f"index-url, or name an installed version by @ (installed: {ready})"
        )
    return sorted((v.strip() for v in match.group(1).split(",")), key=_order)


class _Lock:
    """A lock file that is left behind by nobody: its owner's process id is checked."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        until = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                if self._abandoned():
                    self.path.unlink(missing_ok=True)
                elif time.monotonic() > until:
                    raise EnvironmentFault(
                        f"another dagstorm holds {self.path}; wait for it, or remove the file"
                    ) from None
                else:
                    time.sleep(0.2)
                continue
            with os.fdopen(handle, "w") as file:
                file.write(str(os.getpid()))
            return

    def _abandoned(self) -> bool:
        try:
            owner = int(self.path.read_text() or "0")
        except (OSError, ValueError):
            return False
        if owner <= 0:
            return False
        try:
            os.kill(owner, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def __exit__(self, *_exc: object) -> None:
        self.path.unlink(missing_ok=True)
