from __future__ import annotations

from typing import Any

import pytest

UINT_MAX = 2**32 - 1
NOT_SUPPORTED, INVALID_ARGUMENT = 3, 2
# Each entry's code and value; the member of the union follows from the entry's own type.
READ = """
def read(h, *fields):
    members = {n.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal", n.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal"}
    return [v.nvmlReturn and f"error {v.nvmlReturn}" or getattr(v.value, members[v.valueType])
            for v in n.nvmlDeviceGetFieldValues(h, list(fields))]

n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
"""


def read(machine: Any, *fields: int | tuple[int, int]) -> Any:
    return machine.nvml(f"{READ}\nresult = read(h, *{fields!r})")


# State key, a value, field id; on a p5.48xlarge unless its cards cannot report it.
PLAIN = [
    ("ecc_mode_pending", 0, 2),
    ("ecc_corrected_volatile", 2**63, 3),
    ("ecc_uncorrected_volatile", 4, 4),
    ("ecc_corrected_aggregate", 5, 5),
    ("ecc_uncorrected_aggregate", 6, 6),
    ("nvlink_crc_flit_errors", 38, 38),
    ("nvlink_crc_data_errors", 45, 45),
    ("nvlink_replay_errors", 52, 52),
    ("nvlink_recovery_errors", 2**64 - 1, 59),
    ("violation_power_nanoseconds", 2**64 - 1, 74),
    ("violation_thermal_nanoseconds", 75, 75),
    ("violation_sync_boost_nanoseconds", 76, 76),
    ("violation_board_limit_nanoseconds", 77, 77),
    ("violation_low_utilization_nanoseconds", 78, 78),
    ("violation_reliability_nanoseconds", 79, 79),
    ("memory_temperature_celsius", 95, 82),
    ("pcie_replay_count", 94, 94),
    ("remapped_rows_correctable", 142, 142),
    ("remapped_rows_uncorrectable", 143, 143),
    ("remapped_rows_pending", 1, 144),
    ("remapped_rows_failure", 1, 145),
    ("power_average_milliwatts", 185, 185),
    ("power_instant_milliwatts", 186, 186),
    ("power_limit_enforced_milliwatts", 190, 190),
    ("pcie_tx_bytes", 2**32 + 1, 197),
    ("pcie_rx_bytes", 2**64 - 1, 198),
    ("recovery_action", 2, 230),
    ("slowdown_sw_thermal_nanoseconds", 269, 269),
    ("slowdown_hw_thermal_nanoseconds", 270, 270),
    ("slowdown_power_brake_nanoseconds", 271, 271),
]


def test_fields_are_what_is_set_and_not_supported_when_taken_away(bare_machine: Any) -> None:
    bare_machine.gpus.install("p5.48xlarge", "i-1")
    fields = [field for _, _, field in PLAIN]

    bare_machine.gpus.set(0, **{key: value for key, value, _ in PLAIN})
    assert read(bare_machine, *fields) == [value for _, value, _ in PLAIN]

    bare_machine.gpus.set(0, **{key: 0 for key, _, _ in PLAIN})  # counters can go back
    assert read(bare_machine, *fields) == [0] * len(PLAIN)

    bare_machine.gpus.set(0, **{key: None for key, _, _ in PLAIN})
    assert read(bare_machine, *fields) == [f"error {NOT_SUPPORTED}"] * len(PLAIN)


def test_retired_pages_are_fields_of_the_older_cards(bare_machine: Any) -> None:
    bare_machine.gpus.install("g4dn.xlarge", "i-1")
    bare_machine.gpus.set(0, retired_pages_sbe=3, retired_pages_dbe=2, retired_pages_pending=1)
    assert read(bare_machine, 29, 30, 31) == [3, 2, 1]


UNSUPPORTED = f"error {NOT_SUPPORTED}"
# Retired pages, NVLink count, memory temperature, remapped rows, average power, PCIe bytes.
ASKED = (29, 91, 82, 142, 185, 197)
MODELS = [
    ("p3.8xlarge", [0, 6, 32, UNSUPPORTED, UNSUPPORTED, UNSUPPORTED]),
    ("g4dn.xlarge", [0, UNSUPPORTED, UNSUPPORTED, UNSUPPORTED, UNSUPPORTED, UNSUPPORTED]),
    ("g5.xlarge", [UNSUPPORTED, UNSUPPORTED, UNSUPPORTED, 0, 16000, UNSUPPORTED]),
    ("g6.xlarge", [UNSUPPORTED, UNSUPPORTED, UNSUPPORTED, 0, 12000, UNSUPPORTED]),
    ("p4d.24xlarge", [UNSUPPORTED, 12, 27, 0, UNSUPPORTED, UNSUPPORTED]),
    ("p5.48xlarge", [UNSUPPORTED, 18, 38, 0, 70000, 0]),
]


@pytest.mark.parametrize(("instance_type", "expected"), MODELS)
def test_a_model_reports_what_the_real_one_can(bare_machine: Any, instance_type: str, expected: list[Any]) -> None:
    bare_machine.gpus.install(instance_type, "i-1")
    assert read(bare_machine, *ASKED) == expected


def test_a_link_counts_its_share_and_the_shares_add_up(bare_machine: Any) -> None:
    bare_machine.gpus.install("p4d.24xlarge", "i-1")
    bare_machine.gpus.set(0, nvlink_data_tx_kib=12 * 1000 + 5, nvlink_replay_errors=13)

    shares = read(bare_machine, *((138, link) for link in range(12)))
    assert shares == [1001] * 5 + [1000] * 7
    assert read(bare_machine, (138, UINT_MAX), (138, 12)) == [12005, f"error {INVALID_ARGUMENT}"]
    assert read(bare_machine, (161, 0), (161, 1), (161, UINT_MAX)) == [2, 1, f"error {INVALID_ARGUMENT}"]


def test_bytes_and_errors_of_nvlink_5_are_there_when_they_are_set(bare_machine: Any) -> None:
    bare_machine.gpus.install("p5.48xlarge", "i-1")
    assert read(bare_machine, (202, 0), (204, 0), (208, 0)) == [UNSUPPORTED] * 3

    bare_machine.gpus.set(0, nvlink_xmit_bytes=18 * 7, nvlink_rcv_bytes=18 * 2**40, nvlink_rcv_errors=1)

    assert read(bare_machine, (202, 17), (204, 17), (208, 0), (208, 1)) == [7, 2**40, 1, 0]


def test_energy_and_power_scopes(machine: Any) -> None:
    machine.gpus.set(0, power_milliwatts=280_000, energy_millijoules=5_000)
    energy, gpu, module = read(machine, 83, (186, 0), (186, 1))
    assert energy >= 5_000
    assert (gpu, module) == (280_000, UNSUPPORTED)


def test_ecc_fields_are_not_supported_while_ecc_is_off(machine: Any) -> None:
    machine.gpus.set(0, ecc_mode=0)
    assert read(machine, 1, 3, 4, 5, 6) == [0] + [UNSUPPORTED] * 4


def test_fields_that_are_not_simulated_and_ids_that_do_not_exist(machine: Any) -> None:
    assert read(machine, 7, 99_999) == [UNSUPPORTED, f"error {INVALID_ARGUMENT}"]


def test_one_entry_fails_and_the_others_do_not(machine: Any) -> None:
    machine.gpus.fail_field(0, 94, 999)
    assert read(machine, 94, 230) == ["error 999", 0]

    machine.gpus.heal(0)
    assert read(machine, 94) == [0]


def test_the_whole_call_fails_as_others_do(machine: Any) -> None:
    machine.gpus.fail(0, "nvmlDeviceGetFieldValues", 999)
    assert machine.nvml_of(0, "call(n.nvmlDeviceGetFieldValues, h, [94])") == "error 999"
    assert machine.nvml_of(1, "n.nvmlDeviceGetFieldValues(h, [94])[0].nvmlReturn") == 0


def test_entries_carry_the_time_of_the_clock(machine: Any) -> None:
    code = """
import time
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
before, stamp, after = time.time(), n.nvmlDeviceGetFieldValues(h, [94])[0].timestamp, time.time()
result = before * 1e6 - 1 <= stamp <= after * 1e6 + 1
"""
    assert machine.nvml(code) is True
