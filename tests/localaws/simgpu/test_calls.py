"""Calls about one thing each, as monitoring tools make them."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

NOT_SUPPORTED = "error 3"


def test_remapped_rows_are_those_of_ampere_and_later(bare_machine: Any) -> None:
    bare_machine.gpus.install("p4d.24xlarge", "i-1")
    bare_machine.gpus.set(
        0,
        remapped_rows_correctable=4,
        remapped_rows_uncorrectable=3,
        remapped_rows_pending=1,
        remapped_rows_failure=0,
    )
    assert bare_machine.nvml_of(0, "n.nvmlDeviceGetRemappedRows(h)") == [4, 3, 1, 0]

    bare_machine.gpus.install("g4dn.xlarge", "i-1")
    assert bare_machine.nvml_of(0, "call(n.nvmlDeviceGetRemappedRows, h)") == NOT_SUPPORTED


PAGES = """[n.nvmlDeviceGetRetiredPages(h, 0), n.nvmlDeviceGetRetiredPages_v2(h, 1),
            n.nvmlDeviceGetRetiredPagesPendingStatus(h)]"""


def test_retired_pages_are_listed_by_cause(bare_machine: Any) -> None:
    bare_machine.gpus.install("p3.2xlarge", "i-1")
    assert bare_machine.nvml_of(0, PAGES) == [[], [], 0]

    bare_machine.gpus.set(0, retired_pages_sbe=2, retired_pages_dbe=1, retired_pages_pending=1)

    assert bare_machine.nvml_of(0, PAGES) == [[4096, 8192], [{"address": 4096, "timestamp": 1}], 1]


def test_retired_pages_are_not_supported_where_rows_are_remapped(machine: Any) -> None:
    queries = "[call(n.nvmlDeviceGetRetiredPages, h, 0), call(n.nvmlDeviceGetRetiredPagesPendingStatus, h)]"
    assert machine.nvml_of(0, queries) == [NOT_SUPPORTED] * 2


def test_violation_times_by_policy(machine: Any) -> None:
    keys = ("power", "thermal", "sync_boost", "board_limit", "low_utilization", "reliability")
    machine.gpus.set(0, **{f"violation_{key}_nanoseconds": 10**10 + place for place, key in enumerate(keys)})
    queries = """[n.nvmlDeviceGetViolationStatus(h, policy).violationTime for policy in range(6)] + [
        call(n.nvmlDeviceGetViolationStatus, h, policy) for policy in (10, 99)]"""
    assert machine.nvml_of(0, queries) == [*range(10**10, 10**10 + 6), NOT_SUPPORTED, "error 2"]


def test_the_margin_to_the_thermal_limit_is_known_from_ada_on(bare_machine: Any) -> None:
    bare_machine.gpus.install("g6.xlarge", "i-1")
    assert bare_machine.nvml_of(0, "n.nvmlDeviceGetMarginTemperature(h)") == 57
    bare_machine.gpus.install("g5.xlarge", "i-1")
    assert bare_machine.nvml_of(0, "call(n.nvmlDeviceGetMarginTemperature, h)") == NOT_SUPPORTED


def test_links_are_up_unless_they_are_down(bare_machine: Any) -> None:
    bare_machine.gpus.install("p3.16xlarge", "i-1")
    states = "[call(n.nvmlDeviceGetNvLinkState, h, link) for link in range(7)]"
    assert bare_machine.nvml_of(0, states) == [1] * 6 + ["error 2"]

    bare_machine.gpus.set(0, nvlink_down_mask=0b000101)

    assert bare_machine.nvml_of(0, states) == [0, 1, 0, 1, 1, 1, "error 2"]


@pytest.mark.parametrize(("instance_type", "state"), [("g5.12xlarge", NOT_SUPPORTED), ("p3.2xlarge", 0)])
def test_a_card_without_a_neighbour_has_no_active_link(bare_machine: Any, instance_type: str, state: Any) -> None:
    bare_machine.gpus.install(instance_type, "i-1")
    assert bare_machine.nvml_of(0, "call(n.nvmlDeviceGetNvLinkState, h, 0)") == state


def test_pcie_throughput_takes_20_ms_to_measure(machine: Any) -> None:
    machine.gpus.set(0, pcie_tx_kib_per_second=1000, pcie_rx_kib_per_second=2000)
    code = """
import time
n.nvmlInit()
h, began = n.nvmlDeviceGetHandleByIndex(0), time.monotonic()
result = [n.nvmlDeviceGetPcieThroughput(h, counter) for counter in (0, 1)] + [time.monotonic() - began]
"""
    *found, seconds = machine.nvml(code)
    assert found == [1000, 2000]
    assert seconds >= 0.04


FACTS = """[n.nvmlDeviceGetPowerState(h), n.nvmlDeviceGetBoardId(h), n.nvmlDeviceGetNumGpuCores(h),
    n.nvmlDeviceGetBrand(h), n.nvmlDeviceGetMemoryBusWidth(h), n.nvmlDeviceGetComputeMode(h),
    n.nvmlDeviceGetDisplayMode(h), n.nvmlDeviceGetDisplayActive(h), n.nvmlDeviceGetVbiosVersion(h),
    n.nvmlDeviceGetBAR1MemoryInfo(h).bar1Total // 2**20]"""


@pytest.mark.parametrize(
    ("instance_type", "facts"),
    [
        ("g4dn.xlarge", [8, 0x1E, 2560, 2, 256, 0, 0, 0, "90.04.96.00.01", 256]),
        ("p5.48xlarge", [0, 0x5300, 16896, 14, 5120, 0, 0, 0, "96.00.74.00.01", 131072]),
    ],
)
def test_facts_of_a_model(bare_machine: Any, instance_type: str, facts: list[Any]) -> None:
    bare_machine.gpus.install(instance_type, "i-1")
    assert bare_machine.nvml_of(0, FACTS) == facts


def test_applications_run_as_fast_as_they_can(machine: Any) -> None:
    clocks = "[n.nvmlDeviceGetApplicationsClock(h, kind) for kind in (n.NVML_CLOCK_GRAPHICS, n.NVML_CLOCK_MEM)]"
    assert machine.nvml_of(0, clocks) == [1710, 6251]


def test_there_are_no_driver_models_on_linux(machine: Any) -> None:
    assert machine.nvml_of(0, "call(n.nvmlDeviceGetDriverModel, h)") == NOT_SUPPORTED


def test_a_process_has_the_name_of_its_program(machine: Any) -> None:
    code = f"""
import os
n.nvmlInit()
short = __import__("ctypes").create_string_buffer(4)
result = [text(n.nvmlSystemGetProcessName(os.getpid())), call(n.nvmlSystemGetProcessName, 2**31),
    n.nvmlLib.nvmlSystemGetProcessName({os.getpid()}, short, 4), len(short.value)]
"""
    assert machine.nvml(code) == [sys.executable, "error 6", 0, 3]


def test_processes_share_the_load_of_their_gpu(machine: Any) -> None:
    queries = (
        """[[s.pid, s.smUtil, s.memUtil, s.encUtil, s.decUtil] for s in n.nvmlDeviceGetProcessUtilization(h, 0)]"""
    )
    nothing = f"call(lambda: {queries})"
    assert machine.nvml_of(0, nothing) == "error 6"

    first, second = machine.cuda(), machine.cuda()
    assert machine.nvml_of(0, nothing) == "error 6"  # idle
    machine.gpus.set(0, utilization_gpu_percent=90, utilization_memory_percent=40)

    assert machine.nvml_of(0, queries) == sorted([[first.pid, 45, 20, 0, 0], [second.pid, 45, 20, 0, 0]])
