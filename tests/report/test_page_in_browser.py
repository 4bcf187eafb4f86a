"""index.html in a real browser: opened from a file, filtered, sorted, read by key and by script.

Skipped, with the reason, where the machine has no Chromium (`apt-get install chromium`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.report import render_run
from tests.report import hostile
from tests.report.chromium import Chromium, Page, find_chromium
from tests.report.fixture import write_campaign

COMMAND = find_chromium()
pytestmark = [
    pytest.mark.skipif(COMMAND is None, reason="no chromium on this machine's path"),
    pytest.mark.skipif(sys.platform == "win32", reason="the browser is spoken to over POSIX pipes"),
]

SHOWN = "[...document.querySelectorAll('#findings-list>article')].filter(c=>!c.hidden).map(c=>c.id)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    assert COMMAND is not None
    running = Chromium(COMMAND, tmp_path_factory.mktemp("profile"))
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_campaign(tmp_path_factory.mktemp("run"))
    changes = {
        "schema_version": 1,
        "against": "run-1",
        "new": ["BUG-002"],
        "regressed": [],
        "unchanged": ["BUG-001"],
        "resolved": [],
        "waived": [],
    }
    (folder / "changes.json").write_text(json.dumps(changes), "utf-8")
    render_run(folder, formats=("html",))
    return folder / "index.html"


def opened(browser: Chromium, path: Path, fragment: str = "") -> Page:
    page = browser.new_page()
    page.open(path.as_uri() + fragment)
    return page


def choose(page: Page, name: str, value: str) -> None:
    page.run(
        f"(function(){{var s=document.getElementById('by-{name}');s.value={json.dumps(value)};"
        f"s.dispatchEvent(new Event('{'input' if name == 'text' else 'change'}',"
        "{bubbles:true}))})()"
    )


def test_the_page_makes_no_request_and_no_complaint(browser: Chromium, index: Path) -> None:
    page = opened(browser, index)
    assert page.console == []
    assert [u for u in page.requests if not u.startswith("data:")] == [index.as_uri()]


def test_filters_and_sorting(browser: Chromium, index: Path) -> None:
    page = opened(browser, index)
    everything = page.run(SHOWN)
    assert everything[:2] == ["BUG-002", "BUG-001"], "new first"
    choose(page, "kind", "bug")
    assert page.run(SHOWN) == ["BUG-002", "BUG-001"]
    assert page.run("document.getElementById('shown-count').textContent") == (
        f"2 of {len(everything)} findings shown"
    )
    choose(page, "clause", "CLEAN-1")
    assert page.run(SHOWN) == ["BUG-001"]
    choose(page, "clause", "")
    choose(page, "kind", "")
    choose(page, "text", "released  RESOURCES")
    assert page.run(SHOWN) == ["BUG-001"]
    choose(page, "text", "")
    choose(page, "change", "new")
    assert page.run(SHOWN) == ["BUG-002"]
    choose(page, "change", "")
    choose(page, "order", "id")
    assert page.run(SHOWN) == sorted(everything)
    assert page.console == []


def test_a_link_to_a_finding_opens_it(browser: Chromium, index: Path) -> None:
    page = opened(browser, index, "#BUG-001")
    assert page.run("document.querySelector('#BUG-001 details').open") is True
    assert page.run("document.querySelector('#BUG-002 details').open") is False


def test_a_finding_is_reached_and_opened_by_keys_alone(browser: Chromium, index: Path) -> None:
    page = opened(browser, index)
    order = []
    for _ in range(60):
        page.press("Tab", 9)
        order.append(
            page.run("(e=>e.id||(e.closest('article')||{}).id||e.tagName)(document.activeElement)")
        )
        if order[-1] == "BUG-002":
            break
    assert "by-text" in order
    assert "by-kind" in order
    assert order[-1] == "BUG-002"
    page.press("Enter", 13, "\r")
    assert page.run("document.querySelector('#BUG-002 details').open") is True


def test_a_screen_reader_is_told_names_and_roles(browser: Chromium, index: Path) -> None:
    page = opened(browser, index, "#BUG-001")
    page.ask("Accessibility.enable")
    nodes = [n for n in page.ask("Accessibility.getFullAXTree")["nodes"] if not n.get("ignored")]
    told = {(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if "role" in n}
    assert ("combobox", "Kind") in told
    assert ("searchbox", "Words") in told
    assert ("search", "Filter and sort the findings") in told
    assert ("navigation", "Sections") in told
    pictures = {name for role, name in told if role in ("image", "img", "graphics-document")}
    assert "Timeline of BUG-001: Resources are not released" in "|".join(pictures)
    controls = {"combobox", "searchbox", "button", "link", "image", "img"}
    assert [one for one in told if one[0] in controls and not one[1].strip()] == []


def test_light_and_dark_have_legible_text(browser: Chromium, index: Path) -> None:
    page = opened(browser, index)
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.ask("Emulation.setEmulatedMedia", features=[feature])
        ratio = page.run(
            "(function(){function l(c){return c.match(/[0-9.]+/g).slice(0,3).map(function(v)"
            "{v/=255;return v<=.03928?v/12.92:Math.pow((v+.055)/1.055,2.4)})"
            ".reduce(function(a,v,i){return a+v*[.2126,.7152,.0722][i]},0)}"
            "var p=l(getComputedStyle(document.body).backgroundColor);"
            "return Math.min.apply(null,[...document.querySelectorAll("
            "'p,summary,.soft,.tag,td,th,a,.open')].map(function(e){"
            "var t=l(getComputedStyle(e).color);"
            "return (Math.max(t,p)+.05)/(Math.min(t,p)+.05)}))})()"
        )
        assert ratio >= 4.5, f"{scheme}: contrast below what WCAG asks for"


def test_a_phone_has_no_sideways_scrolling(browser: Chromium, index: Path) -> None:
    page = opened(browser, index)
    page.ask(
        "Emulation.setDeviceMetricsOverride",
        width=360,
        height=740,
        deviceScaleFactor=2,
        mobile=True,
    )
    assert page.run("document.documentElement.scrollWidth") <= 360


def test_without_a_script_everything_can_be_read(browser: Chromium, index: Path) -> None:
    page = browser.new_page()
    page.ask("Emulation.setScriptExecutionDisabled", value=True)
    page.open(index.as_uri())
    page.ask("Emulation.setScriptExecutionDisabled", value=False)
    assert page.run("document.getElementById('controls').hidden") is True
    assert page.run(SHOWN)[:2] == ["BUG-002", "BUG-001"]
    assert "Resources are not released" in page.run("document.body.innerText")


def test_hostile_texts_are_shown_as_text(browser: Chromium, tmp_path: Path) -> None:
    write_campaign(tmp_path, **hostile.campaign())
    render_run(tmp_path, formats=("html",))
    page = browser.new_page()
    page.ask("Page.addScriptToEvaluateOnNewDocument", source="window.alert=()=>{throw 'alert'}")
    page.open((tmp_path / "index.html").as_uri())
    page.run("document.getElementById('all-open').click()")
    assert page.console == []
    assert [u for u in page.requests if not u.startswith(("data:", "file:"))] == []
    assert page.run("document.title").startswith("dagstorm run-")
    assert "<script>document.title='taken'</script>" in page.run("document.body.innerText")
    assert page.run("document.querySelectorAll('script').length") == 1
    assert page.run("document.querySelectorAll('img,iframe,object,foreignObject,form').length") == 0
    attributes = "[...document.querySelectorAll('*')].flatMap(e=>e.getAttributeNames())"
    assert page.run(f"{attributes}.filter(n=>n.startsWith('on')).length") == 0
    text = page.run("document.documentElement.innerText")
    assert not set(text) & set("\u202e\u202c\u2066\ufeff\x00\x1b\x08")
    # Three findings, none of which can make the page long.
    assert (tmp_path / "index.html").stat().st_size < 200_000
