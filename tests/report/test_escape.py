"""Texts from an engine stay where they are put."""

from __future__ import annotations

import re

import pytest

from harness.report.escape import FILTERS, LIMIT_CELL, LIMIT_LINE, block, cell, code, prose, whole

BIDI = "\u202e\u2066\u200f\ufeff"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", "a\\|b"),
        ("a\nb\r\n\tc", "a b c"),
        ("<script>&", "&lt;script&gt;&amp;"),
        ("`x` *y* _z_", "\\`x\\` \\*y\\* \\_z\\_"),
        ("stage_timeout", "stage_timeout"),
        ("[x](javascript:y) ![i](u)", "\\[x\\](javascript:y) !\\[i\\](u)"),
        ("# heading", "\\# heading"),
        ("- item", "\\- item"),
        ("+ item", "\\+ item"),
        ("---", "\\---"),
        ("===", "\\==="),
        ("-1", "-1"),
        ("12. item", "12\\. item"),
        ("0.861", "0.861"),
        ("bell\x07 esc\x1b[31m", "bell� esc�\\[31m"),
        (f"bi{BIDI}di", "bi����di"),
        ("lone \ud800", "lone �"),
        ("✅ ⚠️ 30 °C", "✅ ⚠️ 30 °C"),
        ("", ""),
    ],
)
def test_prose(text: str, expected: str) -> None:
    assert prose(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "—"),
        ("", "—"),
        (0, "0"),
        (0.1, "0.1"),
        (True, "yes"),
        (["a", 1], "a, 1"),
        ({"b": 2, "a": [1, {"c": False}]}, "b = 2, a = (1, c = no)"),
        ({}, "—"),
        ("a|b\nc", "a\\|b c"),
    ],
)
def test_cell(value: object, expected: str) -> None:
    assert cell(value) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", "`a\\|b`"),
        ("a`b", "``a`b``"),
        ("`a`", "`` `a` ``"),
        ("```", "```` ``` ````"),
        ("a\nb", "`a b`"),
        ("", "—"),
    ],
)
def test_code(text: str, expected: str) -> None:
    assert code(text) == expected


def test_a_block_cannot_be_ended_from_inside() -> None:
    assert block("x\n```\n# out\n````") == "`````\nx\n```\n# out\n````\n`````"
    assert whole("x\n```", "mermaid") == "````mermaid\nx\n```\n````"


def test_long_texts_are_cut_with_a_note() -> None:
    assert cell("x" * (LIMIT_CELL + 1)) == "x" * LIMIT_CELL + " … \\[cut\\]"
    assert block("y" * (LIMIT_LINE + 1)) == "```\n" + "y" * LIMIT_LINE + " … [cut]\n```"
    assert block("z\n" * 1000).count("z") == 200
    # A token that was cut would replay nothing.
    assert whole("t" * 5000) == "```\n" + "t" * 5000 + "\n```"


def test_a_cut_makes_no_other_number() -> None:
    text = "x" * (LIMIT_CELL - 3) + " 123456"
    assert not re.search("[0-9]", cell(text))


@pytest.mark.parametrize("name", sorted(set(FILTERS) - {"as_json", "figures"}))
def test_no_filter_writes_a_digit_of_its_own(name: str) -> None:
    text = "".join(map(chr, (*range(48), *range(58, 0x3000)))) * 3
    assert not re.search("[0-9]", FILTERS[name](text))
