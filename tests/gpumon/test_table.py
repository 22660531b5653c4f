from __future__ import annotations

import json

from gpumon import table
from gpumon.metrics import load_metrics
from tests.gpumon.fakes import GPU, OTHER_GPU, gpu_sample

SAMPLES = (gpu_sample(GPU, memory_used_bytes=3 * 2**20, power_watts=70.25), gpu_sample(OTHER_GPU, memory_used_bytes=0))


def test_a_person_sees_units_zero_as_zero_and_a_dash_for_what_could_not_be_read() -> None:
    rows = {line.split()[0]: line.split()[1:] for line in table.as_table(SAMPLES, load_metrics()).splitlines()}

    assert rows["MemoryUsed"] == ["3", "MiB", "0", "MiB"]
    assert rows["PowerDraw"] == ["70.2", "W", "-"]
    assert rows["uuid"] == ["GPU-aaaa", "GPU-bbbb"]


def test_a_program_gets_the_published_names_and_null() -> None:
    first, second = json.loads(table.as_json(SAMPLES, load_metrics()))["gpus"]

    assert first["metrics"]["MemoryUsed"] == 3 * 2**20
    assert (second["uuid"], second["metrics"]["PowerDraw"]) == ("GPU-bbbb", None)
