"""The verdict on one GPU, from its newest values: the same for the service and for ``gpumon check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# NVML_GPU_RECOVERY_ACTION_* (nvml.h, field NVML_FI_DEV_GET_GPU_RECOVERY_ACTION).
_RECOVERY_ACTIONS = {
    1: "the driver asks for a reset of the GPU",
    2: "the driver asks for a reboot of the host",
    3: "the driver asks to drain peer-to-peer traffic",
    4: "the driver asks to drain the GPU and reset it",
    5: "the driver asks to restart the IMEX domain",
}
_COOLING = "Look at its cooling; after a stop and a start the instance runs on other hardware."
_POWER = "Stop and start the instance: it then runs on other hardware."


class Degradation(NamedTuple):
    """What is not as it should be with a GPU, and what to do about it."""

    reason: str
    advice: str


# Of a value above zero: what it means. The order is that of importance.
_DEGRADATIONS = {
    "ecc_uncorrectable_count": Degradation(
        "uncorrectable memory errors since the driver was loaded",
        "Reset the GPU when it is idle; replace the instance if the errors come back.",
    ),
    "row_remap_pending": Degradation(
        "a row of memory waits to be replaced at the next reset of the GPU", "Reset the GPU when it is idle."
    ),
    "retired_pages_pending_count": Degradation(
        "pages of memory wait to be retired at the next start of the driver", "Reboot the host when it is idle."
    ),
    "pcie_link_degraded": Degradation("the PCIe link is narrower or slower than it could be", _POWER),
    "throttled_thermal_percent": Degradation("its temperature holds the clocks down", _COOLING),
    "throttled_hw_slowdown_percent": Degradation("the hardware holds the clocks down", _COOLING),
    "throttled_power_brake_percent": Degradation("the external power brake holds the clocks down", _POWER),
}
_NOT_PERSISTENT = Degradation(
    "persistence mode is off, so each first user starts the GPU anew",
    "Enable nvidia-persistenced.service.",
)


def unhealthy_reason(values: Mapping[str, float | None], xid_critical_count: float = 0) -> str | None:
    """Say why work must not be given to a GPU, or return None.

    Args:
        values: Its newest values by reader name; None or absent: could not be read.
        xid_critical_count: Critical Xids that were seen; they count only where the driver does not say itself
            whether anything is to be done (`recovery_action`). ``xid_critical_count`` in `values` counts as well.
    """
    if values.get("gpu_up") == 0:
        return "lost: it does not answer any more"
    action = values.get("recovery_action")
    if action:
        return _RECOVERY_ACTIONS.get(int(action), f"the driver asks for recovery action {action:g}")
    if values.get("row_remap_failure"):
        return "a row of memory could not be replaced"
    critical = max(xid_critical_count, values.get("xid_critical_count") or 0)
    if action is None and critical > 0:
        return f"{critical:g} critical Xid error(s)"
    return None


def degradations(values: Mapping[str, float | None]) -> tuple[Degradation, ...]:
    """Say what is not as it should be with a GPU that can still be used; most important first.

    Args:
        values: Its newest values by reader name; None or absent: could not be read, which is no reason.
    """
    found = [degradation for name, degradation in _DEGRADATIONS.items() if (values.get(name) or 0) > 0]
    if values.get("persistence_mode") == 0:
        found.append(_NOT_PERSISTENT)
    return tuple(found)
