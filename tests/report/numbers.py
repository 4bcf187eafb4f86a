"""Finding the numbers of a rendered report, and of the data that it was rendered from.

A number is a run of digits with its decimal points ("40", "0.625", "1.2.0"). Exempt are,
and only are: the section number that a heading begins with ("## 1. Research Summary",
"### 4.1 Bugs"), a list marker at the beginning of a line ("1. "), and the priorities' names
(P0, P1, P2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["numbers_of_data", "numbers_of_report", "untraceable"]

NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)*")
EXEMPT = re.compile(r"^#+ [0-9]+(?:\.[0-9]+)*\.? |^\s*[0-9]+\. |\bP[0-2]\b", re.MULTILINE)
ESCAPED = re.compile(r"\\([^A-Za-z0-9\s])")


def numbers_of_report(page: str) -> set[str]:
    """Return the numbers that a Markdown page prints, but for the exempt ones."""
    return set(NUMBER.findall(EXEMPT.sub(" ", ESCAPED.sub(r"\1", page))))


def numbers_of_data(folder: Path) -> set[str]:
    """Return every number in results.jsonl and findings.json, in texts and names as well."""
    found: set[str] = set()
    for name in ("results.jsonl", "findings.json"):
        text = (folder / name).read_text(encoding="utf-8")
        pages = text.split("\n") if name.endswith("l") else [text]
        for page in filter(None, pages):
            for leaf in _leaves(json.loads(page)):
                found |= set(NUMBER.findall(leaf))
    return found


def untraceable(page: str, folder: Path) -> set[str]:
    """Return the numbers of a page that stand in neither of the two data files."""
    return numbers_of_report(page) - numbers_of_data(folder)


def _leaves(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield key
            yield from _leaves(value)
    elif isinstance(data, list):
        for value in data:
            yield from _leaves(value)
    elif isinstance(data, str):
        yield data
    else:
        yield json.dumps(data)
