"""The chart of a campaign's processes, and its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.report.resources import read_resources, resource_rows, resource_shapes

HEADER = "at_s,process,rss_bytes,cpu_s,descriptors,threads,sockets,switches"
MIB = 1 << 20


def written(folder: Path, *lines: str, **more: object) -> Path:
    (folder / "resources.csv").write_text("\n".join((HEADER, *lines, "")), "utf-8")
    told = {"began_s": 100.0, "every_s": 0.5, "windows": [], "growth": [], "growth_rule": ""}
    (folder / "resources.json").write_text(json.dumps({**told, **more}), "utf-8")
    return folder


LINES = (
    f"100.0,a@1 #1,{10 * MIB},0.0,3,1,0,5",
    f"101.0,a@1 #1,{20 * MIB},0.5,4,2,0,9",
    f"110.0,b #2,{40 * MIB},3.0,5,1,1,7",
)


def test_a_row_for_each_engine_has_the_most_and_the_sums(tmp_path: Path) -> None:
    data = read_resources(written(tmp_path, *LINES))
    assert data is not None
    assert resource_rows(data["rows"])[0] == {
        "label": "a@1",
        "workers": 1,
        "samples": 2,
        "rss_mib": 20.0,
        "cpu_s": 0.5,
        "switches": 9,
        "descriptors": 4,
        "threads": 2,
        "sockets": 0,
    }


def test_lines_go_from_left_to_right_and_faults_are_shaded_when_they_were(tmp_path: Path) -> None:
    window = {"what": "b <i>: latency", "begin_s": 105.0, "end_s": 110.0}
    data = read_resources(written(tmp_path, *LINES, windows=[window]))
    assert data is not None
    shapes = resource_shapes(data)
    memory, load = shapes["panels"]
    # 20 of 40 MiB is half the height; half a second of processor in one is 50 %.
    assert [line["points"] for line in memory["lines"]] == [
        "52.0,92.0 117.2,68.0",
        "704.0,20.0",
    ]
    assert (load["highest"], len(load["lines"])) == ("50", 1)
    assert shapes["shades"] == [{"x": 378.0, "width": 326.0, "what": "b <i>: latency"}]
    assert (shapes["span"], shapes["left_out"]) == ("10 s", 0)


def test_a_run_that_sampled_nothing_has_no_chart(tmp_path: Path) -> None:
    assert read_resources(tmp_path) is None
    data = read_resources(written(tmp_path))
    assert data is not None
    assert (resource_rows(data["rows"]), resource_shapes(data)["text"]) == ([], "no samples")


def test_files_that_no_run_writes_are_refused(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "resources.json").write_text("{}", "utf-8")
    with pytest.raises(ValueError, match="not what a run writes"):
        read_resources(tmp_path)
