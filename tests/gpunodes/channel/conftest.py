from __future__ import annotations

from collections.abc import Iterator

import pytest
from moto.server import DomainDispatcherApplication, create_backend_app

from gpunodes.aws import Clients
from localaws.api import ObservedApi
from tests.gpunodes import fakes
from tests.localaws.conftest import served


@pytest.fixture(scope="module")
def offline_url() -> Iterator[str]:
    """The offline cloud's API, which knows disabled images and validates parameters of images late; no machines."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
        observed = ObservedApi(DomainDispatcherApplication(create_backend_app))
        with served(observed) as url:
            yield url


@pytest.fixture
def offline_clients(clients: Clients, offline_url: str) -> Clients:
    """Clients of it, in an account in which nothing was made yet: moto keeps one for the whole process."""
    assert clients.target.endpoint_url != offline_url
    return Clients(fakes.target(offline_url))
