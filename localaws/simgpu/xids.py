"""Xid errors: the event that NVML reports and the line in the kernel log."""

from __future__ import annotations

from localaws.simgpu.errors import UnknownValueError

NO_INSTANCE = 0xFFFFFFFF
_XID_CRITICAL_ERROR = 0x8  # nvmlEventTypeXidCriticalError
_LARGEST = 999
# What the kernel module says after number, pid and name; typical texts from public logs.
_TEXTS = {
    13: "Graphics SM Warp Exception on (GPC 0, TPC 0, SM 0): Out Of Range Address",
    31: "Ch 00000008, intr 00000000. MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_0 faulted @ 0x7f00_00000000",
    43: "Ch 00000008",
    45: "Ch 00000008",
    48: "DBE (double bit error) ECC Error has been detected",
    63: "Row Remapper: New row marked for remapping, reset gpu to activate.",
    64: "Row Remapper: Failed to write remapping info to InfoROM",
    74: "NVLink: fatal error detected on link 0(0x10000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)",
    79: "GPU has fallen off the bus.",
    94: "Contained: SM (0x1). RST: No, D-RST: No",
    95: "Uncontained: LTC TAG (0x2,0x0). RST: Yes, D-RST: No",
    119: "Timeout after 6s of waiting for RPC response from GPU0 GSP! Expected function 76 (GSP_RM_CONTROL)",
    154: "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)",
}


def check(xid: int) -> None:
    """Check an Xid number.

    Raises:
        UnknownValueError: it is none.
    """
    if not 1 <= xid <= _LARGEST:
        raise UnknownValueError(f"Use an Xid from 1 to {_LARGEST}, not {xid!r}.")


def event_line(gpu_index: int, xid: int, gpu_instance_id: int, compute_instance_id: int) -> str:
    """Return the line of the events file: GPU, event type, event data, GPU instance, compute instance."""
    return f"{gpu_index} {_XID_CRITICAL_ERROR} {xid} {gpu_instance_id} {compute_instance_id}\n"


def kernel_log_record(
    sequence: int, microseconds: int, pci_bus_id: str, xid: int, gpu_instance_id: int = NO_INSTANCE
) -> str:
    """Return a record as /dev/kmsg gives it: `priority,sequence,time,flags;text`.

    Args:
        sequence: number of the record.
        microseconds: time since boot.
        pci_bus_id: domain:bus:device.function.
        xid: its number.
        gpu_instance_id: of the MIG device that it struck; NO_INSTANCE for the whole GPU.
    """
    place = pci_bus_id.rsplit(".", 1)[0]
    if gpu_instance_id != NO_INSTANCE:
        place += f" GPU-I:{gpu_instance_id:02d}"
    text = _TEXTS.get(xid, "unspecified error")
    return f"4,{sequence},{microseconds},-;NVRM: Xid (PCI:{place}): {xid}, pid='<unknown>', name=<unknown>, {text}\n"
