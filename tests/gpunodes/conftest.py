from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

from gpunodes.aws import Clients
from tests.gpunodes import fakes


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """A moto server on a free port of loopback."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # hundreds, again after each reset
        yield from _serve()


def _serve() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def clients(moto_url: str) -> Clients:
    """Clients of an account in which nothing was made yet."""
    urllib.request.urlopen(urllib.request.Request(f"{moto_url}/moto-api/reset", method="POST")).close()
    return Clients(fakes.target(moto_url))
