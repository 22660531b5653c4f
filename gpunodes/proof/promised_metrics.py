"""What an image promises to publish: the names in `gpumon/metrics.toml`, the one file that both sides read."""

from __future__ import annotations

from pathlib import Path

import tomllib

from gpunodes.errors import GpunodesError
from gpunodes.settings import REPOSITORY

METRICS_FILE = REPOSITORY / "gpumon" / "metrics.toml"
GPU_NAMESPACE = "GPU"
AGENT_NAMESPACE = "CWAgent"


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
