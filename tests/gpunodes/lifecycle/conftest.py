from __future__ import annotations

from datetime import datetime
from functools import cache

import moto.core.errors
import moto.core.responses
import moto.ec2.models.amis
import moto.ec2.models.elastic_block_store
import moto.ec2.models.instances
import moto.ssm.models
import pytest

from gpunodes.channel import policy, promote, rollback
from gpunodes.channel.parameter import ChannelParameter
from gpunodes.cleanup import reap
from gpunodes.operation import runs
from gpunodes.operation.runs import Run
from gpunodes.prune import last_look, prune_run
from gpunodes.settings import Settings
from tests.gpunodes.lifecycle.account import POLICIES
from tests.gpunodes.lifecycle.api_in_process import ClientsInProcess

_TELL_THE_TIME = (
    moto.ec2.models.amis,
    moto.ec2.models.elastic_block_store,
    moto.ec2.models.instances,
    moto.ssm.models,
)


@pytest.fixture(autouse=True)
def _moto_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto takes the API's time, and works out only once what never changes: its calls, and the errors of a service."""
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    for module in _TELL_THE_TIME:
        monkeypatch.setattr(module, "utcnow", lambda: ClientsInProcess.api.now.replace(tzinfo=None))
    names = cache(moto.core.responses.method_names_from_class)
    monkeypatch.setattr(moto.core.responses, "method_names_from_class", names)
    errors = moto.core.errors.ErrorLookupFactory()
    monkeypatch.setattr(moto.core.errors, "ErrorLookupFactory", lambda: errors)


@pytest.fixture(autouse=True)
def _gpunodes_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever makes clients gets those of the API, waits by its clock, and is known by its runs."""
    for module in (promote, rollback, prune_run, reap):
        monkeypatch.setattr(module, "Clients", lambda _target: ClientsInProcess.api.clients)
    monkeypatch.setattr(policy, "load", lambda channel, _path=None: POLICIES[channel])
    monkeypatch.setattr(ChannelParameter.__init__, "__defaults__", (_wait,))
    monkeypatch.setattr(last_look.usage_by_others, "__defaults__", (_wait,))
    start = runs.start

    def known(settings: Settings, target: str, now: datetime | None = None) -> Run:
        run = start(settings, target, now)
        ClientsInProcess.api.runs_of_this_process.append(run.run_id)
        return run

    monkeypatch.setattr(runs, "start", known)


def _wait(seconds: float) -> None:
    ClientsInProcess.api.wait(seconds)
