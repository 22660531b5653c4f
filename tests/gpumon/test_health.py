from __future__ import annotations

import pytest

from gpumon.health import degradations, unhealthy_reason
from gpumon.metrics import load_metrics

GOOD = {
    "gpu_up": 1.0,
    "recovery_action": 0.0,
    "row_remap_failure": 0.0,
    "row_remap_pending": 0.0,
    "retired_pages_pending_count": 0.0,
    "pcie_link_degraded": 0.0,
    "ecc_uncorrectable_count": 0.0,
    "persistence_mode": 1.0,
    "throttled_thermal_percent": 0.0,
    "throttled_hw_slowdown_percent": 0.0,
    "throttled_power_brake_percent": 0.0,
    "throttled_power_percent": 100.0,
}


def test_a_good_gpu_has_neither_reason_even_at_its_power_limit() -> None:
    assert unhealthy_reason(GOOD) is None
    assert degradations(GOOD) == ()


def test_what_cannot_be_read_is_no_reason() -> None:
    assert unhealthy_reason({}) is None
    assert unhealthy_reason(dict.fromkeys(GOOD)) is None
    assert degradations(dict.fromkeys(GOOD)) == ()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"gpu_up": 0.0, "recovery_action": 1.0}, "lost"),
        ({"recovery_action": 1.0}, "asks for a reset of the GPU"),
        ({"recovery_action": 2.0}, "reboot of the host"),
        ({"recovery_action": 3.0}, "drain peer-to-peer traffic"),
        ({"recovery_action": 4.0}, "drain the GPU and reset"),
        ({"recovery_action": 5.0}, "restart the IMEX domain"),
        ({"recovery_action": 9.0}, "recovery action 9"),
        ({"row_remap_failure": 1.0}, "could not be replaced"),
    ],
)
def test_what_makes_a_gpu_unfit_for_work_is_named(values: dict[str, float], words: str) -> None:
    assert words in (unhealthy_reason(GOOD | values) or "")


def test_critical_xids_count_only_where_the_driver_does_not_say_what_to_do() -> None:
    silent = {name: value for name, value in GOOD.items() if name != "recovery_action"}

    assert unhealthy_reason(GOOD, xid_critical_count=2) is None
    assert unhealthy_reason(silent, xid_critical_count=2) == "2 critical Xid error(s)"
    assert unhealthy_reason(silent | {"xid_critical_count": 1.0}) == "1 critical Xid error(s)"
    assert unhealthy_reason({**GOOD, "recovery_action": None}, 1) == "1 critical Xid error(s)"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("row_remap_pending", 1.0, "row of memory waits"),
        ("retired_pages_pending_count", 3.0, "pages of memory wait"),
        ("pcie_link_degraded", 1.0, "PCIe link"),
        ("ecc_uncorrectable_count", 1.0, "uncorrectable memory errors"),
        ("persistence_mode", 0.0, "persistence mode is off"),
        ("throttled_thermal_percent", 100.0, "temperature"),
        ("throttled_hw_slowdown_percent", 100.0, "hardware holds"),
        ("throttled_power_brake_percent", 0.5, "power brake"),
    ],
)
def test_what_degrades_a_gpu_is_named(name: str, value: float, words: str) -> None:
    (found,) = degradations(GOOD | {name: value})

    assert words in found.reason
    assert found.advice.endswith(".")
    assert unhealthy_reason(GOOD | {name: value}) is None


def test_several_reasons_are_all_named() -> None:
    assert len(degradations(GOOD | {"row_remap_pending": 1.0, "persistence_mode": 0.0})) == 2


def test_every_value_is_one_that_readers_give() -> None:
    assert set(GOOD) <= {metric.reader for metric in load_metrics()}
