from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError

from gpunodes.aws import Clients
from gpunodes.errors import AwsError, GpunodesError, PreflightError, UsageError
from gpunodes.operation import runs
from gpunodes.settings import Settings
from tests.gpunodes.fake_ssm import FOUR_HOURS, NAME, NOW, FakeSsm, lock, refused

HELD = (
    "Channel `stable` is being baked by run one (ann@host-one) until 14:00 UTC at the latest;"
    " wait for it, or bake another channel."
)


def test_lock_is_taken_once_and_freed_in_moto(clients: Clients) -> None:
    lock(clients).acquire()

    with pytest.raises(PreflightError) as caught:
        lock(clients, "two").acquire()
    assert str(caught.value) == HELD
    assert caught.value.exit_code == 2

    lock(clients).release()
    lock(clients, "two").acquire()
    assert lock(clients, "two").is_held()
    assert not lock(clients).is_held()


def test_parameter_is_tagged_and_says_who_has_the_lock(clients: Clients) -> None:
    lock(clients).acquire()

    parameter = clients.ssm.get_parameter(Name=NAME)["Parameter"]
    assert json.loads(parameter["Value"]) == {
        "run_id": "one",
        "who": "ann",
        "host": "host-one",
        "taken_at": "2030-01-01T10:00:00Z",
        "expires_at": "2030-01-01T14:00:00Z",
        "after": 0,
    }
    tags = clients.ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=NAME)["TagList"]
    assert tags == [{"Key": "gpunodes", "Value": "true"}]


def test_channels_do_not_hinder_each_other(clients: Clients) -> None:
    lock(clients).acquire()

    lock(clients, "two", channel="nightly").acquire()

    assert lock(clients).is_held()


def test_lock_survives_more_bakes_than_ssm_keeps_versions(clients: Clients) -> None:
    for number in range(60):  # two versions each, and SSM keeps a hundred
        lock(clients, str(number)).acquire()
        lock(clients, str(number)).release()

    assert lock(clients).read().owner is None


def test_lock_that_is_extended_ends_later_and_stays_ours(clients: Clients) -> None:
    lock(clients).acquire()

    lock(clients).extend(2 * FOUR_HOURS)

    state = lock(clients, "two").read()
    assert (state.owner, state.expires_at) == (lock(clients).owner, NOW + 2 * FOUR_HOURS)


@pytest.mark.parametrize("is_taken", [False, True])
def test_lock_that_is_no_longer_ours_is_not_extended(clients: Clients, is_taken: bool) -> None:
    if is_taken:
        lock(clients, "two").acquire()

    with pytest.raises(GpunodesError, match="another one has channel `stable` now; nothing was promoted"):
        lock(clients).extend(FOUR_HOURS)

    assert lock(clients, "two").is_held() is is_taken


def test_acquiring_twice_is_no_error_and_writes_nothing() -> None:
    ssm = FakeSsm()

    lock(ssm).acquire()
    lock(ssm).acquire()

    assert len(ssm.values) == 1


def test_lock_that_is_over_is_taken_over_and_said() -> None:
    ssm, said = FakeSsm(), list[str]()
    lock(ssm).acquire()

    lock(ssm, "two", now=NOW + FOUR_HOURS, said=said).acquire()

    assert said == [
        "Channel `stable` was locked by run one (ann@host-one) until 14:00 UTC, which is over; taking the lock over"
    ]
    assert not lock(ssm).is_held()


def test_lock_is_kept_to_its_last_second() -> None:
    ssm = FakeSsm()
    lock(ssm).acquire()

    with pytest.raises(PreflightError, match="being baked by run one"):
        lock(ssm, "two", now=NOW + FOUR_HOURS - timedelta(seconds=1)).acquire()


def test_run_that_lost_its_lock_does_not_free_the_next_ones() -> None:
    ssm = FakeSsm()
    lock(ssm).acquire()
    lock(ssm, "two", now=NOW + FOUR_HOURS).acquire()

    lock(ssm).release()

    assert lock(ssm, "two").is_held()


def test_release_without_a_lock_makes_none() -> None:
    ssm = FakeSsm()

    lock(ssm).release()

    assert ssm.values == []


def test_lock_of_a_killed_run_of_this_checkout_is_taken_over_at_once(tmp_path: Path) -> None:
    here = Settings(work_folder=tmp_path)
    run = runs.start(here, "test")
    ssm, said = FakeSsm(), list[str]()
    lock(ssm, run.run_id).acquire()

    with runs.going_on(run), pytest.raises(PreflightError, match=f"being baked by run {run.run_id}"):
        lock(ssm, "two", has_ended=partial(runs.is_over, here)).acquire()
    lock(ssm, "two", said=said, has_ended=partial(runs.is_over, here)).acquire()

    assert said == [f"Channel `stable` was locked by run {run.run_id}, which was killed; taking the lock over"]


def test_lock_of_another_checkouts_run_is_respected(tmp_path: Path) -> None:
    ssm = FakeSsm()
    lock(ssm).acquire()

    with pytest.raises(PreflightError, match="being baked by run one"):
        lock(ssm, "two", has_ended=partial(runs.is_over, Settings(work_folder=tmp_path))).acquire()


@pytest.mark.parametrize("channel", ["", "a b", "a/b", "x" * 65, "{{x}}"])
def test_channel_that_no_parameter_can_have_is_a_usage_error(channel: str) -> None:
    with pytest.raises(UsageError, match="cannot be a channel; use up to 64 letters") as caught:
        lock(FakeSsm(), channel=channel).acquire()

    assert caught.value.exit_code == 2


@pytest.mark.parametrize("value", ["", "free", "[]", "{}", '{"run_id": "one"}', "null"])
def test_something_else_in_the_parameter_is_said(value: str) -> None:
    with pytest.raises(PreflightError) as caught:
        lock(FakeSsm([value])).acquire()

    assert str(caught.value) == (
        "The lock of channel `stable` cannot be read; if nobody bakes it, put '{\"free\": true}' into the SSM parameter"
        " /gpunodes/stable/lock."
    )


def test_lock_can_be_freed_by_hand() -> None:
    ssm = FakeSsm()
    lock(ssm).acquire()
    ssm.values.append('{"free": true}')

    lock(ssm, "two").acquire()

    assert lock(ssm, "two").is_held()


def test_long_and_strange_names_fit_into_a_parameter() -> None:
    ssm = FakeSsm()

    lock(ssm, who="{{ssm:/secret}}\U0001f600" * 500).acquire()

    assert len(ssm.values[0].encode()) < 4096
    assert "{{" not in ssm.values[0]


def test_parameter_that_was_deleted_and_written_by_somebody_late_is_free() -> None:
    ssm = FakeSsm()
    lock(ssm).acquire()
    ssm.values[0] = ssm.values[0].replace('"after": 0', '"after": 5')

    lock(ssm, "two").acquire()

    assert lock(ssm, "two").is_held()


def test_write_that_was_forgotten_by_ssm_is_not_taken_for_free() -> None:
    class Forgetful(FakeSsm):
        def get_parameter(self, Name: str) -> dict[str, Any]:  # noqa: N803
            if ":" in Name:
                raise refused("ParameterVersionNotFound")
            return super().get_parameter(Name)

    ssm = Forgetful()
    lock(ssm).acquire()
    ssm.values.append(ssm.values[0])  # a late write that does not count

    with pytest.raises(PreflightError, match="cannot be read"):
        lock(ssm, "two").acquire()


@pytest.mark.parametrize("step", ["acquire", "release"])
@pytest.mark.parametrize("existing", [True, False], ids=["again", "first bake"])
def test_write_whose_answer_was_lost_and_that_boto3_repeated_counts_once(step: str, existing: bool) -> None:
    ssm = FakeSsm(['{"free": true}'] if existing else [])
    if step == "release":
        lock(ssm).acquire()
    repeated = list[str]()

    class Repeating(FakeSsm):
        def put_parameter(self, **arguments: Any) -> dict[str, Any]:
            if not repeated:
                repeated.append("")
                super().put_parameter(**arguments)
            return super().put_parameter(**arguments)

    getattr(lock(Repeating(ssm.values)), step)()

    assert repeated
    assert lock(ssm).is_held() is (step == "acquire")


def test_lock_that_was_written_although_the_network_broke_is_freed_by_the_clean_up() -> None:
    ssm = FakeSsm(['{"free": true}'])

    def cut(call: str) -> None:
        if call == "put":
            ssm.after = lambda _call: None
            raise ConnectTimeoutError(endpoint_url="https://ssm")

    ssm.after = cut
    with pytest.raises(AwsError, match="did not answer while writing the lock of channel stable"):
        lock(ssm).acquire()
    assert lock(ssm).is_held()

    lock(ssm).release()

    lock(ssm, "two").acquire()


def test_refusal_of_ssm_is_an_error() -> None:
    ssm = FakeSsm()

    def refuse(_call: str) -> None:
        raise refused("AccessDeniedException")

    ssm.before = refuse
    with pytest.raises(AwsError, match=r"reading the lock of channel stable \(AccessDeniedException"):
        lock(ssm).acquire()


def test_too_many_who_write_at_once_end_with_a_sentence() -> None:
    ssm = FakeSsm(['{"free": true}'])

    def interfere(call: str) -> None:
        if call == "put":
            ssm.values.append('{"free": true}')

    ssm.before = interfere
    with pytest.raises(AwsError, match="Too many bakes want the lock of channel `stable` at once"):
        lock(ssm).acquire()
