from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from gpunodes.evidence import image_page
from gpunodes.evidence.evidence import Proof, seal_digest
from gpunodes.evidence.image_record import CostEstimate, Durations
from gpunodes.evidence.sbom import Package
from tests.gpunodes.image_records import PACKAGES, RECORD

HOSTILE = "<script>alert('x')</script>\"&'{{ 7*7 }}"
PASSED = Proof("proof-1", "passed", "g4dn.xlarge", "2030-01-02T04:00:00+00:00", (), 7)
FAILED = Proof("proof-2", "failed", "g5.xlarge", "2030-01-03T04:00:00+00:00", ("memory rises",), 7)
VOID = {"meta", "br"}


class Page(HTMLParser):
    """A page as a browser would take it apart: its elements, its text, and what is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


def test_the_verdict_comes_first_and_then_what_it_is() -> None:
    page = Page(image_page.render(RECORD, [PASSED], PACKAGES))

    body = page.text.split("Why it exists")[0]
    assert "passed all 7 checks on g4dn.xlarge ami-0123456789abcdef0 A GPU image of flavor debian-12" in body
    assert "baked 2 January 2030, 03:04 UTC from debian-12-gpu" in body


def test_page_is_whole() -> None:
    page = Page(image_page.render(RECORD, [PASSED], PACKAGES))

    assert page.open == []
    assert page.tags.count("h1") == 1


@pytest.mark.parametrize(
    ("proofs", "words"),
    [
        ([], "not proven on an instance yet"),
        ([PASSED], "passed all 7 checks on g4dn.xlarge"),
        ([PASSED, FAILED], "failed 1 of 7 checks on g5.xlarge"),
    ],
)
def test_newest_proof_is_the_verdict(proofs: list[Proof], words: str) -> None:
    html = image_page.render(RECORD, proofs, PACKAGES)

    assert f"<title>{RECORD.ami_id}: {words}</title>" in html


def test_check_that_failed_is_named() -> None:
    assert "6 of 7 passed failed: memory rises" in Page(image_page.render(RECORD, [FAILED], PACKAGES)).text


def test_page_needs_nothing_but_itself() -> None:
    page = Page(html := image_page.render(RECORD, [PASSED], PACKAGES))

    assert not set(page.tags) & {"script", "link", "img", "iframe", "object"}
    assert not [name for name, _ in page.attributes if name in {"src", "href", "onload", "onclick"}]
    assert not re.findall(r"url\(|@import|https?:", html)
    assert "default-src 'none'" in html


def test_hostile_text_stays_text() -> None:
    record = replace(
        RECORD,
        name=HOSTILE, reason=HOSTILE, flavor=HOSTILE, notes=(HOSTILE,), account=HOSTILE, held_packages=(HOSTILE,),
        base=replace(RECORD.base, name=HOSTILE, creation_date=HOSTILE), pins={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE, "nvidia_driver_version": HOSTILE}, tools={HOSTILE: HOSTILE},
    )  # fmt: skip
    proof = replace(FAILED, failed_checks=(HOSTILE,), instance_type=HOSTILE, result=HOSTILE, proved_at=HOSTILE)

    html = image_page.render(record, [proof], [Package("deb", HOSTILE, HOSTILE, HOSTILE)])

    page = Page(html)
    assert "script" not in page.tags
    assert page.open == []
    assert "alert('x')" not in html
    assert page.text.count("".join(HOSTILE.split())) == 0
    assert page.text.count(HOSTILE) > 15


def test_every_package_is_listed_under_its_manager() -> None:
    text = Page(image_page.render(RECORD, [], PACKAGES)).text

    assert "Debian packages (2)" in text
    assert "libc6 2.36-9+deb12u13 amd64" in text
    assert "Python packages (1)" in text
    assert "RPM packages" not in text


def test_package_list_that_cannot_be_read_is_said_to_be_missing() -> None:
    assert "sbom.cdx.json is not beside this page" in Page(image_page.render(RECORD, [], None)).text


def test_what_was_not_read_is_not_shown_as_a_version() -> None:
    text = Page(image_page.render(RECORD, [], PACKAGES)).text

    assert "NVIDIA driver 580.105.08" in text
    assert "DCGM not found" in text


def test_what_people_know_comes_first_and_what_is_new_is_shown_too() -> None:
    titles = image_page.titled_versions(
        {"efa_version": "1", "dcgm_version": None, "os_id": "debian", "os_version": "12"}
    )

    assert titles == [("system", "debian 12"), ("DCGM", None), ("efa_version", "1")]


@pytest.mark.parametrize(
    ("versions", "titles"),
    [
        ({"os_id": "debian", "os_version": None}, [("system", "debian")]),
        ({"os_id": None, "os_version": None}, [("system", None), ("system version", None)]),
    ],
)
def test_system_that_was_not_read_is_not_made_up(
    versions: dict[str, str | None], titles: list[tuple[str, str | None]]
) -> None:
    assert image_page.titled_versions(versions) == titles


def test_digest_on_the_page_is_that_of_the_record() -> None:
    assert seal_digest(RECORD)[1] in image_page.render(RECORD, [], PACKAGES)


def test_what_the_api_could_not_do_and_the_notes_are_what_to_know() -> None:
    text = Page(image_page.render(RECORD, [], PACKAGES)).text

    assert "To know the base is deprecated in 30 days this API has no deregistration protection" in text


def test_cost_is_shown_or_why_there_is_none() -> None:
    assert "Cost: unknown (nothing costs money offline)" in Page(image_page.render(RECORD, [], None)).text
    paid = replace(RECORD, cost=CostEstimate(0.0712, "g4dn.xlarge for 7 min"))
    assert "Cost: about 0.07 USD (g4dn.xlarge for 7 min)" in Page(image_page.render(paid, [], None)).text


def test_steps_and_their_phases_have_bars_in_proportion() -> None:
    html = image_page.render(RECORD, [], PACKAGES)

    assert re.findall(r'class="bar" style="width: ([0-9.]+)%"', html) == ["15.0", "100.0", "72.5"]


def test_bake_of_no_duration_is_shown_too() -> None:
    html = image_page.render(replace(RECORD, durations=Durations((), 0.0, 0.0)), [], PACKAGES)

    assert "0.0 s in all" in Page(html).text


def test_image_of_an_offline_cloud_is_said_to_be_in_no_account() -> None:
    text = Page(image_page.render(replace(RECORD, target="offline"), [], PACKAGES)).text

    assert "no AWS account has it" in text
    assert "It lies in us-east-1 , account 123456789012." in Page(image_page.render(RECORD, [], PACKAGES)).text


@pytest.mark.parametrize(
    ("reason", "html"),
    [
        ("run `a <b>` & `c`", "run <code>a &lt;b&gt;</code> &amp; <code>c</code>"),
        ("a ` alone <b>", "a ` alone &lt;b&gt;"),
    ],
)
def test_command_in_a_sentence_is_shown_as_one(reason: str, html: str) -> None:
    assert f"Why it exists: {html}</p>" in image_page.render(replace(RECORD, reason=reason), [], None)


def test_text_that_is_no_time_stays_as_it_is() -> None:
    assert image_page.moment("2026-11-15T09:12:44.000Z") == "15 November 2026, 09:12 UTC"
    assert image_page.moment("yesterday") == "yesterday"
    assert image_page.moment("") == ""
