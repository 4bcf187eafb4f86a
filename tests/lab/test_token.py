"""A token carries a run whole, old ones stay valid, and anything else is one clear line."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.kernel.errors import InputError
from harness.lab.token import (
    PACKED,
    PLAIN,
    Token,
    decode,
    encode,
    is_token,
    read,
    scenario_digest,
    write,
)
from harness.strategies import cases

# As written by 0.1.0; people keep such lines in bug reports.
OLD = (
    "ds1.eyJjIjpbeyJhdF9zIjowLjUsInJ1biI6InIwIn1dLCJkIjoiOWZhZTkzNjciLCJlIjoic3RhZ2VmbG93IiwiaC"
    "I6MCwibiI6NzcsInAiOiIzLjExIiwicyI6ImNsZWFudXAvb2siLCJ0Ijp7InRpZXMiOlswLDJdfSwidiI6IjEuMi4w"
    "In0"
)
# The first of its kind; if it can no longer be read, the format's frozen words were changed.
FIRST_PACKED = (
    "ds2.z3daRKsG-ykpzdzQPDXZFOo3uKOgfjOxTDS0tDBITLNINDMHMtH86ujn7OqjawyKVXB21oVmqVRQQklJTNcrqH"
    "QvSizI0APl31hwkJjDg8QIyZtopQE43k1BMY3L_zA_E-tbcMLBMBApRsxB6R1kMjSBGOgYAZMdUpzUAgA"
)

PROGRAM = {"version": 1, "name": "p", "stages": [{"name": "a", "steps": [{"op": "ok"}]}]}
PLAN = {"version": 1, "cancels": [{"at_s": 0.5}]}
WHOLE = Token(
    "stageflow",
    "1.2.0",
    "search/7",
    7,
    scenario_digest(PROGRAM, PLAN),
    {"ties": [0, 2]},
    python="3.12",
    program=PROGRAM,
    plan=PLAN,
    shows=("CANCEL-3", "cancel-swallowed", "dag.pyGraph.run"),
    run_digest="49a1980af8a67a19",
)


def packed(data: Any) -> str:
    text = json.dumps(data).encode()
    return PLAIN + base64.urlsafe_b64encode(text).decode().rstrip("=")


def plain(**changes: Any) -> dict[str, Any]:
    return {"e": "x", "v": "", "s": "a/b", "n": 0, "d": "", "p": "3.11", "h": 0, **changes}


def test_an_old_token_is_still_read() -> None:
    assert decode(OLD) == Token(
        "stageflow",
        "1.2.0",
        "cleanup/ok",
        77,
        "9fae9367",
        {"ties": [0, 2]},
        [{"at_s": 0.5, "run": "r0"}],
        "3.11",
    )
    assert encode(decode(OLD)) == OLD


def test_a_packed_token_of_the_first_release_is_still_read() -> None:
    assert decode(FIRST_PACKED) == WHOLE


def test_a_token_of_a_scenario_alone_is_written_as_ever() -> None:
    token = Token("reference", "", "cleanup/ok", 3, "9fae9367", python="3.11")
    assert encode(token).startswith(PLAIN)
    assert decode(encode(token)) == token


@given(cases(), st.integers(0, 2**48), st.text(max_size=9))
def test_a_case_of_its_own_comes_back_whole(case: Any, seed: int, name: str) -> None:
    program, plan = (one.to_json() for one in case)
    digest = scenario_digest(program, plan)
    shows = ("A", "b", name)
    token = Token("e", "1", name, seed, digest, {}, None, "3.11", program, plan, 0, shows)
    assert decode(encode(token)) == token


def test_a_small_case_is_a_short_text() -> None:
    assert len(encode(WHOLE)) < 250


def test_a_token_s_file_comes_back_whole(tmp_path: Path) -> None:
    file = tmp_path / "mine.token.json"
    write(WHOLE, file)
    assert read(file) == WHOLE


@pytest.mark.parametrize("text", ["", "BUG-001", "ds3.abc", "DS1.abc"])
def test_other_texts_are_no_tokens(text: str) -> None:
    assert not is_token(text)
    with pytest.raises(InputError, match="expected it to begin with"):
        decode(text)


@pytest.mark.parametrize("text", ["ds1.", "ds2.", "ds1.!!", "ds2.AAAA", "ds1.bnVsbA", "ds2.e30"])
def test_a_damaged_token_is_named(text: str) -> None:
    with pytest.raises(InputError, match="it is damaged; copy it again, whole"):
        decode(text)


@given(st.integers(0, len(encode(WHOLE)) - 1), st.sampled_from("aZ_9"))
def test_a_token_with_one_wrong_letter_is_never_taken_for_another(place: int, letter: str) -> None:
    text = encode(WHOLE)
    changed = text[:place] + letter + text[place + 1 :]
    try:
        assert decode(changed) == WHOLE  # the last letter has bits that say nothing
    except InputError as exc:
        assert "\n" not in str(exc)


@given(st.sampled_from([PLAIN, PACKED]), st.binary(max_size=60))
def test_rubbish_is_refused_in_one_line(prefix: str, rubbish: bytes) -> None:
    with pytest.raises(InputError) as caught:
        decode(prefix + base64.urlsafe_b64encode(rubbish).decode())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "it is damaged"),
        (plain(n="7"), "field 'seed': expected int, got '7'"),
        (plain(n=True), "field 'seed': expected int, got True"),
        (plain(e=None), "field 'engine': expected str"),
        (plain(p="3"), "field 'python': expected a version such as 3.11"),
        (plain(t=[]), "field 'tape': expected dict"),
        (plain(t={"ties": 3}), "field 'tape': expected lists of whole numbers"),
        (plain(t={"ties": [-1]}), "field 'tape': expected lists of whole numbers"),
        (plain(c={}), "field 'cancels': expected a list of objects"),
        (plain(k=["A"]), "field 'shows': expected clause, shape and component"),
        (plain(program=[]), "field 'program': expected dict"),
        (plain(program={"stages": [{"name": "a", "steps": [{"op": "slep"}]}]}), "unknown step"),
        (plain(program=PROGRAM, plan={"runs": [{"id": {}}]}), "plan.runs[0].id: expected a text"),
    ],
)
def test_a_malformed_field_is_named(data: Any, says: str) -> None:
    with pytest.raises(InputError) as caught:
        decode(packed(data))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "no token: expected an object with 'token': 2"),
        ('{"token": 3}', "no token: expected an object with 'token': 2"),
        ('{"token": 2, "egine": "x"}', "unknown field 'egine'"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "mine.token.json"
    file.write_text(text, "utf-8")
    with pytest.raises(InputError) as caught:
        read(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = Token("e", "", "s" * 5_000_000, 0, "", program=PROGRAM, plan={})
    with pytest.raises(InputError, match="it is damaged"):
        decode(encode(bomb))
