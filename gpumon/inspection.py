"""``gpumon once``, ``check`` and ``show-config``: look at this host once, next to a service that may be running."""

from __future__ import annotations

import functools
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpumon import check, costs, host_facts, state, table
from gpumon.clock import SystemClock
from gpumon.control import DEFAULT_DIRECTORY, ReleaseFlag
from gpumon.errors import DriverUnavailableError
from gpumon.host import gpu_rollups
from gpumon.identity import fetch_identity
from gpumon.inventory import Inventory
from gpumon.latest import Latest
from gpumon.metrics import load_metrics
from gpumon.readers import EVERYTHING, Due, pci
from gpumon.readers.kmsg import KernelLog
from gpumon.readers.nvml import NvmlReader
from gpumon.xid_counts import XidCounts
from gpumon.xids import load_xids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpumon.settings import LoadedSettings, Settings

STATE_DIRECTORY = Path("/var/lib/gpumon")  # where systemd keeps it; only the service has it in its environment
# Two samples of activity that are nearer than 0.1 s cannot be compared (nvml.h, nvmlGpmMetricsGet).
ACTIVITY_SECONDS = 0.2


def once(settings: Settings, columns: int, *, as_json: bool) -> str:
    """Return one reading of every GPU, for people or as JSON.

    Raises:
        DriverUnavailableError: No driver answers.
    """
    if _is_released(settings):
        raise DriverUnavailableError("Run gpumon resume first: somebody wants the driver to be left alone.")
    inventory = _inventory(settings)
    reader = NvmlReader(inventory.gpus, with_processes=settings.process_memory)
    try:
        reader.read(EVERYTHING)
        SystemClock().wait(threading.Event(), ACTIVITY_SECONDS)
        reading = reader.read(EVERYTHING)
    finally:
        reader.close()
    reading = replace(reading, gpus=inventory.see(reading.gpus))
    states = Latest().merge(reading.gpus)
    expected_count = max(inventory.expected_count(pci.expected_gpus()), reading.counted)
    host = gpu_rollups(states, expected_count, load_xids(), driver_is_up=True)
    metrics = [metric for metric in load_metrics() if metric.tier != "legacy"]
    return table.as_json(reading, metrics, host) if as_json else table.as_table(reading, metrics, host, columns)


def findings(settings: Settings) -> Sequence[check.Finding]:
    """Look at everything that gpumon needs."""
    # boto3 is slow to import, and only this command needs it here
    from gpumon.aws import credentials_source  # noqa: PLC0415

    inventory = _inventory(settings)
    reader = NvmlReader(inventory.gpus)
    is_released = _is_released(settings)
    facts = host_facts.HostFacts(
        expected_gpu_count=_expected_count(inventory),
        driver=host_facts.find_driver(),
        region=settings.region,
        state=_state_facts(settings),
        is_released=is_released,
        publishes_to_cloudwatch=settings.cloudwatch,
        xid_critical_counts={} if is_released else _critical_xids(reader, settings),
    )
    identity = functools.partial(fetch_identity, settings.metadata_endpoint)
    SystemClock().wait(threading.Event(), ACTIVITY_SECONDS)  # the GPUs were read for their Xids just before
    return check.run_checks(reader, load_metrics(), facts, identity, credentials_source)


def configuration(loaded: LoadedSettings) -> str:
    """Return the effective settings as TOML, and what they cost as comments."""
    settings = loaded.settings
    tiers = settings.cloudwatch_tiers if settings.cloudwatch else ()
    gpu_count = _expected_count(_inventory(settings))
    if not gpu_count and not _is_released(settings):
        gpu_count = _count_by_driver() or gpu_count
    bill = costs.as_text(load_metrics(), tiers, gpu_count, settings.publish_seconds, costs.load_prices())
    return f"{loaded.as_toml()}\n{costs.as_comments(bill)}"


def _inventory(settings: Settings) -> Inventory:
    """Return what the service has seen; nothing where this user may not read it."""
    remembered = state.StateFile(_state_directory(settings)).load()
    return Inventory(state.machine(), state.boot_id(), remembered.get("inventory"))


def _expected_count(inventory: Inventory) -> int | None:
    """Return how many GPUs this host should have; None if neither its bus nor anybody's memory says."""
    on_bus_count = pci.expected_gpus()
    return None if on_bus_count is None and not inventory.gpus else inventory.expected_count(on_bus_count)


def _is_released(settings: Settings) -> bool:
    directory = Path(settings.runtime_directory) if settings.runtime_directory else DEFAULT_DIRECTORY
    # Whoever may not look into the service's directory cannot be told, and is not asked to mend that.
    return os.access(directory, os.X_OK) and ReleaseFlag(directory).is_released()


def _state_directory(settings: Settings) -> Path | None:
    """Return where the service keeps its state; None: nowhere, or this user may not look there."""
    directory = Path(settings.state_directory) if settings.state_directory else STATE_DIRECTORY
    return directory if os.access(directory, os.X_OK) else None


def _state_facts(settings: Settings) -> host_facts.StateFacts:
    directory = _state_directory(settings)
    if directory is None:
        # A directory that only root sees, as systemd makes it for a service without a user, is a link into nowhere.
        return host_facts.StateFacts("", is_hidden=STATE_DIRECTORY.is_symlink())
    # As the service saved it last: the spool itself is the service's alone while it runs.
    saved = state.StateFile(directory).load().get("delivery")
    delivery = saved if isinstance(saved, dict) else {}
    waiting, oldest = delivery.get("waiting_datums"), delivery.get("oldest_waiting_unix_seconds")
    age_seconds = SystemClock().unix_seconds() - oldest if isinstance(oldest, (int, float)) else None
    problem = host_facts.write_problem(directory)
    return host_facts.StateFacts(str(directory), problem, waiting if isinstance(waiting, int) else 0, age_seconds)


def _critical_xids(reader: NvmlReader, settings: Settings) -> dict[str, int]:
    """Count the critical Xids in the kernel log since the host started, by UUID of the GPU."""
    try:
        gpus = reader.read(EVERYTHING).gpus
    except DriverUnavailableError:
        return {}  # the check says so itself
    table_of_xids = load_xids(Path(settings.xid_table) if settings.xid_table else None)
    xids = XidCounts(table_of_xids)
    if settings.kernel_log:
        stop = threading.Event()
        kernel_log = KernelLog(xids, clock=SystemClock(), stop=stop, path=Path(settings.kernel_log))
        kernel_log.seed()
        kernel_log.close()
    xids.know({sample.gpu.pci_bus_id: sample.gpu.uuid for sample in gpus})
    return {key: table_of_xids.critical_count(counts) for key, counts in xids.totals().items()}


def _count_by_driver() -> int | None:
    """Return how many GPUs the driver shows; None where it does not answer."""
    reader = NvmlReader()
    try:
        return sum(sample.gpu.mig is None for sample in reader.read(Due.SAMPLE).gpus)
    except DriverUnavailableError:
        return None
    finally:
        reader.close()
