from __future__ import annotations

from pathlib import Path

import pytest

from gpunodes.errors import GpunodesError
from gpunodes.proof.promised_metrics import name_of


def test_memory_used_has_the_name_that_gpumon_publishes() -> None:
    assert name_of("memory_used_bytes") == "MemoryUsed"


def test_a_value_that_no_metric_carries_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.toml"
    path.write_text('[HostOnly]\nscope = "host"\nreader = "memory_used_bytes"\n')
    with pytest.raises(GpunodesError, match="memory_used_bytes"):
        name_of("memory_used_bytes", path)
