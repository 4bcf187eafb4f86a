"""Does `docs/verification.md` cover every bug of severity high or critical in a run?

    python docs/verification/check.py RUN_DIR [--write]

A bug is covered by a row of the page with its clause, its shape (what of the clause is violated)
and its graph, if the row names the release. Ids are a run's own, and titles, places and
fingerprints may change with how findings are merged: they are compared too, and what has changed
is counted, but they decide nothing. `--write` puts those of the run into the rows. Exits 1 if a
bug is not covered.
"""

import argparse
import json
import re
import sys
from collections import defaultdict
from pathlib import Path

PAGE = Path(__file__).parents[1] / "verification.md"
GRAPHS = {"stageflow": "unified", "stageflow-legacy": "older"}
LOOKED_AT = ("critical", "high")
COLUMNS = 8


def bugs(run):
    """Return (clause, shape, graph) -> the bugs of a run that are to be on the page."""
    found = defaultdict(list)
    for one in json.loads((run / "findings.json").read_text(encoding="utf-8"))["findings"]:
        graph = GRAPHS.get(one.get("engine", ""))
        if one["kind"] == "bug" and one["severity"] in LOOKED_AT and graph:
            found[one["clause"], one["shape"], graph].append(one)
    return found


def rows(text):
    """Return (clause, shape, graph) -> (line, cells) of the page's tables of bugs."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == COLUMNS and re.fullmatch(r"[A-Z]+-\d+", cells[0]):
            key = (cells[0], cells[1].strip("`"), cells[2])
            if key in found:
                sys.exit(f"{PAGE.name}: two rows for {' '.join(key)}: keep one")
            found[key] = (line, cells)
    return found


def cells_of(ones):
    """Return severity, title, places and fingerprints as the page has them."""
    places = dict.fromkeys(f"`{one['component']}`" if one["component"] else "-" for one in ones)
    prints = " ".join(sorted(one["fingerprint"] for one in ones))
    return [ones[0]["severity"], ones[0]["title"], ", ".join(places), prints]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("run", type=Path, help="folder of a run, with findings.json in it")
    parser.add_argument("--write", action="store_true", help="put the run's titles into the rows")
    options = parser.parse_args()
    if not (options.run / "findings.json").is_file():
        print(f"{options.run}: has no findings.json; give the folder of a run", file=sys.stderr)
        return 2
    text = PAGE.read_text(encoding="utf-8")
    seen, there = bugs(options.run), rows(text)
    missing, changed = [], 0
    for key, ones in sorted(seen.items()):
        line, cells = there.get(key, ("", []))
        releases = sorted({version for one in ones for version in one["engine_versions"]})
        lacks = [v for v in releases if not cells or v not in cells[3].split(", ")]
        if lacks:
            ids = ", ".join(one["id"] for one in ones)
            missing.append(f"{' '.join(key)} [{', '.join(lacks)}]: {ones[0]['title']} ({ids})")
        elif cells[4:] != cells_of(ones):
            changed += 1
            text = text.replace(line, "| " + " | ".join(cells[:4] + cells_of(ones)) + " |")
    for what in missing:
        print(f"not covered: {what}")
    for key in sorted(set(there) - set(seen)):
        print(f"not in this run: {' '.join(key)}")
    count = sum(map(len, seen.values()))
    print(
        f"{count} bugs of severity {' or '.join(LOOKED_AT)}, {len(seen)} rows; "
        f"{len(missing)} not covered, {changed} with another title, place or fingerprint"
    )
    if options.write and changed:
        PAGE.write_text(text, encoding="utf-8")
        print(f"{PAGE.name}: {changed} rows rewritten")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
