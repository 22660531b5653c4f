"""Field values: many numbers of a GPU in one call, each with its own return code."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import pynvml

from gpumon.readers.nvml.codes import SENTINELS, UNSUPPORTED, Code, binding, nvml_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gpumon.readers.nvml.codes import Outcome
    from gpumon.readers.nvml.probes import Values

_ALL_LINKS = 2**32 - 1
_KIB = 1 / 1024  # as a divisor
# A driver that is older than a field may know neither it nor its scope.
_FIELD_UNSUPPORTED = UNSUPPORTED | {Code.INVALID_ARGUMENT}
# By nvmlValueType_t: the member of the union that holds the value.
_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")

_get_field_values = binding("nvmlDeviceGetFieldValues")


class Field(NamedTuple):
    """One entry of the call.

    Attributes:
        value: Name of the value that it gives (or a part of it).
        id: NVML_FI_... of nvml.h, as a number: old bindings lack some names.
        scope: What of the GPU is meant; for NVLink fields the link.
        divisor: From the field's unit to the value's.
    """

    value: str
    id: int
    scope: int = 0
    divisor: float = 1


FIELDS = (
    Field("ecc_correctable_count", 3),  # NVML_FI_DEV_ECC_SBE_VOL_TOTAL
    Field("ecc_uncorrectable_count", 4),  # NVML_FI_DEV_ECC_DBE_VOL_TOTAL
    Field("ecc_correctable_aggregate_count", 5),  # NVML_FI_DEV_ECC_SBE_AGG_TOTAL
    Field("ecc_uncorrectable_aggregate_count", 6),  # NVML_FI_DEV_ECC_DBE_AGG_TOTAL
    Field("retired_pages_sbe_count", 29),  # NVML_FI_DEV_RETIRED_SBE
    Field("retired_pages_dbe_count", 30),  # NVML_FI_DEV_RETIRED_DBE
    Field("retired_pages_pending_count", 31),  # NVML_FI_DEV_RETIRED_PENDING
    Field("nvlink_crc_flit_error_count", 38),  # NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL
    Field("nvlink_crc_data_error_count", 45),  # NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL
    Field("nvlink_replay_error_count", 52),  # NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL
    Field("nvlink_recovery_error_count", 59),  # NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL
    Field("throttle_time_power_nanoseconds", 74),  # NVML_FI_DEV_PERF_POLICY_POWER
    Field("throttle_time_thermal_nanoseconds", 75),  # NVML_FI_DEV_PERF_POLICY_THERMAL
    Field("throttle_time_sync_boost_nanoseconds", 76),  # NVML_FI_DEV_PERF_POLICY_SYNC_BOOST
    Field("throttle_time_board_limit_nanoseconds", 77),  # NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT
    Field("throttle_time_low_utilization_nanoseconds", 78),  # NVML_FI_DEV_PERF_POLICY_LOW_UTILIZATION
    Field("throttle_time_reliability_nanoseconds", 79),  # NVML_FI_DEV_PERF_POLICY_RELIABILITY
    Field("memory_temperature_celsius", 82),  # NVML_FI_DEV_MEMORY_TEMP
    Field("energy_millijoules", 83),  # NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION
    Field("pcie_replay_count", 94),  # NVML_FI_DEV_PCIE_REPLAY_COUNTER
    Field("nvlink_transmitted_bytes", 138, _ALL_LINKS, _KIB),  # NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX
    Field("nvlink_received_bytes", 139, _ALL_LINKS, _KIB),  # NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX
    Field("remapped_rows_correctable_count", 142),  # NVML_FI_DEV_REMAPPED_COR
    Field("remapped_rows_uncorrectable_count", 143),  # NVML_FI_DEV_REMAPPED_UNC
    Field("row_remap_pending", 144),  # NVML_FI_DEV_REMAPPED_PENDING
    Field("row_remap_failure", 145),  # NVML_FI_DEV_REMAPPED_FAILURE
    Field("power_instant_watts", 186, 0, 1000),  # NVML_FI_DEV_POWER_INSTANT, scope 0: the GPU, not the module
    Field("pcie_transmitted_bytes", 197),  # NVML_FI_DEV_PCIE_COUNT_TX_BYTES
    Field("pcie_received_bytes", 198),  # NVML_FI_DEV_PCIE_COUNT_RX_BYTES
    Field("recovery_action", 230),  # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
    Field("throttle_time_sw_thermal_nanoseconds", 269),  # NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN
    Field("throttle_time_hw_thermal_nanoseconds", 270),  # NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN
    Field("throttle_time_power_brake_nanoseconds", 271),  # NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN
)
# NVLink 5 counts per link what 138 and 139 count for all of them: NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES and _RCV_BYTES.
_PER_LINK = {202: "nvlink_transmitted_bytes", 204: "nvlink_received_bytes"}
_ERROR_SUM = "nvlink_error_count"
_ERRORS = tuple(field for field in FIELDS if field.value.startswith("nvlink_") and field.value.endswith("error_count"))
FIELD_VALUES = (*(field.value for field in FIELDS), _ERROR_SUM)
_BLANK: dict[str, float | None] = dict.fromkeys(FIELD_VALUES)


class CounterSum:
    """Adds up counters; one that the GPU has no longer stands still instead of taking its count out of the sum."""

    def __init__(self) -> None:
        self._last: dict[Field, float] = {}

    def of(self, parts: Mapping[Field, float | None]) -> float | None:
        """Return the sum, or None if there are no parts or one of them failed."""
        for field, number in parts.items():
            if number is None:
                return None
            self._last[field] = number
        return sum(self._last.values()) if parts else None


class FieldBatch:
    """The fields of one GPU, less those that it turned out not to support: one call per reading."""

    def __init__(self) -> None:
        self._unsupported: set[tuple[int, int]] = set()
        self._error_sum = CounterSum()
        self._link_sums = {field_id: CounterSum() for field_id in _PER_LINK}

    @property
    def unsupported_values(self) -> set[str]:
        """Values whose field this GPU does not have."""
        return {field.value for field in FIELDS if (field.id, field.scope) in self._unsupported}

    def forget_unsupported(self) -> None:
        """Ask for everything again at the next reading."""
        self._unsupported.clear()

    def read(self, handle: Any, links: Iterable[int], values: Values, outcome: Outcome) -> None:
        """Write all values that come from fields into `values`: None for what cannot be read.

        Raises:
            pynvml.NVMLError: The GPU is lost.
        """
        values.update(_BLANK)
        wanted = self._wanted(links)
        if not wanted:
            return
        try:
            entries = _get_field_values(handle, [(field.id, field.scope) for field in wanted])
        except pynvml.NVMLError as error:
            if error.value in UNSUPPORTED:
                self._refuse(wanted, outcome)
            else:
                outcome.fail("field values", error)
            return
        self._fill_in(values, self._numbers(wanted, entries, outcome))

    def _wanted(self, links: Iterable[int]) -> list[Field]:
        lacking = self.unsupported_values  # of all links together; nobody knows before the first reading
        per_link = [
            Field(value, field_id, link) for field_id, value in _PER_LINK.items() if value in lacking for link in links
        ]
        return [field for field in (*FIELDS, *per_link) if (field.id, field.scope) not in self._unsupported]

    def _refuse(self, fields: Iterable[Field], outcome: Outcome) -> None:
        self._unsupported |= {(field.id, field.scope) for field in fields}
        outcome.unsupported += (field.value for field in fields if field.id not in _PER_LINK)

    def _numbers(self, wanted: Sequence[Field], entries: Any, outcome: Outcome) -> dict[Field, float | None]:
        """Return a number per field that the GPU has, None for those that failed this time."""
        numbers: dict[Field, float | None] = {}
        for field, entry in zip(wanted, entries, strict=True):
            code = entry.nvmlReturn
            if code == Code.SUCCESS:
                numbers[field] = _number(entry, field.divisor)
                outcome.succeeded += 1
            elif code in _FIELD_UNSUPPORTED:
                self._refuse((field,), outcome)
            else:
                numbers[field] = None
                outcome.fail(field.value, nvml_error(code))
        return numbers

    def _fill_in(self, values: Values, numbers: Mapping[Field, float | None]) -> None:
        for field, number in numbers.items():
            if field.id not in _PER_LINK:
                values[field.value] = number
        values[_ERROR_SUM] = self._error_sum.of({field: numbers[field] for field in _ERRORS if field in numbers})
        for field_id, value in _PER_LINK.items():
            parts = {field: number for field, number in numbers.items() if field.id == field_id}
            if parts:
                values[value] = self._link_sums[field_id].of(parts)


def _number(entry: Any, divisor: float) -> float | None:
    kind = entry.valueType
    if not 0 <= kind < len(_MEMBERS):
        return None
    number = getattr(entry.value, _MEMBERS[kind], None)
    if number is None or not math.isfinite(number) or number in SENTINELS:
        return None
    return number if divisor == 1 else float(number / divisor)
