from __future__ import annotations

import stat
from pathlib import Path

import pytest

from localaws.simgpu.errors import StateError, UnknownGpuError, UnknownValueError
from localaws.simgpu.gpus import SimulatedGpus

ENERGY = "energy_millijoules"


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_000

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gpus(tmp_path: Path, clock: Clock) -> SimulatedGpus:
    gpus = SimulatedGpus(tmp_path / "state", clock_ns=clock)
    gpus.install("g4dn.12xlarge", "i-1")
    return gpus


@pytest.mark.parametrize("index", [4, -1])
def test_an_index_without_a_gpu_is_refused(gpus: SimulatedGpus, index: int) -> None:
    with pytest.raises(UnknownGpuError, match="from 0 to 3"):
        gpus.set(index, temperature_celsius=50)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperatur": 3}, "Unknown value 'temperatur'"),
        ({"lost": 1}, "Unknown value 'lost'"),
        ({"utilization_gpu_percent": 101}, "from 0 to 100"),
        ({"temperature_celsius": -1}, "from 0"),
        ({"clock_sm_mhz": 2**32}, "to 4294967295"),
        ({"memory_used_bytes": 16 * 2**30}, "not reserved"),
        ({"temperatur": None}, "Unknown value"),
    ],
)
def test_values_that_no_gpu_has_are_refused_and_nothing_changes(
    gpus: SimulatedGpus, values: dict[str, int | None], message: str
) -> None:
    before = gpus.read(0)
    with pytest.raises(UnknownValueError, match=message):
        gpus.set(0, power_milliwatts=5, **values)
    assert gpus.read(0) == before


@pytest.mark.parametrize(
    ("function", "code", "message"),
    [
        ("nvmlDeviceGetPowerUsag", 3, "Unknown NVML function"),
        ("nvmlShutdown", 3, "Unknown NVML function"),
        ("nvmlDeviceGetPowerUsage", 0, "return code"),
        ("nvmlDeviceGetPowerUsage", 77, "return code"),
    ],
)
def test_faults_that_cannot_happen_are_refused(gpus: SimulatedGpus, function: str, code: int, message: str) -> None:
    with pytest.raises(UnknownValueError, match=message):
        gpus.fail(0, function, code)


def test_a_machine_without_gpus_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="Install GPUs first"):
        SimulatedGpus(tmp_path / "none").lose(0)
    with pytest.raises(StateError, match="Install GPUs first"):
        SimulatedGpus(tmp_path / "none").xid(0, 79)


def test_a_state_of_an_earlier_release_says_what_to_do(gpus: SimulatedGpus, tmp_path: Path) -> None:
    (tmp_path / "state" / "kmsg").unlink()
    with pytest.raises(StateError, match=r"Install GPUs first: cannot read .*kmsg"):
        gpus.xid(0, 79)


def test_energy_is_the_integral_of_power(gpus: SimulatedGpus, clock: Clock) -> None:
    gpus.set(0, power_milliwatts=70_000)
    clock.now_ns += 10 * 10**9
    gpus.set(0, power_milliwatts=10_000)
    clock.now_ns += 3 * 10**9
    gpus.set(0, temperature_celsius=40)

    assert gpus.read(0)[ENERGY] == str(700_000 + 30_000)


def test_loading_the_driver_resets_what_lives_as_long_as_the_driver(gpus: SimulatedGpus) -> None:
    gpus.set(0, energy_millijoules=5, ecc_corrected_volatile=6, ecc_corrected_aggregate=7)
    gpus.load_driver()  # loaded already: nothing is lost
    assert gpus.read(0)[ENERGY] == "5"

    gpus.unload_driver()
    gpus.load_driver()

    state = gpus.read(0)
    assert (state[ENERGY], state["ecc_corrected_volatile"], state["ecc_corrected_aggregate"]) == ("0", "0", "7")


def test_power_is_the_same_whichever_call_reports_it_unless_told_otherwise(gpus: SimulatedGpus) -> None:
    gpus.set(0, power_milliwatts=50_000)
    assert gpus.read(0)["power_instant_milliwatts"] == "50000"
    assert "power_average_milliwatts" not in gpus.read(0)  # a T4 has none

    gpus.set(0, power_milliwatts=60_000, power_instant_milliwatts=65_000)

    assert gpus.read(0)["power_instant_milliwatts"] == "65000"


def test_the_energy_counter_wraps(gpus: SimulatedGpus, clock: Clock) -> None:
    gpus.set(0, energy_millijoules=2**64 - 1, power_milliwatts=70_000)
    clock.now_ns += 10**9
    gpus.set(0, temperature_celsius=40)
    assert gpus.read(0)[ENERGY] == str(70_000 - 1)


@pytest.mark.parametrize(
    ("key", "pattern"),
    [("utilization_gpu_percent", []), ("utilization_memory_percent", [101]), ("temperature_celsius", [1])],
)
def test_patterns_that_no_gpu_has_are_refused(gpus: SimulatedGpus, key: str, pattern: list[int]) -> None:
    with pytest.raises(UnknownValueError):
        gpus.set_samples(0, **{key: pattern})


@pytest.mark.parametrize(("field", "code"), [(0, 3), (-1, 3), (94, 0)])
def test_field_faults_that_cannot_happen_are_refused(gpus: SimulatedGpus, field: int, code: int) -> None:
    with pytest.raises(UnknownValueError):
        gpus.fail_field(0, field, code)


def test_loading_the_driver_resets_throttling_times(gpus: SimulatedGpus) -> None:
    gpus.set(0, violation_power_nanoseconds=5, slowdown_hw_thermal_nanoseconds=6)
    gpus.unload_driver()
    gpus.load_driver()
    state = gpus.read(0)
    assert (state["violation_power_nanoseconds"], state["slowdown_hw_thermal_nanoseconds"]) == ("0", "0")


def test_the_pci_devices_look_like_those_of_sysfs(gpus: SimulatedGpus, tmp_path: Path) -> None:
    devices = tmp_path / "state" / "pci"
    assert [path.name for path in sorted(devices.iterdir())] == [f"0000:00:1{digit}.0" for digit in "bcde"]
    found = [(devices / "0000:00:1b.0" / name).read_text() for name in ("vendor", "device", "class")]
    assert found == ["0x10de\n", "0x1eb8\n", "0x030200\n"]

    gpus.install("g4dn.xlarge", "i-1")

    assert [path.name for path in devices.iterdir()] == ["0000:00:1e.0"]
    assert stat.S_IMODE(devices.stat().st_mode) == 0o755


@pytest.mark.parametrize("version", ["", "1\n2", "5" * 64])
def test_a_driver_version_must_fit_into_what_nvml_reports(gpus: SimulatedGpus, version: str) -> None:
    with pytest.raises(UnknownValueError):
        gpus.upgrade_driver(version)
    assert gpus.driver_version == "580.95.05"


def test_a_full_directory_of_drafts_is_never_left_behind(gpus: SimulatedGpus, tmp_path: Path) -> None:
    gpus.set(0, temperature_celsius=40)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [
        "driver", "events", "gpu0", "gpu1", "gpu2", "gpu3", "kmsg", "pci", "processes",
    ]  # fmt: skip
