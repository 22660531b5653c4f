"""The agent's JSON configuration: merged from all files as `append-config` does, then made into dataclasses."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import ConfigurationError

log = logging.getLogger(__name__)

DEFAULT_NAMESPACE = "CWAgent"
DEFAULT_INTERVAL_SECONDS = 60
FIELDS = {
    "mem": ("used_percent", "available_percent", "total", "used", "free", "available"),
    "swap": ("used_percent", "total", "used", "free"),
    "disk": ("used_percent", "total", "used", "free"),
}
"""What is collected, by section of `metrics_collected`; the CloudWatch name is `<section>_<field>`."""


@dataclass(frozen=True)
class Measurement:
    """One metric: the field that is read, and the name and unit under which it is published."""

    field: str
    name: str
    unit: str


@dataclass(frozen=True)
class Collection:
    """One section of `metrics_collected`."""

    section: str
    measurements: tuple[Measurement, ...]
    interval_seconds: int = DEFAULT_INTERVAL_SECONDS
    append_dimensions: Mapping[str, str] = field(default_factory=dict)
    resources: tuple[str, ...] = ("*",)
    ignore_file_system_types: frozenset[str] = frozenset()
    drop_device: bool = False


@dataclass(frozen=True)
class Configuration:
    """The merged configuration.

    Attributes:
        append_dimensions: the pairs as written, with their `${aws:...}` placeholders.
        endpoint_override: URL or host of CloudWatch; None for what the SDK finds.
        flush_seconds: the longest time that a datapoint is held back.
    """

    namespace: str
    collections: tuple[Collection, ...]
    append_dimensions: Mapping[str, str]
    endpoint_override: str | None = None
    region: str | None = None
    run_as_user: str | None = None
    flush_seconds: int = DEFAULT_INTERVAL_SECONDS


def configuration_files(etc: Path) -> list[Path]:
    """The main file and those of `amazon-cloudwatch-agent.d`, in the order in which they are merged."""
    main = etc / "amazon-cloudwatch-agent.json"
    return [*([main] if main.is_file() else []), *sorted((etc / "amazon-cloudwatch-agent.d").glob("*.json"))]


def load(files: Iterable[Path]) -> Configuration:
    """Merge the files and check the result.

    Raises:
        ConfigurationError: a file cannot be read, two files disagree, or nothing is to be collected.
    """
    merged: dict[str, Any] = {}
    for path in files:
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"Correct {path}: {error}.") from error
        if not isinstance(content, dict):
            raise ConfigurationError(f"Correct {path}: it must hold one JSON object.")
        _merge(merged, content, "")
    return _parse(merged)


def _merge(into: dict[str, Any], other: Mapping[str, Any], path: str) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key, {}), dict):
            _merge(into.setdefault(key, {}), value, f"{path}/{key}")
        elif into.setdefault(key, value) != value:
            raise ConfigurationError(f"Under path : {path}/{key} | Error : Different values are specified for {key}")


def _parse(merged: Mapping[str, Any]) -> Configuration:
    agent = merged.get("agent", {})
    metrics = merged.get("metrics", {})
    interval = agent.get("metrics_collection_interval", DEFAULT_INTERVAL_SECONDS)
    collections = []
    for section, options in metrics.get("metrics_collected", {}).items():
        if section in FIELDS:
            collections.append(_collection(section, options, interval))
        else:
            log.warning("W! the stand-in does not collect %s; the real agent may", section)
    if not collections:
        raise ConfigurationError("Configure at least one of mem, swap and disk: there is nothing to collect.")
    return Configuration(
        namespace=metrics.get("namespace", DEFAULT_NAMESPACE),
        collections=tuple(collections),
        append_dimensions=dict(metrics.get("append_dimensions", {})),
        endpoint_override=metrics.get("endpoint_override"),
        region=agent.get("region"),
        run_as_user=agent.get("run_as_user"),
        flush_seconds=int(metrics.get("force_flush_interval", DEFAULT_INTERVAL_SECONDS)),
    )


def _collection(section: str, options: Mapping[str, Any], default_interval: int) -> Collection:
    wanted = options.get("measurement")
    if not wanted:
        raise ConfigurationError(f"List what to measure under /metrics/metrics_collected/{section}/measurement.")
    return Collection(
        section=section,
        measurements=tuple(found for entry in wanted if (found := _measurement(section, entry))),
        interval_seconds=int(options.get("metrics_collection_interval", default_interval)),
        append_dimensions=dict(options.get("append_dimensions", {})),
        resources=tuple(options.get("resources", ["*"])),
        ignore_file_system_types=frozenset(options.get("ignore_file_system_types", [])),
        drop_device=bool(options.get("drop_device", False)),
    )


def _measurement(section: str, entry: str | Mapping[str, str]) -> Measurement | None:
    options: Mapping[str, str] = {"name": entry} if isinstance(entry, str) else entry
    name = options.get("name", "")
    known = name.removeprefix(f"{section}_")
    if known not in FIELDS[section]:
        log.warning("W! the stand-in does not measure %s of %s; the real agent may", name, section)
        return None
    unit = options.get("unit") or ("Percent" if known.endswith("_percent") else "Bytes")
    return Measurement(known, options.get("rename") or f"{section}_{known}", unit)
