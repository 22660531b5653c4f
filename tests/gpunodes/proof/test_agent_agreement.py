"""The agent's memory, swap and disk, seen through CloudWatch and on the instance."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from gpunodes.proof.agent_agreement import agent_agrees_with_host
from gpunodes.proof.datapoints import Minute, Published
from gpunodes.proof.nvml_readings import NvmlReadings
from gpunodes.proof.promised_metrics import agent_series_of, promised_by_agent
from tests.gpunodes.fakes import INSTANCE_ID

BEGAN = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
PROMISED = agent_series_of(promised_by_agent(), INSTANCE_ID, "ext4")
USED = {"mem_used_percent": 12.0, "swap_used_percent": 0.0, "disk_used_percent": 61.0}


def minute(value: float, number: int = 0, count: float = 60) -> Minute:
    return Minute(BEGAN + timedelta(minutes=number), value, value, value, count)


@pytest.fixture
def local() -> NvmlReadings:
    return NvmlReadings({("", reader): [minute(value, number) for number in (1, 2)] for reader, value in USED.items()})


@pytest.fixture
def published() -> Published:
    return {series: [minute(USED[series.metric], 1, 1)] for series in PROMISED}


def named(published: Published, metric: str, value: float) -> Published:
    return {series: [minute(value, 1, 1)] if series.metric == metric else seen for series, seen in published.items()}


def test_what_the_instance_said_agrees(published: Published, local: NvmlReadings) -> None:
    outcome = agent_agrees_with_host(PROMISED, published, local)

    assert (outcome.passed, outcome.evidence["compared"]) == (True, 3)
    assert json.dumps(outcome.evidence)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("mem_used_percent", 88.0),  # what is free
        ("mem_used_percent", 0.12),  # a share instead of a percentage
        ("swap_used_percent", 50.0),
        ("disk_used_percent", 39.0),
    ],
)
def test_another_value_is_named_beside_what_the_instance_said(
    published: Published, local: NvmlReadings, metric: str, value: float
) -> None:
    outcome = agent_agrees_with_host(PROMISED, named(published, metric, value), local)

    assert outcome.passed is False
    said = f"{USED[metric]:.3g} to {USED[metric]:.3g} on the instance"
    assert outcome.reason == f"{metric} at 10:01 is {value:.3g} in CloudWatch and {said}"


def test_versions_of_the_agent_may_count_buffers_in_or_out(published: Published, local: NvmlReadings) -> None:
    assert agent_agrees_with_host(PROMISED, named(published, "mem_used_percent", 16.9), local).passed is True
    assert agent_agrees_with_host(PROMISED, named(published, "mem_used_percent", 17.1), local).passed is False


@pytest.mark.parametrize(("number", "passed"), [(0, True), (3, True), (4, False), (60, False)])
def test_a_datapoint_is_compared_with_the_minutes_around_it(local: NvmlReadings, *, number: int, passed: bool) -> None:
    moved = {series: [minute(USED[series.metric], number, 1)] for series in PROMISED}

    outcome = agent_agrees_with_host(PROMISED, moved, local)

    assert outcome.passed is passed
    assert ("could be compared" in outcome.reason) is not passed


@pytest.mark.parametrize("lacking", ["swap_used_percent", "disk_used_percent"])
def test_metric_that_cannot_be_compared_is_no_pass(published: Published, local: NvmlReadings, lacking: str) -> None:
    some = {series: [] if series.metric == lacking else seen for series, seen in published.items()}

    outcome = agent_agrees_with_host(PROMISED, some, local)

    assert (outcome.passed, outcome.reason) == (False, f"nothing of {lacking} could be compared")


def test_nothing_promised_is_no_pass(local: NvmlReadings) -> None:
    assert agent_agrees_with_host({}, {}, local).passed is False
