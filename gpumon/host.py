"""What is true of the host as a whole, from what is known of its GPUs.

Only GPUs that answer count in sums, means and maxima: a GPU that is lost is not idle.
"""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from gpumon.health import unhealthy_reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpumon.latest import GpuState
    from gpumon.xids import XidTable

NOW = "gpu_utilization_now_percent"


def gpu_rollups(
    gpus: Sequence[GpuState], expected_count: int, xid_table: XidTable, *, driver_is_up: bool
) -> dict[str, float | None]:
    """Return the values of scope "host" (see ``metrics.toml``) that follow from the GPUs.

    Args:
        gpus: The newest values of each known GPU and MIG instance.
        expected_count: GPUs that this host should have.
        xid_table: Says which Xids are critical.
        driver_is_up: Whether the driver answers; where it does not, no GPU is usable.
    """
    whole = [state for state in gpus if state.gpu.mig is None]
    states = [state for state in whole if driver_is_up and state.values.get("gpu_up")]
    up = [state.values for state in states]
    missing_count = max(0, expected_count - len(up))
    reasons = [unhealthy_reason(state.values, xid_table.critical_count(state.xids)) for state in states]
    ill_count = sum(reason is not None for reason in reasons)
    busy = [values[NOW] for values in up if NOW in values]
    full = [values["memory_utilization_percent"] for values in up if "memory_utilization_percent" in values]
    power = [values["power_watts"] for values in up if "power_watts" in values]
    return {
        "driver_up": float(driver_is_up),
        "gpu_count": len(up),
        "gpu_expected_count": expected_count,
        "gpu_missing_count": missing_count,
        "gpu_unhealthy_count": missing_count + ill_count,
        "gpu_idle_count": sum(value == 0 for value in busy) if busy or not up else None,
        "gpu_utilization_max_percent": max(busy, default=None),
        "gpu_utilization_mean_percent": fmean(busy) if busy else None,
        "memory_utilization_max_percent": max(full, default=None),
        "power_total_watts": sum(power) if power else None,
    }
