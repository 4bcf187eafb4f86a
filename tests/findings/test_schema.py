"""The published schema: it is valid, it is strict, and what is written obeys it."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.contract.clauses import CLAUSES
from harness.contract.load import LOAD
from harness.findings import faults_of, schema
from tests.report import fixture
from tests.report.fixture import STAGEFLOW, clause, unit, witness, write_campaign


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = write_campaign(tmp_path_factory.mktemp("run"))
    loaded: dict[str, Any] = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    return loaded


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_what_is_written_obeys_it(document: dict[str, Any]) -> None:
    assert faults_of(document) == []


def changed(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return the document with one place replaced; `...` takes the place away."""
    out = copy.deepcopy(document)
    place: Any = out
    for part in path[:-1]:
        place = place[part]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return out


STRENGTH, BUG, CHAPTER = -1, 0, ("metadata", "missions", 0, "chapters", 0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("extra",), 1),
        (("schema_version",), "2"),
        (("findings", BUG, "extra"), 1),
        (("findings", BUG, "title"), ...),
        (("findings", BUG, "id"), "BUG-1"),
        (("findings", BUG, "id"), "STR-001"),
        (("findings", BUG, "severity"), "grave"),
        (("findings", BUG, "priority"), None),
        (("findings", BUG, "clause"), ""),
        (("findings", BUG, "confirmation"), None),
        (("findings", BUG, "fingerprint"), "xyz"),
        (("findings", BUG, "evidence", "rate"), 1.5),
        (("findings", BUG, "evidence", "proof"), [[1, 2]]),
        (("findings", BUG, "recommendation"), None),
        (("findings", BUG, "recommendation", "effort"), "much"),
        (("findings", BUG, "engine_versions"), []),
        (("findings", STRENGTH, "severity"), "high"),
        (("findings", STRENGTH, "evidence", "violations"), 1),
        (("findings", STRENGTH, "evidence", "exercised"), 0),
        ((*CHAPTER, "extra"), 1),
        ((*CHAPTER, "verdict", "verdict"), "FINE"),
        ((*CHAPTER, "hypotheses", 0, "verdict"), "MAYBE"),
        ((*CHAPTER, "claims", 0, "verdict"), "MAYBE"),
        ((*CHAPTER, "experience", "overall"), 6),
        ((*CHAPTER, "tests", 0, "runs"), "many"),
        (("metadata", "totals"), ...),
    ],
)
def test_it_is_strict(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    assert faults_of(changed(document, path, value)) != []


def test_a_fault_names_the_place_and_what_is_wrong(document: dict[str, Any]) -> None:
    wrong = changed(document, ("findings", BUG, "frequency"), "daily")
    assert faults_of(wrong) == [
        "findings/0/frequency: 'daily' is not one of "
        "['always', 'often', 'sometimes', 'rarely', None]"
    ]


def test_a_document_that_would_not_obey_is_not_written(tmp_path: Path) -> None:
    wrong = dataclasses.replace(fixture.CLAUSES["CLEAN-1"], type="weird")
    with pytest.raises(ValueError, match="would not obey its schema"):
        write_campaign(tmp_path / "run", clauses={**fixture.CLAUSES, "CLEAN-1": wrong})
    assert not (tmp_path / "run").exists()


CONTRACT = {**CLAUSES, **LOAD}


@pytest.mark.parametrize("clause_id", sorted(CONTRACT))
def test_every_clause_of_the_contract_makes_a_valid_finding(clause_id: str, tmp_path: Path) -> None:
    severity = CONTRACT[clause_id].severity
    seen = [
        witness("TIME-1", shape, 1, 2) | {"clause": clause_id, "severity": severity}
        for shape in CONTRACT[clause_id].title
    ]
    row = unit(
        STAGEFLOW,
        "p/a",
        "fail",
        clauses={clause_id: clause("fail", 2, 1)},
        witnesses=seen,
    )
    write_campaign(tmp_path, units=[row], clauses=CONTRACT, missions=[], engines=[], scenarios=[])
    found = json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))["findings"]
    assert sorted(f["title"] for f in found) == sorted(CONTRACT[clause_id].title.values())


def test_the_files_by_kind_hold_the_same_entries(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    names = ("bugs.json", "dx.json", "improvements.json", "strengths.json")
    pages = [json.loads((tmp_path / name).read_text(encoding="utf-8")) for name in names]
    whole = json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))
    assert [f for page in pages for f in page["findings"]] == whole["findings"]
    assert [{f["kind"] for f in page["findings"]} for page in pages] == [
        {"bug"},
        {"dx"},
        {"improvement"},
        {"strength"},
    ]
