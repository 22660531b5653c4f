from __future__ import annotations

from typing import TYPE_CHECKING

from gpumon.errors import DriverUnavailableError
from gpumon.metrics import load_metrics
from gpumon.own_metrics import OwnMetrics
from gpumon.publisher import DeliveryStats
from gpumon.readers import Due
from gpumon.sampler import Outcome
from gpumon.samples import Reading
from tests.gpumon.fakes import gpu_sample

if TYPE_CHECKING:
    from pathlib import Path


def outcome(at: float, reading: Reading | None = None, error: DriverUnavailableError | None = None) -> Outcome:
    return Outcome(0.0, at, 0.25, Due.SAMPLE, reading, error)


def test_all_of_it_is_in_the_table() -> None:
    values = OwnMetrics().values(0.0, [])

    assert set(values) <= {metric.reader for metric in load_metrics() if metric.scope == "host"}
    assert values["heartbeat"] == 1.0


def test_failed_calls_and_missing_drivers_are_errors() -> None:
    own = OwnMetrics()
    own.saw(outcome(1, Reading((), error_count=3)))
    own.saw(outcome(2, error=DriverUnavailableError("Load it.")))

    assert own.values(2, [])["collect_error_count"] == 4
    assert own.collect_seconds == 0.25


def test_the_age_of_the_data_grows_while_no_gpu_answers() -> None:
    own = OwnMetrics()
    assert own.values(5, [])["data_age_seconds"] is None

    own.saw(outcome(10, Reading((gpu_sample(gpu_up=1.0),))))
    own.saw(outcome(11, Reading((gpu_sample(gpu_up=0.0),))))

    assert own.values(40, [])["data_age_seconds"] == 30


def test_deliveries_of_all_sinks_are_summed_up() -> None:
    stats = [DeliveryStats(failed_calls=2, dropped_datums=5), DeliveryStats(failed_calls=1, dropped_datums=1)]

    values = OwnMetrics().values(0, stats)

    assert (values["publish_error_count"], values["dropped_datapoint_count"]) == (3, 6)


def test_memory_is_what_the_kernel_says(tmp_path: Path) -> None:
    (tmp_path / "statm").write_text("5000 1000 400 1 0 600 0\n")

    assert OwnMetrics(tmp_path / "statm").values(0, [])["process_resident_bytes"] == 1000 * 4096
    assert OwnMetrics(tmp_path / "none").values(0, [])["process_resident_bytes"] is None
