"""Of notes no more is written than a check looks at."""

from __future__ import annotations

from harness.kernel.script_notes import noted, of_stages

PAIR = """\
def violation(seen, error, outputs, left, took):
    rows = [(stage, kind) for _, stage, kind, _ in seen]
    if ("b", "stage.start") in rows and ("a", "stage.end") not in rows:
        return "b ran"
"""


def test_a_kind_that_is_named_beside_stages_only_is_noted_of_those() -> None:
    assert of_stages("stage.start", PAIR) == {"b"}
    assert of_stages("stage.end", PAIR) == {"a"}
    assert of_stages("stage.end", '(f"{run}/a", "stage.end")') == {"a"}
    assert of_stages("stage.end", f'{PAIR} kind == "stage.end"') is None


def test_a_list_that_is_as_the_notes_are_is_not_made() -> None:
    body = 'note("b", "stage.start")\n\n\n' + _body()
    text, head = noted(body, PAIR, [])
    assert head == ["seen = []  # (stage, what happened)"]
    assert text == (
        'seen.append(("b", "stage.start"))\n\n\n'
        "async def main():\n"
        '    if ("b", "stage.start") in seen and ("a", "stage.end") not in seen:\n'
        '        return "b ran"\n'
    )


def _body() -> str:
    return "async def main():\n" + PAIR.split("\n", 1)[1]
