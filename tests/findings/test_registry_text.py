"""The registry as a text: round trips, merges in either direction, and what git makes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.findings.known import Decision
from harness.findings.registry import Registry, RegistryError
from harness.findings.registry_text import Book, merge, read_text, to_text
from tests.findings.book import a_run, entry, row

FAIL = [row(verdict="fail")]


def registry(folder: Path, name: str) -> Registry:
    return Registry(folder / f"{name}.sqlite3")


def book(one: Registry) -> Book:
    return Book(*one.everything())


def ids(one: Book) -> dict[str, tuple[str, list[str]]]:
    return {mark[0]: (k.id, k.formerly) for mark, k in sorted(one.known.items())}


def test_what_is_exported_comes_back_the_same(tmp_path: Path) -> None:
    one = registry(tmp_path, "one")
    a_run(one, "r1", [entry("a"), entry("b", kind="dx")], FAIL)
    a_run(one, "r2", [entry("b", kind="dx")], [row()])
    text = to_text(book(one))
    assert to_text(read_text(text, "file")) == text
    assert to_text(merge(Book(), read_text(text, "file"))) == text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [next(iter(line)) for line in lines] == [
        "dagstorm_registry",
        "numbers",
        "finding",
        "finding",
        "run",
        "run",
    ]


def test_a_merge_is_the_same_in_either_direction_and_twice_is_once(tmp_path: Path) -> None:
    one, two = registry(tmp_path, "one"), registry(tmp_path, "two")
    a_run(one, "r1", [entry("a"), entry("c")], FAIL)
    a_run(one, "r2", [], [row()])
    a_run(two, "s1", [entry("b"), entry("c"), entry("d")], FAIL)
    mine, other = book(one), book(two)
    both = merge(mine, other)
    assert to_text(both) == to_text(merge(other, mine))
    assert to_text(merge(both, other)) == to_text(merge(both, mine)) == to_text(both)


def test_ids_that_collide_are_told_apart_by_age(tmp_path: Path) -> None:
    one, two = registry(tmp_path, "one"), registry(tmp_path, "two")
    a_run(one, "r1", [entry("b"), entry("c")], FAIL)
    a_run(two, "r0", [entry("a"), entry("c"), entry("d"), entry("e")], FAIL)
    both = merge(book(one), book(two))
    # a was seen in the earlier run, so it keeps BUG-001; c is BUG-002 in both.
    assert ids(both) == {
        "a": ("BUG-001", []),
        "b": ("BUG-005", ["BUG-001"]),
        "c": ("BUG-002", []),
        "d": ("BUG-003", []),
        "e": ("BUG-004", []),
    }
    assert both.numbers == {"bug": 5}


def test_one_finding_of_two_ids_keeps_one_that_no_other_has(tmp_path: Path) -> None:
    one, two = registry(tmp_path, "one"), registry(tmp_path, "two")
    a_run(one, "r1", [entry("a"), entry("b")], FAIL)
    a_run(two, "r1", [entry("b")], FAIL)
    both = merge(book(one), book(two))
    assert ids(both) == {"a": ("BUG-001", []), "b": ("BUG-002", ["BUG-001"])}
    assert to_text(both) == to_text(merge(book(two), book(one)))


def test_numbers_are_never_given_twice_after_a_merge(tmp_path: Path) -> None:
    one, two = registry(tmp_path, "one"), registry(tmp_path, "two")
    a_run(one, "r1", [entry("a"), entry("b")], FAIL)
    a_run(two, "r1", [entry("c")], FAIL)

    def taken(*mine: object) -> tuple[object, object, object]:
        both = merge(Book(*mine), book(one))  # type: ignore[arg-type]
        return both.known, both.runs, both.numbers

    two.replace(taken)  # type: ignore[arg-type]
    _, new = a_run(two, "r2", [entry("f")], FAIL)
    assert list(new.values()) == ["BUG-004"]
    assert len({k.id for k in two.known().values()}) == 4


def test_the_later_decision_and_state_win(tmp_path: Path) -> None:
    one, two = registry(tmp_path, "one"), registry(tmp_path, "two")
    for each in (one, two):
        a_run(each, "r1", [entry("a")], FAIL)
    a_run(two, "r2", [], [row()])
    for each, since in ((one, "2026-11-02"), (two, "2026-11-01")):
        each.change(
            "BUG-001",
            lambda k, s=since: setattr(k, "decision", Decision("waiver", s, "2027-01-01", s)),  # type: ignore[misc]
        )
    (known,) = merge(book(one), book(two)).known.values()
    assert known.decision is not None
    assert known.decision.reason == "2026-11-02"
    assert known.versions[""].state == "resolved"


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_git_merges_two_branches_by_union(tmp_path: Path) -> None:
    base = registry(tmp_path, "base")
    a_run(base, "r1", [entry("5"), entry("6")], FAIL)
    texts = {"base": to_text(book(base))}
    for name, marks in (("ours", "14"), ("theirs", "79")):
        branch = registry(tmp_path, name)
        branch.replace(lambda *_: base.everything())
        a_run(branch, f"{name}-2", [entry(m) for m in (*marks, "5")], FAIL)
        texts[name] = to_text(book(branch))
    for name, text in texts.items():
        (tmp_path / name).write_text(text, "utf-8")
    done = subprocess.run(
        ["git", "merge-file", "-p", "--union", "ours", "base", "theirs"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    merged = merge(Book(), read_text(done.stdout, "merged"))
    assert sorted(mark[0] for mark in merged.known) == ["1", "4", "5", "6", "7", "9"]
    assert len({k.id for k in merged.known.values()}) == 6
    assert [r["run_id"] for r in merged.runs] == ["ours-2", "r1", "theirs-2"]


HEAD = '{"dagstorm_registry": 1}\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "file: not an exported registry: it is empty"),
        ("hello\n", "file: line 1: not a line of an exported registry"),
        ('{"finding": {}}\n', "file: line 1: not a line"),
        ('{"numbers": {"bug": 1}}\n', "file: line 1: not an exported registry"),
        ('{"dagstorm_registry": 7}\n', "file: line 1: an export of version 7"),
        (HEAD + "<<<<<<< ours\n", "file: line 2: a conflict that git left"),
        (HEAD + '{"finding": {"id": "BUG-001"}}\n', "file: line 2: not a line"),
        (HEAD + '{"what": 1}\n', "file: line 2: not a line"),
        (HEAD + "[1]\n", "file: line 2: not a line"),
    ],
)
def test_a_line_that_is_none_is_named(text: str, says: str) -> None:
    with pytest.raises(RegistryError) as raised:
        read_text(text, "file")
    assert str(raised.value).startswith(says)
    assert "\n" not in str(raised.value)
