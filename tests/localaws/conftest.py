"""What several tests of localaws use."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest


@pytest.fixture
def sleeping_process() -> Iterator[Callable[[], int]]:
    """Starts a child of this process that does nothing, and returns its id; whoever kills it also waits for it."""
    started: list[int] = []

    def start() -> int:
        process_id = os.posix_spawnp("sleep", ["sleep", "600"], os.environ)
        started.append(process_id)
        return process_id

    yield start
    for process_id in started:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(process_id, signal.SIGKILL)
            os.waitpid(process_id, 0)
