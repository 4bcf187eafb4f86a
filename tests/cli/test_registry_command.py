"""The registry as a user meets it: runs, ids, gates, decisions, damage, two runs at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.findings.registry import Registry

ROOT = Path(__file__).resolve().parents[2]

# The reference engine, or one of the broken ones, under a name of its own.
MINE = """
import os
from harness.adapters.reference import Adapter as Reference

class Adapter(Reference):
    def __init__(self):
        super().__init__(os.environ.get("MINE") or "reference")
"""
RUN = ("run", "--engine", "mine.py", "--profile", "smoke", "--no-confirm", "--quiet")
ORDER = ("--scenario", "cleanup/registry_order")
FIFO = "broken:cleanup-fifo"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(MINE, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTORM_REGISTRY", raising=False)
    monkeypatch.delenv("MINE", raising=False)
    return tmp_path


def dagstorm(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def changes(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "changes.json").read_text("utf-8"))
    return found


def test_a_broken_engine_switched_on_and_off(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    for i, engine in enumerate(("", FIFO, FIFO, "", FIFO)):
        monkeypatch.setenv("MINE", engine)
        code, out, _ = dagstorm(capsys, *RUN, *ORDER, "--fail-on", "new", "--out", f"r{i}")
        page = changes(f"r{i}")
        gone = [r["id"] for r in page["resolved"]]
        told.append((code, page["new"], page["unchanged"], page["regressed"], gone))
        assert page["against"] == "registry"
        lines = [x for x in out.splitlines() if x.startswith("BUG-")]
        assert [x.split()[-1] for x in lines if "resolved" not in x] == (
            ["new"]
            if page["new"]
            else ["regressed"]
            if page["regressed"]
            else ["(simulated_only)"]
            if page["unchanged"]
            else []
        )
    assert told == [
        (0, [], [], [], []),
        (1, ["BUG-001"], [], [], []),
        (0, [], ["BUG-001"], [], []),
        (0, [], [], [], ["BUG-001"]),
        (1, [], [], ["BUG-001"], []),
    ]
    (finding,) = [f for f in found("r4") if f["kind"] == "bug"]
    runs = json.loads((place / "r4" / "history.json").read_text("utf-8"))["runs"]
    assert (finding["status"], finding["occurrences"]) == ("regressed", 3)
    assert finding["first_seen"] == runs[1]["run_id"]
    assert finding["last_seen"] == runs[-1]["run_id"]
    assert [(r["new"], r["resolved"], r["regressed"]) for r in runs] == [
        (0, 0, 0),
        (1, 0, 0),
        (0, 0, 0),
        (0, 1, 0),
        (0, 0, 1),
    ]
    assert runs[1]["engines"] == [{"name": "mine", "version": "", "verdicts": {"fail": 1}}]
    assert runs[1]["bugs"]["medium"] == 1


def found(folder: str) -> list[dict[str, Any]]:
    page = json.loads(Path(folder, "findings.json").read_text("utf-8"))
    entries: list[dict[str, Any]] = page["findings"]
    return entries


def test_what_is_new_stands_first_in_every_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = (*ORDER, "--scenario", "cleanup/ok")
    monkeypatch.setenv("MINE", "broken:cleanup-twice")
    code, _, err = dagstorm(capsys, *RUN, *both, "--out", "r0")
    assert (code, err) == (0, "")
    before = [f["id"] for f in found("r0") if f["kind"] == "bug"]
    code, out, _ = dagstorm(
        capsys,
        *("run", "--engine", "mine.py", "--engine", FIFO, "--profile", "smoke", "--no-confirm"),
        *(*both, "--quiet", "--fail-on", "new", "--out", "r1"),
    )
    bugs = [f["id"] for f in found("r1") if f["kind"] == "bug"]
    page = changes("r1")
    assert code == 1
    assert page["new"]
    assert not set(page["new"]) & set(before)
    assert found("r1")[0]["id"] == bugs[0] == page["new"][0]
    assert next(x for x in out.splitlines() if x[:4] == "BUG-").startswith(bugs[0])
    # The one that was there before is graver, and stands below all the same.
    grave = {f["id"]: f["severity"] for f in found("r1")}
    assert (grave[bugs[0]], grave[bugs[-1]]) == ("medium", "high")


def test_two_runs_that_end_at_once(place: Path) -> None:
    words = (*RUN, "--scenario", "cleanup/registry_order", "--scenario", "cleanup/ok")
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "harness.cli", *words, "--engine", other, "--out", other[7:]],
            env={**os.environ, "MINE": FIFO, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for other in ("broken:cleanup-one-a-stage", "broken:cleanup-twice")
    ]
    for process in started:
        _, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
    known = Registry(place / "reports" / "registry.sqlite3").known()
    entries = [f for folder in ("cleanup-one-a-stage", "cleanup-twice") for f in found(folder)]
    assert {f["fingerprint"]: f["id"] for f in entries} == {m: k.id for m, k in known.items()}
    assert len({k.id for k in known.values()}) == len(known)
    shared = [k for k in known.values() if k.occurrences == 2]
    assert "mine" in {k.engine for k in shared}
    runs = Registry(place / "reports" / "registry.sqlite3").history()
    assert len({r["run_id"] for r in runs}) == 2


@pytest.mark.slow
def test_runs_killed_at_random_lose_nothing_that_they_reported(place: Path) -> None:
    rng = random.Random(4)
    file = place / "reports" / "registry.sqlite3"
    for i in range(4):
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.cli", *RUN, *ORDER, "--out", f"r{i}"],
            env={**os.environ, "MINE": FIFO, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wanted = rng.choice(("run.json", "units.jsonl", "findings.json", "changes.json"))
        deadline = time.monotonic() + 60
        while not (place / f"r{i}" / wanted).exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        Registry(file).begin(f"after-{i}", "")
        known = Registry(file).known()
        if (place / f"r{i}" / "findings.json").exists():
            assert {known[f["fingerprint"]].id for f in found(f"r{i}")} == {
                f["id"] for f in found(f"r{i}")
            }


def test_daily_replays_every_finding_of_the_registry_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", FIFO)
    assert dagstorm(capsys, *RUN, *ORDER, "--out", "r0")[0] == 0
    daily = ("run", "--engine", "mine.py", "--profile", "daily", "--scenario", "cleanup/ok")
    rest = ("--no-confirm", "--quiet", "--runs", "2", "--workers", "1")
    for i, (engine, verdict, code, gone) in enumerate(
        (
            (FIFO, "fail", 0, []),
            # Not gone: the scenario that showed it was not run, though its one run is replayed.
            ("", "pass", 0, []),
        )
    ):
        monkeypatch.setenv("MINE", engine)
        ended, _, _ = dagstorm(capsys, *daily, *rest, "--out", f"d{i}")
        first = json.loads(Path(f"d{i}", "units.jsonl").read_text("utf-8").split("\n")[0])
        assert (first["scenario"], first["verdict"]) == ("replay/BUG-001.1", verdict)
        assert (ended, [r["id"] for r in changes(f"d{i}")["resolved"]]) == (code, gone)
    assert [f["id"] for f in found("d0") if f["kind"] == "bug"] == ["BUG-001"]
    ledger = json.loads(dagstorm(capsys, "findings", "ledger", "--json")[1])
    assert [(x["id"], x["last_replay"]) for x in ledger] == [("BUG-001", "pass")]


def test_a_nightly_of_one_date_does_no_more_than_the_first_did(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.commands.run.work_of", lambda *_: "the same")
    words = (*RUN[:3], "--profile", "nightly", "--no-confirm", "--quiet", *ORDER, "--json")
    left = []
    for more in (
        ("--budget", "0s", "--out", "r0"),
        ("--out", "r1"),
        ("--seed", "1", "--out", "r2"),
    ):
        if more[0] == "--seed":
            monkeypatch.setattr("harness.commands.run.work_of", lambda *_: "another")
        left.append(json.loads(dagstorm(capsys, *words, *more)[1])["left_out"])
    assert left == [1, 1, 0]
    run = json.loads(Path("r1/run.json").read_text("utf-8"))
    assert run["seed"] == int(run["started_at"][:10].replace("-", ""))
    assert run["gate"]["fail_on"] == "new"


def test_a_baseline_is_held_against_in_place_of_the_registry(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", FIFO)
    none = ("--no-registry", "--fail-on", "new")
    assert dagstorm(capsys, *RUN, *ORDER, *none, "--out", "r0")[0] == 1
    assert changes("r0")["against"] is None
    for baseline in ("r0", "r0/findings.json"):
        out = f"out-{len(baseline)}"
        words = (*RUN, *ORDER, *none, "--baseline", baseline, "--out", out)
        assert dagstorm(capsys, *words)[0] == 0
        assert (changes(out)["unchanged"], changes(out)["against"]) == (["BUG-001"], baseline)
    assert not Path("reports").exists()


def test_decisions_keep_the_gate_green_until_they_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", FIFO)
    gate = ("--fail-on", "any", "--json")
    assert dagstorm(capsys, *RUN, *ORDER, *gate, "--out", "r0")[0] == 1
    words = ("findings", "waive", "BUG-001", "--reason", "known since May", "--until", "2999-01-01")
    assert dagstorm(capsys, *words)[0] == 0
    code, out, _ = dagstorm(capsys, *RUN, *ORDER, *gate, "--out", "r1")
    assert (code, json.loads(out)["gate"]["verdict"]) == (0, "pass")
    assert changes("r1")["waived"] == [
        {"id": "BUG-001", "reason": "known since May", "until": "2999-01-01"}
    ]
    assert dagstorm(capsys, "findings", "reopen", "BUG-001")[0] == 0
    assert dagstorm(capsys, *RUN, *ORDER, *gate, "--out", "r2")[0] == 1
    assert dagstorm(capsys, "findings", "wontfix", "BUG-001", "--reason", "by design")[0] == 0
    assert dagstorm(capsys, *RUN, *ORDER, *gate, "--out", "r3")[0] == 0
    assert found("r3")[0]["status"] == "wont_fix"
    assert dagstorm(capsys, "findings", "reopen", "BUG-001")[0] == 0
    assert dagstorm(capsys, "findings", "resolve", "BUG-001", "--reason", "patched")[0] == 0
    assert dagstorm(capsys, *RUN, *ORDER, "--fail-on", "new", "--out", "r4")[0] == 1
    assert changes("r4")["regressed"] == ["BUG-001"]
    shown = json.loads(dagstorm(capsys, "findings", "show", "bug-001", "--json")[1])
    assert [x["what"] for x in shown["log"]] == [
        "new",
        "waiver",
        "reopened by hand",
        "wont_fix",
        "reopened by hand",
        "resolved by hand",
        "regressed",
    ]


def test_the_registry_leaves_and_comes_back(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", FIFO)
    assert dagstorm(capsys, *RUN, *ORDER, "--out", "r0")[0] == 0
    for form in ("csv", "json", "md", "text"):
        words = ("findings", "export", "--format", form, "--out", f"all.{form}")
        assert dagstorm(capsys, *words)[0] == 0
    assert (place / "all.csv").read_text("utf-8").splitlines()[1].startswith("BUG-001,open,bug,")
    assert "| BUG-001 | open | medium | CLEAN-3 | mine |" in (place / "all.md").read_text("utf-8")
    assert json.loads((place / "all.json").read_text("utf-8"))["findings"][0]["id"] == "BUG-001"
    other = ("--registry", "other.sqlite3")
    for _ in range(2):
        assert dagstorm(capsys, "findings", "import", "all.text", *other)[0] == 0
    again = dagstorm(capsys, "findings", "export", "--format", "text", *other)[1]
    assert again == (place / "all.text").read_text("utf-8")
    code, out, _ = dagstorm(capsys, "findings", "list", *other)
    assert (code, out.split()[:3]) == (0, ["BUG-001", "open", "medium"])


def test_compare_says_fixed_only_where_it_was_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    none = "--no-registry"
    monkeypatch.setenv("MINE", FIFO)
    dagstorm(capsys, *RUN, *ORDER, none, "--out", "a")
    monkeypatch.setenv("MINE", "")
    dagstorm(capsys, *RUN, *ORDER, none, "--out", "fixed")
    dagstorm(capsys, *RUN, "--scenario", "cleanup/ok", none, "--out", "elsewhere")

    def counted(a: str, b: str, *more: str) -> tuple[int, dict[str, list[str]]]:
        code, out, _ = dagstorm(capsys, "compare", a, b, "--json", *more)
        page = json.loads(out)
        names = ("new", "regressed", "unchanged", "fixed", "not_run")
        bugs = {k: [x["id"] for x in page[k] if x["kind"] == "bug"] for k in names}
        return code, {k: v for k, v in bugs.items() if v}

    assert counted("a", "fixed", "--fail-on", "new") == (0, {"fixed": ["BUG-001"]})
    assert counted("a", "elsewhere") == (0, {"not_run": ["BUG-001"]})
    assert counted("a", "a", "--fail-on", "new") == (0, {"unchanged": ["BUG-001"]})
    assert counted("fixed", "a") == (0, {"new": ["BUG-001"]})
    assert counted("fixed", "a", "--fail-on", "new") == (1, {"new": ["BUG-001"]})
    _, out, _ = dagstorm(capsys, "compare", "a", "elsewhere")
    assert "not run in B: cleanup/registry_order" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("findings", "list"), "there is none; dagstorm run makes one"),
        (("findings", "list", "--registry", "mine.py"), "not a dagstorm registry"),
        ((*RUN, "--registry", "mine.py"), "not a dagstorm registry"),
        ((*RUN, "--registry", "mine.py", "--no-registry"), "give one of them"),
        ((*RUN, "--baseline", "nowhere"), "--baseline nowhere: cannot be read"),
        ((*RUN, "--baseline", "mine.py"), "neither a run directory"),
        ((*RUN, "--config", "nowhere.toml"), "--config nowhere.toml: cannot be read"),
        ((*RUN, "--day", "noday"), "no such day; known: mon"),
        (("compare", ".", "."), ".: not a run directory"),
        (("findings", "import", "nowhere"), "nowhere: cannot be read"),
        (("findings", "import", "mine.py"), "mine.py: line 2: not a line"),
        (("findings", "waive", "BUG-1", "--reason", "x", "--until", "soon"), "expected a date"),
        (("findings", "waive", "B", "--reason", "x", "--until", "2001-01-01"), "that day is over"),
        (("findings", "wontfix", "BUG-1", "--reason", " "), "say why"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    place: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    before = (place / "mine.py").read_bytes()
    code, out, err = dagstorm(capsys, *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert says in err
    assert (place / "mine.py").read_bytes() == before
    assert sorted(p.name for p in place.iterdir()) == ["mine.py"]
