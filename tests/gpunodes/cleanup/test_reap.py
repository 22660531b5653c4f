from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from gpunodes.aws import Clients
from gpunodes.channel.channel_lock import ChannelLock, LockOwner
from gpunodes.cleanup import reap, resource_kinds, resources
from gpunodes.cleanup.reap import Leftover, Plan
from gpunodes.cleanup.resources import Kind, Resource
from gpunodes.connection.bake_role import BakeRole
from gpunodes.connection.key_pair import KeyPair
from gpunodes.connection.security_group import SecurityGroup
from gpunodes.errors import AwsError, PreflightError
from gpunodes.operation import journal, runs
from gpunodes.operation.runs import Run
from gpunodes.settings import Settings
from tests.gpunodes import fakes

RUN_ID = "20300101-000000-abcd"
OTHER_RUN_ID = "20300101-090000-ffff"
IN_TIME = datetime(2030, 1, 1, 3, 59, tzinfo=UTC)
TOO_LATE = datetime(2030, 1, 1, 6, 0, tzinfo=UTC)

Maker = Callable[[Clients, Run], str]


def specification(kind: str, run: Run, **more: str) -> list[dict[str, Any]]:
    tags = runs.temporary_tags(run, **more)
    return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]


def instance(clients: Clients, run: Run) -> str:
    launched = clients.ec2.run_instances(
        ImageId=fakes.base_image(clients), MinCount=1, MaxCount=1, TagSpecifications=specification("instance", run)
    )
    return str(launched["Instances"][0]["InstanceId"])


def volume(clients: Clients, run: Run) -> str:
    made = clients.ec2.create_volume(
        AvailabilityZone="us-east-1a", Size=1, TagSpecifications=specification("volume", run)
    )
    return str(made["VolumeId"])


def launch_template(clients: Clients, run: Run) -> str:
    made = clients.ec2.create_launch_template(
        LaunchTemplateName=f"packer-fleet-launch-template-{run.run_id}",
        LaunchTemplateData={"InstanceType": "g4dn.xlarge"},
        TagSpecifications=specification("launch-template", run),
    )
    return str(made["LaunchTemplate"]["LaunchTemplateId"])


def security_group(clients: Clients, run: Run) -> str:
    group = SecurityGroup(fakes.target(), run)
    group.create(clients)
    return group.group_id


def key_pair(clients: Clients, run: Run) -> str:
    KeyPair.of(run).import_into(clients, run)
    return KeyPair.of(run).name


def role(clients: Clients, run: Run) -> str:
    BakeRole(run).create(clients)
    return BakeRole(run).name


def role_without_profile(clients: Clients, run: Run) -> str:
    name = role(clients, run)
    iam = clients.client("iam")
    iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name)
    iam.delete_instance_profile(InstanceProfileName=name)
    return name


def profile_without_role(clients: Clients, run: Run) -> str:
    name = f"gpunodes-{run.run_id}-bake"
    tags = specification("", run)[0]["Tags"]
    clients.client("iam").create_instance_profile(InstanceProfileName=name, Tags=tags)
    return name


def stranger(clients: Clients) -> str:
    launched = clients.ec2.run_instances(ImageId=fakes.base_image(clients), MinCount=1, MaxCount=1)
    return str(launched["Instances"][0]["InstanceId"])


def untagged_image(clients: Clients, run: Run) -> str:
    """As Packer 1.6.6 leaves it where it is killed between CreateImage and CreateTags."""
    made = clients.ec2.create_image(InstanceId=stranger(clients), Name=f"gpunodes-{run.run_id}")
    return str(made["ImageId"])


def tagged_image(clients: Clients, run: Run) -> str:
    tags = [{"Key": key, "Value": value} for key, value in runs.tags(run).items()]
    made = clients.ec2.create_image(
        InstanceId=stranger(clients),
        Name=f"other-{run.run_id}",
        TagSpecifications=[{"ResourceType": "image", "Tags": tags}],
    )
    return str(made["ImageId"])


def orphan_snapshot(clients: Clients, run: Run) -> str:
    tags = [{"Key": key, "Value": value} for key, value in runs.tags(run).items()]
    made = clients.ec2.create_snapshot(
        VolumeId=clients.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"],
        TagSpecifications=[{"ResourceType": "snapshot", "Tags": tags}],
    )
    return str(made["SnapshotId"])


def untagged_orphan_snapshot(clients: Clients, run: Run) -> str:
    """Of an image of the run's instance; the image is gone."""
    image = clients.ec2.create_image(InstanceId=instance(clients, run), Name=f"gpunodes-{run.run_id}")["ImageId"]
    mapping = clients.ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"][0]
    clients.ec2.deregister_image(ImageId=image)
    return str(mapping["Ebs"]["SnapshotId"])


def channel_lock(clients: Clients, run: Run) -> str:
    lock(clients, run).acquire()
    return "stable"


def lock(clients: Clients, run: Run) -> ChannelLock:
    begin = datetime(2030, 1, 1, tzinfo=UTC)
    return ChannelLock(
        clients, "stable", LockOwner.of(run), runs.expires_at(run), lambda _text: None, clock=lambda: begin
    )


KINDS: list[tuple[str, Maker]] = [
    ("instance", instance),
    ("volume", volume),
    ("launch template", launch_template),
    ("security group", security_group),
    ("key pair", key_pair),
    ("instance profile", role),
    ("instance profile", profile_without_role),
    ("role", role_without_profile),
    ("image", untagged_image),
    ("image", tagged_image),
    ("snapshot", orphan_snapshot),
    ("snapshot", untagged_orphan_snapshot),
    ("channel lock", channel_lock),
]
every_kind = pytest.mark.parametrize(("kind", "make"), KINDS, ids=[make.__name__ for _, make in KINDS])


def planned(clients: Clients, now: datetime = TOO_LATE, **options: Any) -> list[tuple[str, str, str]]:
    found = reap.plan(clients, now, **options)
    assert found.failures == []
    return [(leftover.kind, leftover.id, leftover.run_id) for leftover in found.leftovers]


@every_kind
def test_each_kind_is_found_and_deleted_when_it_has_expired_and_not_before(
    clients: Clients, tmp_path: Path, kind: str, make: Maker
) -> None:
    made = make(clients, fakes.run(tmp_path))
    assert planned(clients, IN_TIME) == []

    what = reap.plan(clients, TOO_LATE)
    assert (kind, made, RUN_ID) in [(leftover.kind, leftover.id, leftover.run_id) for leftover in what.leftovers]
    reaped = reap.reap(clients, what, wait=fakes.FakeClock().wait)

    assert reaped.failures == []
    assert reaped.gone == what.leftovers
    assert reaped.exit_code == 0
    assert planned(clients) == []


def test_all_of_a_run_goes_in_an_order_in_which_it_can(clients: Clients, tmp_path: Path) -> None:
    run = fakes.run(tmp_path)
    group = security_group(clients, run)
    role(clients, run)
    key_pair(clients, run)
    launched = clients.ec2.run_instances(
        ImageId=fakes.base_image(clients), MinCount=1, MaxCount=1, SecurityGroupIds=[group],
        TagSpecifications=specification("instance", run),
    )["Instances"][0]["InstanceId"]  # fmt: skip
    clients.ec2.create_image(InstanceId=launched, Name=f"gpunodes-{RUN_ID}")

    reaped = reap.reap(clients, reap.plan(clients, TOO_LATE), wait=fakes.FakeClock().wait)

    assert [leftover.kind for leftover in reaped.gone] == [
        "instance", "security group", "key pair", "instance profile", "role", "image",
    ]  # fmt: skip
    assert reaped.failures == []
    assert clients.client("iam").list_roles()["Roles"] == []


def test_a_second_time_finds_everything_gone_and_fails_nowhere(clients: Clients, tmp_path: Path) -> None:
    run = fakes.run(tmp_path)
    for make in (instance, volume, launch_template, security_group, key_pair, role, untagged_image, orphan_snapshot):
        make(clients, run)
    what = reap.plan(clients, TOO_LATE)
    reap.reap(clients, what, wait=fakes.FakeClock().wait)

    again = reap.reap(clients, what, wait=fakes.FakeClock().wait)

    assert again.failures == []
    assert planned(clients) == []


def test_a_sealed_image_and_what_is_not_ours_stay(clients: Clients, tmp_path: Path) -> None:
    run = fakes.run(tmp_path)
    sealed = tagged_image(clients, run)
    snapshots = [snapshot["SnapshotId"] for snapshot in clients.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]]
    clients.ec2.create_tags(Resources=[sealed, *snapshots], Tags=[{"Key": "gpunodes:state", "Value": "candidate"}])
    clients.ec2.create_image(InstanceId=stranger(clients), Name="somebody-else's")
    clients.client("iam").create_role(RoleName="gpunodes-admin", AssumeRolePolicyDocument="{}")

    assert planned(clients, TOO_LATE + timedelta(days=365)) == []


def test_a_sealed_snapshot_that_lost_its_image_is_no_leftover(clients: Clients, tmp_path: Path) -> None:
    snapshot = orphan_snapshot(clients, fakes.run(tmp_path))
    clients.ec2.create_tags(Resources=[snapshot], Tags=[{"Key": "gpunodes:state", "Value": "promoted"}])

    assert planned(clients) == []


def test_a_copy_under_the_name_of_an_image_is_somebodys(clients: Clients) -> None:
    clients.ec2.register_image(Name=f"gpunodes-{RUN_ID}")  # like a copy, it was not made of an instance

    assert planned(clients) == []


def test_what_an_older_version_made_goes_after_a_day(clients: Clients) -> None:
    clients.ec2.create_key_pair(
        KeyName="old",
        TagSpecifications=[{"ResourceType": "key-pair", "Tags": [{"Key": "gpunodes:run-id", "Value": "r1"}]}],
    )
    now = datetime.now(UTC)

    assert planned(clients, now + timedelta(hours=23)) == []
    assert planned(clients, now + timedelta(hours=25)) == [("key pair", "old", "r1")]


def test_what_carries_no_time_at_all_is_left_to_a_person(clients: Clients) -> None:
    group = clients.ec2.create_security_group(
        GroupName="g", Description="d",
        TagSpecifications=[{"ResourceType": "security-group", "Tags": [{"Key": "gpunodes:run-id", "Value": "r1"}]}],
    )["GroupId"]  # fmt: skip

    what = reap.plan(clients, TOO_LATE)

    assert what.leftovers == []
    assert what.undated == [f"security group {group}"]


def test_a_run_that_goes_on_here_is_not_touched(clients: Clients, tmp_path: Path) -> None:
    volume(clients, fakes.run(tmp_path))

    what = reap.plan(clients, TOO_LATE, is_going_on=lambda run_id: run_id == RUN_ID)

    assert what.leftovers == []
    assert what.going_on == [RUN_ID]


def test_it_can_be_limited_to_one_run(clients: Clients, tmp_path: Path) -> None:
    for run_id in (RUN_ID, OTHER_RUN_ID):
        role(clients, fakes.run(tmp_path, run_id))
        volume(clients, fakes.run(tmp_path, run_id))

    found = planned(clients, TOO_LATE + timedelta(days=2), run_id=OTHER_RUN_ID)

    assert [kind for kind, _, _ in found] == ["volume", "instance profile", "role"]
    assert {run_id for _, _, run_id in found} == {OTHER_RUN_ID}


def test_a_lock_that_another_bake_has_taken_meanwhile_is_left_alone(clients: Clients, tmp_path: Path) -> None:
    first, second = fakes.run(tmp_path), fakes.run(tmp_path, OTHER_RUN_ID)
    channel_lock(clients, first)
    what = reap.plan(clients, TOO_LATE)
    lock(clients, first).release()
    lock(clients, second).acquire()

    reap.reap(clients, what)

    assert lock(clients, second).is_held()


def test_a_lock_that_nobody_can_read_does_not_end_the_look(clients: Clients, tmp_path: Path) -> None:
    made = volume(clients, fakes.run(tmp_path))
    clients.ssm.put_parameter(Name="/gpunodes/stable/lock", Value="mine", Type="String")

    what = reap.plan(clients, TOO_LATE)

    assert [leftover.id for leftover in what.leftovers] == [made]
    assert [
        failure for failure in what.failures if "lock of channel `stable` cannot be read" in failure
    ] == what.failures
    assert what.failures != []


def test_reasons_are_for_people(clients: Clients, tmp_path: Path) -> None:
    run = fakes.run(tmp_path)
    volume(clients, run)
    untagged_image(clients, run)

    reasons = {leftover.kind: leftover.reason for leftover in reap.plan(clients, TOO_LATE).leftovers}

    assert reasons == {"volume": "expired 2 h ago", "image": "never sealed, expired 2 h ago"}


def test_what_a_run_left_that_is_over_goes_before_its_time_only_when_it_is_named(
    clients: Clients, tmp_path: Path
) -> None:
    made = volume(clients, fakes.run(tmp_path))
    is_over = {RUN_ID: True}

    named = reap.plan(clients, IN_TIME, run_id=RUN_ID, is_over=is_over.__contains__)
    unknown = reap.plan(clients, IN_TIME, run_id=RUN_ID)
    everything = reap.plan(clients, IN_TIME, is_over=is_over.__contains__)

    assert [(leftover.id, leftover.reason) for leftover in named.leftovers] == [(made, "its run is over")]
    assert (unknown.leftovers, everything.leftovers) == ([], [])


def test_every_page_of_instances_and_roles_is_read(
    clients: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_PAGE_SIZE", 5)
    made = {instance(clients, fakes.run(tmp_path)) for _ in range(7)}
    iam = clients.client("iam")
    for number in range(101):  # moto gives 100 at once
        iam.create_role(RoleName=f"gpunodes-20300102-000000-{number:04x}-bake", AssumeRolePolicyDocument="{}")
        made.add(f"gpunodes-20300102-000000-{number:04x}-bake")

    assert {name for _, name, _ in planned(clients, TOO_LATE + timedelta(days=9))} == made


class PagedEc2:
    """EC2 that answers every Describe call with two pages of one each."""

    @property
    def ec2(self) -> PagedEc2:
        return self

    def get_paginator(self, operation: str) -> PagedEc2:
        self.asked = operation
        return self

    def paginate(self, **_arguments: Any) -> list[dict[str, Any]]:
        return [{key: [self.item(number)] for key in PAGED.values()} for number in (1, 2)]

    def item(self, number: int) -> dict[str, Any]:
        tags = [{"Key": "gpunodes:run-id", "Value": RUN_ID}]
        names = ("VolumeId", "LaunchTemplateId", "GroupId", "ImageId", "SnapshotId", "InstanceId")
        return {"Tags": tags, "Instances": [], **dict.fromkeys(names, f"id-{number}")}


PAGED = {
    "volume": "Volumes", "launch template": "LaunchTemplates", "security group": "SecurityGroups", "image": "Images",
    "snapshot": "Snapshots", "instance": "Reservations",
}  # fmt: skip


@pytest.mark.parametrize("name", ["volume", "launch template", "security group", "image", "snapshot"])
def test_every_page_of_a_kind_is_read(name: str) -> None:
    kind = next(kind for kind in resource_kinds.KINDS if kind.name == name)

    found = resources.find(kind, cast("Clients", PagedEc2()), None)

    assert [resource.id for resource in found] == ["id-1", "id-2"]


def test_a_call_that_fails_makes_the_plan_incomplete_and_the_rest_goes_on(clients: Clients, tmp_path: Path) -> None:
    made = volume(clients, fakes.run(tmp_path))

    def refuse(_clients: Clients, _run_id: str | None) -> list[Resource]:
        raise AwsError("AWS refused while looking for images (Throttling: slow down); see to that and repeat.")

    kinds = [replace(kind, find=refuse) if kind.name == "image" else kind for kind in resource_kinds.KINDS]
    what = reap.plan(clients, TOO_LATE, kinds=kinds)
    reaped = reap.reap(clients, what, kinds=kinds)

    assert [leftover.id for leftover in reaped.gone] == [made]
    assert len(what.failures) == 1
    assert "looking for images" in reaped.failures[0]
    assert reaped.exit_code == 3


def test_credentials_that_are_refused_end_it_at_once() -> None:
    calls: list[str] = []

    def refuse(_clients: Clients, _run_id: str | None) -> list[Resource]:
        calls.append("find")
        raise PreflightError("AWS does not accept the credentials.")

    kind = Kind("volume", refuse, lambda _clients, _resource: None)
    with pytest.raises(PreflightError):
        reap.plan(cast("Clients", None), TOO_LATE, kinds=[kind, kind])

    assert calls == ["find"]


def test_a_deletion_that_fails_is_told_and_the_rest_goes_on(clients: Clients, tmp_path: Path) -> None:
    run = fakes.run(tmp_path)
    kept, name = volume(clients, run), key_pair(clients, run)
    what = reap.plan(clients, TOO_LATE)
    clients.ec2.attach_volume(VolumeId=kept, InstanceId=stranger(clients), Device="/dev/sdf")
    clock, told = fakes.FakeClock(), []

    reaped = reap.reap(
        clients,
        what,
        wait=clock.wait,
        record=lambda item, failure: told.append((item.id, failure)),
    )

    assert [leftover.id for leftover in reaped.gone] == [name]
    assert reaped.exit_code == 3
    assert [failure for failure in reaped.failures if kept in failure and "VolumeInUse" in failure]
    assert clock.waits == [1.0, 2.0, 4.0, 8.0]
    assert told == [(kept, reaped.failures[0]), (name, "")]


def leftover_of(kind: str, name: str) -> Leftover:
    found = Resource(kind, name, RUN_ID, IN_TIME, IN_TIME)
    return Leftover(kind, name, RUN_ID, IN_TIME, "expired", None, found)


class EndlessEc2:
    """EC2 with an instance that hears TerminateInstances and does not end."""

    @property
    def ec2(self) -> EndlessEc2:
        return self

    def terminate_instances(self, **_arguments: Any) -> None:
        pass

    def get_paginator(self, _operation: str) -> EndlessEc2:
        return self

    def paginate(self, **_arguments: Any) -> list[dict[str, Any]]:
        return [{"Reservations": [{"Instances": [{"InstanceId": "i-1"}]}]}]


def test_an_instance_that_does_not_end_is_a_failure() -> None:
    clock = fakes.FakeClock()
    what = Plan([leftover_of("instance", "i-1")], [], [], [])

    reaped = reap.reap(cast("Clients", EndlessEc2()), what, wait=clock.wait)

    assert reaped.failures == ["Instance i-1 does not terminate; look at it in the EC2 console."]
    assert reaped.gone == []
    assert sum(clock.waits) >= 300


class ProtectedEc2:
    """EC2 with one unsealed image that may not be deregistered."""

    def __init__(self, says: str = "enabled-without-cooldown") -> None:
        self.says = says
        self.is_protected = True
        self.calls: list[str] = []

    @property
    def ec2(self) -> ProtectedEc2:
        return self

    def get_paginator(self, _operation: str) -> ProtectedEc2:
        return self

    def paginate(self, **_arguments: Any) -> list[dict[str, Any]]:
        return [{"Images": [{
            "ImageId": "ami-1", "Name": f"gpunodes-{RUN_ID}", "SourceInstanceId": "i-1",
            "DeregistrationProtection": self.says,
        }]}]  # fmt: skip

    def disable_image_deregistration_protection(self, **_arguments: Any) -> None:
        self.calls.append("unprotect")
        self.is_protected = False

    def deregister_image(self, **arguments: Any) -> None:
        self.calls.append("deregister")
        assert arguments["DeleteAssociatedSnapshots"] is True
        if self.is_protected:
            raise ClientError({"Error": {"Code": "OperationNotPermitted"}}, "DeregisterImage")


def test_protection_is_taken_off_an_unsealed_image_first() -> None:
    ec2 = ProtectedEc2()
    kinds = [resource_kinds.IMAGE]
    what = reap.plan(cast("Clients", ec2), TOO_LATE, kinds=kinds)

    reap.reap(cast("Clients", ec2), what, kinds=kinds)

    assert ec2.calls == ["unprotect", "deregister"]


def test_protection_that_describe_images_does_not_show_yet_is_taken_off_too() -> None:
    ec2 = ProtectedEc2(says="disabled")
    kinds = [resource_kinds.IMAGE]
    what = reap.plan(cast("Clients", ec2), TOO_LATE, kinds=kinds)

    assert reap.reap(cast("Clients", ec2), what, kinds=kinds).failures == []

    assert ec2.calls == ["deregister", "unprotect", "deregister"]


def test_an_image_that_may_not_be_deregistered_at_all_says_why() -> None:
    class NotAllowed(ProtectedEc2):
        def disable_image_deregistration_protection(self, **_arguments: Any) -> None:
            raise ClientError({"Error": {"Code": "InternalFailure"}}, "DisableImageDeregistrationProtection")

    ec2, kinds = NotAllowed(says="disabled"), [resource_kinds.IMAGE]
    what = reap.plan(cast("Clients", ec2), TOO_LATE, kinds=kinds)

    [failure] = reap.reap(cast("Clients", ec2), what, kinds=kinds).failures

    assert "deleting the image ami-1 (OperationNotPermitted" in failure


class UntaggedSpotEc2:
    """EC2 that knows an instance by its key pair only, as in the moment before Packer tags a spot instance."""

    def __init__(self) -> None:
        self.filters: list[Any] = []

    @property
    def ec2(self) -> UntaggedSpotEc2:
        return self

    def get_paginator(self, _operation: str) -> UntaggedSpotEc2:
        return self

    def paginate(self, **arguments: Any) -> list[dict[str, Any]]:
        by_key = {"Name": "key-name", "Values": ["gpunodes-*"]} in arguments["Filters"]
        instance = {"InstanceId": "i-1", "KeyName": f"gpunodes-{RUN_ID}", "LaunchTime": IN_TIME}
        return [{"Reservations": [{"Instances": [instance] if by_key else []}]}]


def test_a_spot_instance_that_packer_had_not_tagged_yet_is_found_from_any_machine() -> None:
    what = reap.plan(cast("Clients", UntaggedSpotEc2()), TOO_LATE, kinds=[resource_kinds.INSTANCE])

    assert [(leftover.id, leftover.run_id) for leftover in what.leftovers] == [("i-1", RUN_ID)]


def test_nothing_is_deleted_without_being_asked_to(clients: Clients, moto_url: str, tmp_path: Path) -> None:
    made = volume(clients, fakes.run(tmp_path))

    reaped = reap.reap_region(fakes.target(moto_url), Settings(work_folder=tmp_path), apply=False, now=TOO_LATE)

    assert [leftover.id for leftover in reaped.plan.leftovers] == [made]
    assert reaped.gone == []
    assert len(clients.ec2.describe_volumes()["Volumes"]) == 1


def test_the_journal_of_a_run_of_this_checkout_is_told(clients: Clients, moto_url: str, tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)
    here, elsewhere = fakes.run(settings.runs_folder / RUN_ID), fakes.run(tmp_path / "else", OTHER_RUN_ID)
    made = volume(clients, here)
    volume(clients, elsewhere)

    reap.reap_region(fakes.target(moto_url), settings, apply=True, now=TOO_LATE + timedelta(days=1))

    lines = [json.loads(line) for line in (here.folder / journal.FILE).read_text().splitlines()]
    assert [(line["event"], line["kind"], line["id"]) for line in lines] == [("reaped", "volume", made)]
    assert clients.ec2.describe_volumes()["Volumes"] == []
    assert not (settings.runs_folder / OTHER_RUN_ID).exists()


def test_the_private_key_of_a_killed_run_goes_and_that_of_another_stays(
    clients: Clients, moto_url: str, tmp_path: Path
) -> None:
    settings = Settings(work_folder=tmp_path)
    killed, other = (runs.start(settings, "test") for _ in range(2))
    for run in (killed, other):
        KeyPair.of(run).import_into(clients, run)

    reap.reap_region(fakes.target(moto_url), settings, apply=True, run_id=killed.run_id)

    assert not KeyPair.of(killed).private_key.exists()
    assert KeyPair.of(other).private_key.exists()
    assert [pair["KeyName"] for pair in clients.ec2.describe_key_pairs()["KeyPairs"]] == [KeyPair.of(other).name]


def test_a_run_of_this_checkout_that_lives_is_left_alone(clients: Clients, moto_url: str, tmp_path: Path) -> None:
    settings = Settings(work_folder=tmp_path)
    run = fakes.run(settings.runs_folder / RUN_ID)
    volume(clients, run)

    with runs.going_on(run):
        reaped = reap.reap_region(fakes.target(moto_url), settings, apply=True, now=TOO_LATE)

    assert reaped.plan.going_on == [RUN_ID]
    assert len(clients.ec2.describe_volumes()["Volumes"]) == 1


@pytest.mark.parametrize(
    ("elapsed", "text"),
    [
        (timedelta(minutes=5), "5 min"), (timedelta(hours=3), "3 h"), (timedelta(hours=47), "47 h"),
        (timedelta(days=3), "3 days"),
    ],
)  # fmt: skip
def test_spans_are_for_people(elapsed: timedelta, text: str) -> None:
    assert reap.span(elapsed) == text
