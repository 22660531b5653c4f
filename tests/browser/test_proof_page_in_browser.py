"""The page of a proof as a person sees it: on a desktop and on a phone, in light and in dark, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpunodes.proof_report import proof_page
from gpunodes.proof_report.proof_document import writable
from tests.browser.conftest import HEIGHT, VIEWS, Browser, View
from tests.gpunodes.proof_report import proof_documents

MEASURE = Path(__file__).with_name("measure.js").read_text()
OPEN_ALL = "document.querySelectorAll('details').forEach((one) => { one.open = true; });"
OUTSIDE = "http://198.51.100.7/pixel.png"
DOCUMENTS = proof_documents.everything()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    files = {name: folder / f"{name}.html" for name in DOCUMENTS}
    for name, file in files.items():
        file.write_text(proof_page.page(DOCUMENTS[name]), encoding="utf-8")
    return files


@pytest.fixture(params=VIEWS, ids=str)
def view(request: pytest.FixtureRequest) -> View:
    chosen: View = request.param
    return chosen


@pytest.fixture(params=DOCUMENTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def measured(browser: Browser, page: Path, view: View) -> dict[str, Any]:
    browser.open(page, view)
    found: dict[str, Any] = browser.ask(MEASURE)
    return found


def test_page_fits_and_shows_its_verdict_and_every_check(
    browser: Browser, pages: dict[str, Path], name: str, view: View
) -> None:
    seen = measured(browser, pages[name], view)

    assert view.width - 20 <= seen["clientWidth"] <= view.width  # a desktop has a scroll bar
    assert seen["scrollWidth"] <= seen["clientWidth"]
    assert seen["sticksOut"] == []
    assert seen["verdict"][0]["text"] in {"Passed", "Failed", "No verdict"}
    assert all(part["bottom"] <= HEIGHT for part in seen["verdict"])
    names = [writable(check["name"]) for check in DOCUMENTS[name].get("checks", [])]
    assert sorted(check["name"] for check in seen["checks"]) == sorted(names)
    assert all(check["visible"] for check in seen["checks"])
    assert {check["evidence"] for check in seen["checks"] if check["failed"]} <= {True, None}


def test_everything_can_be_read(browser: Browser, pages: dict[str, Path], name: str, view: View) -> None:
    browser.open(pages[name], view)
    browser.ask(OPEN_ALL)
    seen = browser.ask(MEASURE)

    assert seen["scrollWidth"] <= seen["clientWidth"]
    assert seen["sticksOut"] == []
    assert len(seen["texts"]) >= 5
    assert {kind: text for kind, text in seen["texts"].items() if text["contrast"] < 4.5} == {}
    assert {kind: text for kind, text in seen["texts"].items() if text["size"] < 11} == {}
    assert {kind: line for kind, line in seen["lines"].items() if line["contrast"] < 3} == {}
    if name != "hostile":  # whose unit is as long as a sentence
        assert not any(plot["cut"] for plot in seen["plots"])


@pytest.mark.parametrize(("name", "count"), [("passed", 27), ("failed", 29), ("large", 69)])
def test_plots_are_drawn_at_the_width_of_the_page(
    browser: Browser, pages: dict[str, Path], count: int, view: View, name: str
) -> None:
    at_first = measured(browser, pages[name], view)["plots"]
    browser.ask(OPEN_ALL)
    plots = browser.ask(MEASURE)["plots"]

    assert len(plots) == count
    assert not any(plot["hidden"] for plot in plots)
    assert 0 < sum(plot["hidden"] for plot in at_first) < count  # the metrics that never changed are folded
    assert all(plot["width"] >= 190 and plot["height"] >= 120 and plot["innerWidth"] >= 190 for plot in plots)


def test_lines_differ_not_only_by_colour(browser: Browser, pages: dict[str, Path]) -> None:
    lines = measured(browser, pages["large"], VIEWS[0])["lines"]

    assert len(lines) == 8
    assert len({line["dash"] for line in lines.values()}) == 8


def test_light_and_dark_differ(browser: Browser, pages: dict[str, Path]) -> None:
    grounds = {view.scheme: measured(browser, pages["passed"], view)["ground"] for view in VIEWS}

    assert grounds == {"light": "rgb(246, 245, 241)", "dark": "rgb(18, 22, 20)"}


def test_no_request_leaves_the_page(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.open(pages[name])
    browser.ask(OPEN_ALL)

    assert browser.requests() == {pages[name].as_uri(): ""}
    assert browser.messages() == []


def test_its_policy_keeps_what_is_smuggled_in_from_the_network(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    smuggled = f'<img src="{OUTSIDE}"><script>document.title = "smuggled"</script>'
    html = pages["bare"].read_text(encoding="utf-8").replace("<main>", f"<main>{smuggled}")
    page = tmp_path / "smuggled.html"
    page.write_text(html, encoding="utf-8")

    browser.open(page)

    assert browser.ask("return document.title") == "Failed: an image"
    assert browser.requests() == {page.as_uri(): "", OUTSIDE: "csp"}
    assert any("Content Security Policy" in message for message in browser.messages())


def test_requests_would_be_seen(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "open.html"
    page.write_text('<!doctype html><title>t</title><img src="http://elsewhere.invalid/pixel.png">')

    browser.open(page)

    assert browser.requests() == {page.as_uri(): "", "http://elsewhere.invalid/pixel.png": ""}


def test_hostile_text_is_text(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["hostile"])

    assert browser.ask("return document.querySelectorAll('script, body img, iframe').length") == 0
    assert "<script>alert('x')</script>\"&'{{ 7*7 }}" in browser.ask(
        "return document.querySelector('.why').textContent"
    )


def test_link_of_a_failed_check_leads_to_it(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["failed"])

    found = browser.ask(
        "return [...document.querySelectorAll('.problems a')].map((link) => {"
        " const check = document.querySelector(link.getAttribute('href'));"
        " return [link.textContent, check.querySelector('h3').textContent, check.classList.contains('failed')]; })"
    )

    assert len(found) == 2
    assert all(link == heading and failed for link, heading, failed in found)
