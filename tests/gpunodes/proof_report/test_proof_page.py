from __future__ import annotations

import json
import math
import re
import time
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunodes.errors import UsageError
from gpunodes.proof_report import proof_page
from tests.gpunodes.proof_report import proof_documents
from tests.gpunodes.proof_report.proof_documents import HOSTILE

VOID = {"meta", "br"}
DOCUMENTS = proof_documents.everything()


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

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "head" not in self.open:
            self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


def page(document: dict[str, Any]) -> Page:
    return Page(proof_page.page(document))


def test_verdict_comes_first_then_why_then_image_type_and_time() -> None:
    text = page(proof_documents.passed()).text

    assert text.startswith(
        "Passed All 29 checks passed: every metric of every GPU was read back from CloudWatch. ami-0123456789abcdef0 "
        "gpunodes-debian-12-20261122-100000 on g4dn.xlarge in eu-central-1b, 22 November 2026, 10:17:09 UTC "
        "checks passed 29 of 29 failed 0 GPUs 1 took 16 min 57 s cost 0.14 USD"
    )


def test_what_failed_follows_the_verdict() -> None:
    document = proof_documents.failed()

    text = page(document).text

    assert text.startswith(f"Failed {document['reason']} ami-")
    assert "in an offline cloud" in text
    assert "checks passed 26 of 29 failed 2 not answered 1 GPUs 4" in text
    problems = text[text.index("took") : text.index("Image")]
    assert "memory used rises by what was allocated, step by step GPU 1 rose by 0.02 GiB instead of" in problems
    assert "datapoints are fresh and without gaps GPU 2 has no datapoint after 10:09 UTC" in problems


@pytest.mark.parametrize(
    ("result", "word"), [("passed", "Passed"), ("failed", "Failed"), ("", "No verdict"), ("else", "No verdict")]
)
def test_only_passed_is_a_pass(result: str, word: str) -> None:
    assert page({"result": result}).text.startswith(word)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_page_is_whole_and_has_every_check(name: str) -> None:
    shown = page(DOCUMENTS[name])

    assert shown.open == []
    assert shown.tags.count("h1") == 1
    assert shown.tags.count("article") == len(DOCUMENTS[name].get("checks", []))
    ids = [value for key, value in shown.attributes if key == "id"]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_page_needs_nothing_else(name: str) -> None:
    html = proof_page.page(DOCUMENTS[name])
    shown = Page(html)

    assert '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src' in html
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(shown.tags)
    assert not {key for key, _ in shown.attributes} & {"src", "srcset", "onclick", "onload", "action"}
    assert all(value and value.startswith("#check-") for key, value in shown.attributes if key == "href")
    assert "url(" not in html
    assert "@import" not in html


def test_check_says_what_it_proves_what_was_seen_and_shows_its_evidence() -> None:
    text = page(proof_documents.passed()).text

    assert (
        "it boots within its time budget passed : it is as it should be, seen 3 times "
        "Proves: an Auto Scaling group gets capacity when it asks for it. Evidence boot 21.8 s "
        "budget 60 s slowest cloud-init.service 6.2 gpumon.service 0.9"
    ) in text


def test_checks_that_failed_are_open_and_first_in_their_group() -> None:
    html = proof_page.page(proof_documents.failed())

    group = html[html.index("<h2>Datapoints</h2>") : html.index("<h2>Memory, step by step</h2>")]
    outcomes = re.findall(r'<article class="check (\w+)"', group)
    assert outcomes[:3] == ["failed", "unanswered", "passed"]
    assert html.count("<details open>") == 2
    assert group.count("<details open>") == 1
    assert group.index("<details open>") < group.index("<details>")


def test_hostile_text_is_shown_and_never_markup() -> None:
    document = proof_documents.hostile()
    harmless = proof_documents.hostile("harmless")

    shown = page(document)

    assert set(shown.tags) <= set(page(harmless).tags)
    assert shown.text.startswith("Failed <script>alert('x')</script>\"&'{{ 7*7 }}\ufffd\ufffd[31m]]>")
    fields = ("<script>alert('x')</script>\"&'{{ 7*7 }}", "49")
    assert [field in shown.text for field in fields] == [True, False]


@given(text=st.text(alphabet=st.characters(exclude_categories=[]), max_size=12), number=st.floats() | st.none())
def test_any_text_and_number_makes_a_page_that_can_be_written(text: str, number: float | None) -> None:
    document = {
        "reason": text,
        "ami_id": text,
        "began_at": text,
        "checks": [{"check_id": "x", "name": text, "passed": False, "evidence": {text: [text, number], "n": number}}],
        "series": [{"metric": text, "unit": text, "points": [["2030-01-02T03:04:00Z", number], [text, 1]]}],
        "timings": [{"name": text, "seconds": 1}],
        "cost": {"usd": number, "note": text},
    }

    html = proof_page.page(document)

    assert html.encode()
    assert Page(html).open == []


@pytest.mark.parametrize("field", proof_documents.passed())
@pytest.mark.parametrize("absent", [True, False])
def test_document_without_a_field_makes_a_page(field: str, *, absent: bool) -> None:
    document = proof_documents.passed(2, 3, 6)
    if absent:
        del document[field]
    else:
        document[field] = None

    assert page(document).open == []


def test_fields_within_may_be_absent_too() -> None:
    document = {
        "checks": [{"check_id": "x", "name": "n", "passed": True, "reason": "r"}],
        "series": [{}, {"points": [["no time", 1], ["2030-01-02T03:04:00+00:00", None]]}, {"metric": "Odd"}],
        "load": [{}, {"steps": [{}]}, {"steps": [{"at": "2030-01-02T03:04:05+00:00"}]}],
        "timings": [{}],
        "cost": {},
        "destroyed": {},
        "kept": {},
    }

    assert page(document).open == []


def test_another_document_is_refused_in_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"This is no document of a proof \(Expected `array`.*\); give proof\.json"):
        proof_page.page({"checks": "none"})


def test_units_are_those_of_people() -> None:
    html = proof_page.page(proof_documents.passed())

    for top in ("15 GiB", "100 %", "50 °C", "75 W", "2,000 MHz", "6,000 J"):
        assert f">{top}</text>" in html
    assert re.search(r"Temperature <span>38\.\d to 47\.\d °C</span>", html)


def test_staircase_has_the_steps_the_allocations_and_what_was_published() -> None:
    html = proof_page.page(proof_documents.passed())

    figure = html[html.index("<figcaption>GPU 0") :].split("</figure>")[0]
    assert re.findall(r'<text class="mark"[^>]*>([^<]*)</text>', figure) == ["25 %", "50 %", "75 %", "freed"]
    assert figure.count('class="held"') == 3
    assert figure.count('class="l g0"') == figure.count('class="n g0"') == 1
    assert "10:04:04 3.75 GiB allocated in all; 10:06:04 7.5 GiB allocated in all" in figure
    assert "published 369 MiB to 11.6 GiB" in figure
    published_before = re.findall(r'class="l g0" d="M0 (\d+)h', figure)
    assert re.findall(r'class="held" d="M\d+ (\d+)V', figure) == published_before * 3  # on top of what was used
    assert re.findall(r'class="held" d="M\d+ \d+V(\d+)H', figure) == [
        "726",
        "476",
        "226",
    ]  # thousandths of 15 GiB, down


@pytest.mark.parametrize("has_series", [True, False])
def test_load_of_some_seconds_is_shown_in_seconds_with_what_was_read_back(*, has_series: bool) -> None:
    document = proof_documents.quick(2)
    if not has_series:
        document["series"] = []
        document["began_at"] = ""

    html = proof_page.page(document)

    figure = html[html.index("<figcaption>GPU 0") :].split("</figure>")[0]
    ticks = re.findall(r'class="hour"[^>]*>([^<]*)<', figure)
    if has_series:
        assert ticks == ["10:04:10", "10:04:20", "10:04:30"]
        assert "MemoryUsed <span>" in html  # minute by minute, which cannot follow seconds
    assert '"l g' not in figure
    assert figure.count('class="held"') == 3
    assert len(re.findall(r"M\d+ \d+h0", figure[figure.index('class="seen"') :])) == 3
    assert "no datapoint" not in figure
    assert html.count("read back from CloudWatch after each step") == 1


@pytest.mark.parametrize(
    "evidence", [{"steps": None}, {"steps": [1, {}, {"gpu": "0", "at": 1, "rise_bytes": "x"}]}, [], None]
)
def test_other_evidence_of_the_steps_breaks_nothing(evidence: Any) -> None:
    document = proof_documents.quick()
    next(entry for entry in document["checks"] if entry["check_id"] == "memory_rises")["evidence"] = evidence

    assert 'class="seen"' not in proof_page.page(document)


def test_staircases_have_the_same_axis() -> None:
    html = proof_page.page(proof_documents.passed(8, 4))
    staircases = html[html.index("multiples stairs") : html.index("<h2>Other metrics</h2>")].split("<figure>")[1:]

    axes = [re.findall(r'class="tick"[^>]*>([^<]*)<', figure) for figure in staircases]
    assert axes == [["0", "5", "10", "15 GiB"]] * 8


def test_metric_has_a_line_for_each_gpu_and_the_load_behind() -> None:
    html = proof_page.page(proof_documents.passed(4))

    figure = html[html.index(">GpuUtilization <span>") :].split("</figure>")[0]
    assert re.findall(r'<path class="(.*?)"', figure) == ["load", "l g0", "l g1", "l g2", "l g3"]
    assert "GPU 3: 0 to" not in figure
    assert "GPU 3: 3 to " in figure  # in the description, for whoever cannot see the lines


def test_missing_minutes_are_gaps_and_missing_series_are_named() -> None:
    html = proof_page.page(proof_documents.failed())

    lines = re.findall(r'<path class="l g2" d="(.*?)"', html[html.index("<h3>GPU</h3>") :])
    assert lines
    assert all(data.count("M") == 2 for data in lines)
    power = html[html.index(">PowerDraw <span>") :].split("</figure>")[0]
    assert "no datapoint: GPU 3" in power
    assert "Never arrived: ProcessCount" in html


def test_series_of_another_instance_is_told_apart() -> None:
    document = proof_documents.passed()
    document["series"][0]["dimensions"] = {"InstanceId": "i-0fedcba9876543210", "GpuIndex": "0"}

    assert "GPU 0 of i-0fedcba9876543210: 0 to" in proof_page.page(document)


def test_metrics_that_never_changed_are_folded() -> None:
    html = proof_page.page(proof_documents.passed())

    folded = html[html.index('<details class="still">') :]
    assert "Metrics that never changed (15)" in folded
    assert "GpuUp <span>1</span>" in folded
    assert "GpuUtilization <span>" not in folded


def test_description_of_a_metric_is_that_of_the_metric_data() -> None:
    assert "Temperature of the GPU die in degrees Celsius." in proof_page.page(proof_documents.passed())


def test_times_of_another_zone_are_shown_in_utc() -> None:
    assert "22 November 2026, 09:00:05 UTC" in page({"proved_at": "2026-11-22T10:00:05+01:00"}).text


@pytest.mark.parametrize(
    ("destroyed", "kept", "words"),
    [
        (
            {"verified": True, "asked": ["instances", "volumes"], "left": []},
            {},
            "Nothing: the API was asked after the run",
        ),
        ({"verified": False, "asked": [], "left": ["i-1"]}, {}, "Still there after the run: i-1"),
        ({"verified": True, "asked": [], "left": ["i-1"]}, {}, "Still there after the run: i-1"),
        ({"verified": False, "asked": [], "left": []}, {}, "Unknown: what was destroyed could not be verified."),
        ({}, {"ssh": "ssh -i key admin@198.51.100.7"}, "The instance was kept. ssh ssh -i key admin@198.51.100.7"),
        ({}, {}, "Nothing was recorded."),
    ],
)
def test_what_is_left_is_said(destroyed: dict[str, Any], kept: dict[str, str], words: str) -> None:
    assert f"What is left {words}" in page({"destroyed": destroyed, "kept": kept}).text


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        ({"usd": 0.137, "hourly_usd": 0.526, "note": "on demand"}, "About 0.14 USD, at 0.526 USD an hour (on demand)."),
        ({"usd": None, "hourly_usd": None, "note": "no price list offline"}, "Unknown (no price list offline)."),
    ],
)
def test_cost_is_said(cost: dict[str, Any], words: str) -> None:
    assert f"Cost {words}" in page({"cost": cost}).text


def test_timings_are_bars_with_their_phases() -> None:
    html = proof_page.page(proof_documents.passed())

    rows = re.findall(r'<tr class="([a-z ]+)"><td>(.*?)<span class="bar" style="width: (.*?)%">', html)
    assert rows[1:5] == [
        ("step", "launch with Terraform", "11.7"),
        ("phase", "init", "1.0"),
        ("phase", "apply", "10.8"),
        ("phase deep", "wait for SSH", "7.5"),
    ]


def test_evidence_of_hundreds_of_rows_is_cut_and_says_so() -> None:
    rows = [{"file": f"/etc/{number}", "size_bytes": 2048} for number in range(130)]
    document = {"checks": [{"check_id": "x", "name": "n", "passed": True, "reason": "r", "evidence": {"files": rows}}]}

    text = page(document).text

    assert "/etc/99 2 KiB and 30 more: the proof's JSON has them all" in text
    assert "/etc/100" not in text


def test_evidence_that_could_not_be_read_is_unknown_and_not_zero() -> None:
    evidence: dict[str, Any] = {
        "free_bytes": None,
        "used_bytes": 0,
        "seen": False,
        "load": math.nan,
        "log": "a\nb",
        "rows": [],
    }
    document = {"checks": [{"check_id": "x", "name": "n", "passed": True, "reason": "r", "evidence": evidence}]}

    assert "free unknown used 0 B seen no load nan log a b rows none" in page(document).text


def test_page_of_eight_gpus_and_sixty_metrics_is_small_and_soon_made() -> None:
    document = json.loads(json.dumps(DOCUMENTS["large"]))

    begin = time.process_time()
    html = proof_page.page(document)

    assert time.process_time() - begin < 5  # 0.2 s; a loop over all points per point would take minutes
    assert len(html.encode()) < 400_000
    assert HOSTILE not in html
