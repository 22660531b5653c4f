"""What an image promises to publish: read from the files that it is made with, `gpumon/metrics.toml` first of all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import tomllib

from gpunodes.errors import GpunodesError
from gpunodes.proof.datapoints import Series
from gpunodes.settings import REPOSITORY

METRICS_FILE = REPOSITORY / "gpumon" / "metrics.toml"
# What gpumon does without being told, and what the image tells it; the later one wins.
SETTINGS_FILES = (
    REPOSITORY / "gpumon" / "default.toml",
    REPOSITORY / "packer" / "rootfs" / "etc" / "gpumon" / "gpumon.toml",
)
AGENT_FILE = REPOSITORY / "packer/rootfs/opt/aws/amazon-cloudwatch-agent/etc/gpunodes.json"
GPU_NAMESPACE = "GPU"
AGENT_NAMESPACE = "CWAgent"

_LEGACY = "legacy"  # repeats other metrics, under the dimensions of AWS's gpumon.py
_BUFFER_SECONDS = 10.0  # how often gpumon fetches the driver's own samples


class Gpu(Protocol):
    """What is needed of a GPU."""

    @property
    def index(self) -> int:
        """In PCI order."""

    @property
    def uuid(self) -> str:
        """As NVML writes it."""


@dataclass(frozen=True)
class Promise:
    """A metric that an instance of the image publishes to CloudWatch without being told to.

    Attributes:
        namespace: `GPU` or `CWAgent`.
        metric: its name.
        scope: `gpu` (a series for each GPU) or `host` (one series).
        unit: a CloudWatch StandardUnit.
        minimum: least value that it can have, in that unit; None for no bound.
        maximum: greatest value.
        kind: `gauge`, `counter` (what was added in a period) or `rate` (the same per second).
        reader: gpumon's name of the value, whose suffix is the unit in which it is read.
        scale: factor from that unit to CloudWatch's.
        read_seconds: time between two readings.
        period_seconds: length of the period that a datapoint stands for.
        within_seconds: a fresh instance must have sent its first datapoint so long after the service began.
    """

    namespace: str
    metric: str
    scope: str
    unit: str
    minimum: float | None
    maximum: float | None
    kind: str
    reader: str
    scale: float
    read_seconds: float
    period_seconds: float
    within_seconds: float

    @property
    def is_in_every_period(self) -> bool:
        """Whether a period without a datapoint is a gap; read more rarely, there may be such."""
        return self.read_seconds <= self.period_seconds


def promised(metrics: Path = METRICS_FILE, settings: Sequence[Path] = SETTINGS_FILES) -> list[Promise]:
    """Every metric that gpumon publishes to CloudWatch, as the image configures it.

    Metrics of tier `legacy` repeat others under other dimensions, and are not among them.

    Args:
        metrics: gpumon's table of metrics.
        settings: files of its settings, the defaults first.

    Raises:
        GpunodesError: a file lacks what is needed; the parts of the checkout do not belong together.
    """
    chosen: dict[str, Any] = {}
    for path in settings:
        chosen |= tomllib.loads(path.read_text(encoding="utf-8"))
    table = tomllib.loads(metrics.read_text(encoding="utf-8"))
    try:
        if not chosen["cloudwatch"]:
            return []
        tiers = set(chosen["cloudwatch_tiers"]) - {_LEGACY}
        return [
            _promise(name, row, chosen)
            for name, row in table.items()
            if row["tier"] in tiers and row.get("cloudwatch", True)
        ]
    except KeyError as error:
        raise GpunodesError(
            f"{metrics.name} or gpumon's settings lack {error}; use a checkout whose parts belong together."
        ) from error


def promised_by_agent(path: Path = AGENT_FILE) -> list[Promise]:
    """Every metric that the CloudWatch agent publishes, as the image configures it: all of them percentages.

    Args:
        path: the agent's configuration.

    Raises:
        GpunodesError: it measures something whose unit and range are not known here.
    """
    configuration = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    promises = []
    for plugin, section in configuration["metrics_collected"].items():
        for measurement in section["measurement"]:
            # The agent puts the plugin's name before a measurement that does not begin with it.
            metric = measurement if measurement.startswith(f"{plugin}_") else f"{plugin}_{measurement}"
            if not metric.endswith("_percent"):
                raise GpunodesError(f"Say in promised_metrics.py which unit and range {metric} of the agent has.")
            seconds = float(section["metrics_collection_interval"])
            promises.append(
                Promise(
                    configuration["namespace"],
                    metric,
                    scope="host",
                    unit="Percent",
                    minimum=0.0,
                    maximum=100.0,
                    kind="gauge",
                    reader=metric,
                    scale=1.0,
                    read_seconds=seconds,
                    period_seconds=seconds,
                    within_seconds=2 * seconds,  # it collects once, and sends a batch once a minute
                )
            )
    return promises


def series_of(promises: Iterable[Promise], instance_id: str, gpus: Iterable[Gpu]) -> dict[Series, Promise]:
    """The series that an instance must have by what is promised, metric by metric.

    Args:
        promises: of gpumon (`promised`).
        instance_id: that each of them names.
        gpus: of the instance.
    """
    instance = {"InstanceId": instance_id}
    owners = [instance | {"GpuIndex": str(gpu.index), "GpuUuid": gpu.uuid} for gpu in gpus]
    return {
        Series.of(promise.namespace, promise.metric, dimensions): promise
        for promise in promises
        for dimensions in (owners if promise.scope == "gpu" else [instance])
    }


def agent_series_of(
    promises: Iterable[Promise], instance_id: str, file_system: str, path: str = "/"
) -> dict[Series, Promise]:
    """The series of the CloudWatch agent on an instance.

    Args:
        promises: of the agent (`promised_by_agent`).
        instance_id: that each of them names.
        file_system: type of the one at `path`, e.g. `ext4`; the agent makes it a dimension.
        path: where it is mounted.
    """
    found = {}
    for promise in promises:
        more = {"path": path, "fstype": file_system} if promise.metric.startswith("disk_") else {}
        found[Series.of(promise.namespace, promise.metric, {"InstanceId": instance_id, **more})] = promise
    return found


def one_of_each(series: Mapping[Series, Promise]) -> list[Series]:
    """One series for each set of dimensions: a gauge, which is always there, and of these the one read most rarely."""
    chosen: dict[tuple[str, object], Series] = {}
    gauges = [entry for entry, promise in series.items() if promise.kind == "gauge"]
    for entry in sorted(gauges, key=lambda entry: -series[entry].read_seconds):
        chosen.setdefault((entry.namespace, entry.dimensions), entry)
    return list(chosen.values())


def name_of(reader: str, path: Path = METRICS_FILE) -> str:
    """CloudWatch's name of the metric that carries a reader's value, such as `memory_used_bytes`.

    Raises:
        GpunodesError: no metric does; the file and this program are of different versions.
    """
    metrics = tomllib.loads(path.read_text())
    for name, entry in metrics.items():
        if entry["reader"] == reader and entry["scope"] == "gpu":
            return name
    raise GpunodesError(f"{path.name} has no metric of {reader}; use a checkout whose parts belong together.")


def _promise(name: str, row: Mapping[str, Any], settings: Mapping[str, Any]) -> Promise:
    kind, scale = row.get("kind", "gauge"), float(row.get("scale", 1))
    sample_seconds, period_seconds = float(settings["sample_seconds"]), float(settings["publish_seconds"])
    read_seconds = {
        "sample": sample_seconds,
        "buffer": max(_BUFFER_SECONDS, sample_seconds),
        "slow": float(settings["slow_seconds"]),
    }[row["every"]]
    # What was added to a counter nobody can tell before its second reading, unless it is known what it began with.
    needs_second_reading = kind != "gauge" and "baseline" not in row
    return Promise(
        namespace=settings["namespace"],
        metric=name,
        scope=row["scope"],
        unit=row["unit"],
        minimum=0.0 if kind != "gauge" else _scaled(row.get("minimum"), scale),
        maximum=None if kind == "rate" else _scaled(row.get("maximum"), scale),
        kind=kind,
        reader=row["reader"],
        scale=scale,
        read_seconds=read_seconds,
        period_seconds=period_seconds,
        # A period goes out after its end; a first reading at once, but something may be missing in it yet.
        within_seconds=period_seconds
        + float(settings["publish_phase_seconds"])
        + (read_seconds if needs_second_reading else 0.0),
    )


def _scaled(bound: float | None, scale: float) -> float | None:
    return None if bound is None else bound * scale
