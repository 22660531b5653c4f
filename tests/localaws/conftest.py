"""What several tests of localaws use."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from localaws import api
from localaws.api import ObservedApi


@contextmanager
def served(observed: ObservedApi) -> Iterator[str]:
    """The URL at which boto3 finds this API."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = api.serve(observed, listener)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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
