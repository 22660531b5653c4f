from __future__ import annotations

import dataclasses
import json
import math

from gpumon import table
from gpumon.metrics import load_metrics
from gpumon.samples import Gpu, GpuSample, MigInstance, Reading

METRICS = load_metrics()
FIRST = Gpu("GPU-aaaa", 0, "Tesla T4", "00000000:00:1E.0")
SECOND = Gpu("GPU-bbbb", 1, "Tesla T4")
PART = Gpu("GPU-aaaa", 0, "Tesla T4", mig=MigInstance(7, "1g.5gb", "MIG-cccc"))
READING = Reading(
    (
        GpuSample(
            FIRST,
            {
                "gpu_up": 1.0,
                "memory_used_bytes": 3 * 2**20,
                "power_watts": 70.25,
                "energy_millijoules": 5e6,
                "xid_error_count": 2.0,
                "gpu_utilization_percent": None,
                "throttle_time_power_nanoseconds": 1.5e9,
            },
            {"gpu_utilization_percent": (10.0, 30.0)},
        ),
        GpuSample(PART, {"memory_used_bytes": 2**20}),
        GpuSample(SECOND, {"gpu_up": 1.0, "memory_used_bytes": 0.0, "power_watts": None}),
    ),
    "570.1",
)
LOST = Reading((GpuSample(FIRST, {"gpu_up": 0.0}), GpuSample(SECOND, {"gpu_up": 1.0, "power_watts": 10.0})))
HOST = {"gpu_count": 2.0, "collect_seconds": None, "process_resident_bytes": 40 * 2**20}


def rows_of(text: str) -> dict[str, list[str]]:
    """Return the cells of each row by its label."""
    split = (line.split("  ", 1) for line in text.splitlines() if line)
    return {parts[0]: parts[1].split() if len(parts) > 1 else [] for parts in split}


def test_a_person_sees_units_zero_as_zero_and_a_dash_for_what_could_not_be_read() -> None:
    rows = rows_of(table.as_table(READING, METRICS, {}))

    assert rows["MemoryUsed (MiB)"] == ["3", "1", "0"]
    assert rows["PowerDraw (W)"] == ["70.2", "-", "-"]
    assert rows["GpuUtilization (%)"] == ["20", "-", "-"]
    assert rows["EnergyConsumed (kJ, in all)"] == ["5", "-", "-"]
    assert rows["XidErrors (in all)"] == ["2", "-", "-"]
    assert rows["ThrottleTimePower (s, in all)"] == ["1.5", "-", "-"]


def test_gpus_and_mig_instances_are_listed_with_their_names() -> None:
    lines = table.as_table(READING, METRICS, {}).splitlines()

    assert lines[:4] == [
        "driver 570.1",
        "GPU 0     Tesla T4  GPU-aaaa  00000000:00:1E.0",
        "GPU 0.7   MIG 1g.5gb  MIG-cccc",
        "GPU 1     Tesla T4  GPU-bbbb",
    ]
    assert lines[5].split() == ["core", "GPU", "0", "GPU", "0.7", "GPU", "1"]


def test_metrics_are_grouped_by_tier_and_those_that_nobody_read_are_left_out() -> None:
    text = table.as_table(READING, METRICS, {})
    labels = [line.split(" ")[0] for line in text.splitlines()[5:] if line]

    assert labels == [
        *("core", "GpuUtilization", "MemoryUsed", "PowerDraw", "EnergyConsumed"),
        *("health", "GpuUp", "XidErrors", "extended", "ThrottleTimePower"),
    ]


def test_a_lost_gpu_is_shown_as_lost() -> None:
    text = table.as_table(LOST, METRICS, {})

    assert "GPU 0     Tesla T4  GPU-aaaa  LOST  00000000:00:1E.0\n" in text
    assert rows_of(text)["PowerDraw (W)"] == ["lost", "10"]
    assert rows_of(text)["GpuUp"] == ["0", "1"]


def test_values_of_the_host_come_last() -> None:
    text = table.as_table(READING, METRICS, HOST)

    assert text.endswith("host\nGpuCount             2\nCollectDuration (s)  -\nProcessRss (MiB)     40\n")


def test_without_gpus_it_says_so() -> None:
    assert table.as_table(Reading(()), METRICS, {}) == "no GPU\n"


def test_90_metrics_of_8_gpus_fit_80_columns_in_blocks_and_a_wide_terminal_in_one() -> None:
    values = {metric.reader: 100.0 for metric in METRICS if metric.scope == "gpu"} | {"memory_used_bytes": 80e9}
    uuid = "GPU-01234567-89ab-cdef-0123-456789abcdef"
    gpus = tuple(Gpu(uuid, index, "NVIDIA A100-SXM4-80GB", "00000000:00:1E.0") for index in range(8))
    reading = Reading(tuple(GpuSample(gpu, values) for gpu in gpus))

    narrow = table.as_table(reading, METRICS, {}, 80)
    wide = table.as_table(reading, METRICS, {}, 200)

    blocks = narrow.split("\n\n")[1:]
    assert max(len(line) for line in narrow.splitlines()) <= 80
    assert "1E.0" in wide
    assert narrow.count("\nMemoryUsed (MiB)") == len(blocks) == 2
    assert wide.count("\nMemoryUsed (MiB)") == 1
    heads = [block.splitlines()[0] for block in blocks]
    assert [f"GPU {index}" for index in range(8) if any(f"GPU {index}" in head for head in heads)] == [
        f"GPU {index}" for index in range(8)
    ]


def test_a_terminal_that_is_too_narrow_shows_one_gpu_per_block() -> None:
    assert table.as_table(LOST, METRICS, {}, 1).count("\nPowerDraw (W)") == 2


def test_a_program_gets_the_published_names_and_units_and_null() -> None:
    document = json.loads(table.as_json(READING, METRICS, HOST))
    first, part, second = document["gpus"]

    assert first["metrics"]["MemoryUsed"] == 3 * 2**20
    assert first["metrics"]["EnergyConsumed"] == 5000
    assert first["metrics"]["GpuUtilization"] == 20
    assert (first["mig"], first["pci_bus_id"], first["lost"]) == (None, "00000000:00:1E.0", False)
    assert part["mig"] == {"gpu_instance_id": 7, "profile": "1g.5gb", "uuid": "MIG-cccc"}
    assert (second["uuid"], second["pci_bus_id"], second["metrics"]["PowerDraw"]) == ("GPU-bbbb", None, None)
    assert "Memory Usage" not in first["metrics"]
    assert document["host"] == {"GpuCount": 2, "CollectDuration": None, "ProcessRss": 40 * 2**20}
    assert document["driver_version"] == "570.1"


def test_a_program_gets_a_lost_gpu_marked() -> None:
    lost = json.loads(table.as_json(LOST, METRICS, {}))["gpus"][0]

    assert lost["lost"] is True
    assert {value for name, value in lost["metrics"].items() if name != "GpuUp"} == {None}


def test_what_cannot_be_a_measurement_is_neither_shown_nor_json_that_nobody_reads() -> None:
    odd = dataclasses.replace(READING.gpus[0], values={"power_watts": math.nan, "memory_used_bytes": -1.0}, bursts={})
    reading = Reading((odd,))

    assert rows_of(table.as_table(reading, METRICS, {}))["PowerDraw (W)"] == ["-"]
    assert "NaN" not in table.as_json(reading, METRICS, {})
