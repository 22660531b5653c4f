from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def driver_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory that holds the simulated driver's libraries."""
    driver = pytest.importorskip("localaws.simgpu.driver")
    directory = tmp_path_factory.mktemp("driver")
    driver.build(directory)
    return directory
