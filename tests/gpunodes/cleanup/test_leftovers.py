from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from gpunodes.aws import Clients
from gpunodes.cleanup import leftovers
from gpunodes.errors import AwsError
from tests.gpunodes.fakes import FakeClock, base_image

RUN_ID = "20300101-000000-abcd"


@dataclass
class Made:
    """What a run made."""

    instance: str
    group: str
    key_pair: str
    image: str
    snapshots: list[str] = field(default_factory=list)


def tag_specification(resource: str, run_id: str) -> list[dict[str, Any]]:
    return [{"ResourceType": resource, "Tags": [{"Key": "gpunodes:run-id", "Value": run_id}]}]


def make(clients: Clients, run_id: str) -> Made:
    group = clients.ec2.create_security_group(
        GroupName=run_id, Description="test", TagSpecifications=tag_specification("security-group", run_id)
    )["GroupId"]
    instance = clients.ec2.run_instances(
        ImageId=base_image(clients), MinCount=1, MaxCount=1, SecurityGroupIds=[group],
        TagSpecifications=tag_specification("instance", run_id),
    )["Instances"][0]["InstanceId"]  # fmt: skip
    clients.ec2.create_key_pair(KeyName=f"key-{run_id}", TagSpecifications=tag_specification("key-pair", run_id))
    image = clients.ec2.create_image(
        InstanceId=instance, Name=run_id, TagSpecifications=tag_specification("image", run_id)
    )["ImageId"]
    mappings = clients.ec2.describe_images(ImageIds=[image])["Images"][0]["BlockDeviceMappings"]
    return Made(instance, group, f"key-{run_id}", image, [m["Ebs"]["SnapshotId"] for m in mappings if "Ebs" in m])


def instance_states(clients: Clients) -> dict[str, str]:
    reservations = clients.ec2.describe_instances()["Reservations"]
    return {i["InstanceId"]: i["State"]["Name"] for r in reservations for i in r["Instances"]}


def snapshot_ids(clients: Clients) -> set[str]:
    return {snapshot["SnapshotId"] for snapshot in clients.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}


def never(_seconds: float) -> None:
    pytest.fail("waited although everything was gone")


def test_instances_and_security_groups_of_the_run_alone_are_removed(clients: Clients) -> None:
    ours, other = make(clients, "ours"), make(clients, "other")

    removed = leftovers.remove_instances(clients, "ours", never)

    assert removed == [ours.instance, ours.group]
    assert instance_states(clients) == {ours.instance: "terminated", other.instance: "running"}
    groups = {group["GroupId"] for group in clients.ec2.describe_security_groups()["SecurityGroups"]}
    assert other.group in groups
    assert ours.group not in groups


def test_images_and_snapshots_of_the_run_alone_are_removed(clients: Clients) -> None:
    ours, other = make(clients, "ours"), make(clients, "other")
    assert ours.snapshots

    assert leftovers.remove_images(clients, "ours") == [ours.image]

    assert [
        image["ImageId"]
        for image in clients.ec2.describe_images(Filters=[{"Name": "tag-key", "Values": ["gpunodes:run-id"]}])["Images"]
    ] == [other.image]
    assert snapshot_ids(clients).isdisjoint(ours.snapshots)
    assert snapshot_ids(clients) >= set(other.snapshots)


def test_key_pairs_of_the_run_alone_are_removed(clients: Clients) -> None:
    ours, other = make(clients, "ours"), make(clients, "other")

    assert leftovers.remove_key_pairs(clients, "ours") == [ours.key_pair]

    assert [pair["KeyName"] for pair in clients.ec2.describe_key_pairs()["KeyPairs"]] == [other.key_pair]


def test_removing_a_second_time_does_nothing(clients: Clients) -> None:
    make(clients, "ours")
    for _ in range(2):
        removed = [
            *leftovers.remove_instances(clients, "ours", never),
            *leftovers.remove_images(clients, "ours"),
            *leftovers.remove_key_pairs(clients, "ours"),
        ]

    assert removed == []


def test_all_of_the_run_alone_goes_and_nothing_is_found_of_it_then(clients: Clients) -> None:
    ours, other = make(clients, RUN_ID), make(clients, "other")
    clients.client("iam").create_role(RoleName=f"gpunodes-{RUN_ID}-x", AssumeRolePolicyDocument="{}")
    assert len(leftovers.of_run(clients, RUN_ID)) == 5

    removed = leftovers.remove_all(clients, RUN_ID, never)

    assert removed == [ours.instance, ours.group, ours.key_pair, f"gpunodes-{RUN_ID}-x", ours.image]
    assert leftovers.of_run(clients, RUN_ID) == []
    assert {found.id for found in leftovers.of_run(clients, "other")} == {
        other.instance, other.group, other.key_pair, other.image
    }  # fmt: skip


def test_a_sealed_image_stays_where_all_of_its_run_goes(clients: Clients) -> None:
    made = make(clients, RUN_ID)
    clients.ec2.create_tags(
        Resources=[made.image, *made.snapshots], Tags=[{"Key": "gpunodes:state", "Value": "candidate"}]
    )

    assert made.image not in leftovers.remove_all(clients, RUN_ID, never)
    assert leftovers.of_run(clients, RUN_ID) == []
    assert clients.ec2.describe_images(ImageIds=[made.image])["Images"]


class SlowEc2:
    """EC2 with one instance that takes so many looks to end; security groups may go only then."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.deleted_groups: list[str] = []
        self.asked = ""

    @property
    def ec2(self) -> SlowEc2:
        return self

    def get_paginator(self, operation: str) -> SlowEc2:
        self.asked = operation
        return self

    def paginate(self, **_arguments: Any) -> list[dict[str, Any]]:
        if self.asked == "describe_instances":
            self.looks -= 1
            return [{"Reservations": [{"Instances": [{"InstanceId": "i-1"}] if self.looks >= 0 else []}]}]
        if self.asked == "describe_security_groups":
            return [{"SecurityGroups": [{"GroupId": "sg-1"}]}]
        return [{"Volumes": [], "LaunchTemplates": []}]

    def terminate_instances(self, **_arguments: Any) -> None:
        pass

    def delete_security_group(self, **arguments: Any) -> None:
        assert self.looks < 0, "the instance still uses the group"
        self.deleted_groups.append(arguments["GroupId"])


def test_security_groups_go_when_the_instances_have_ended() -> None:
    ec2, clock = SlowEc2(looks=5), FakeClock()

    assert leftovers.remove_instances(cast("Clients", ec2), "ours", clock.wait) == ["i-1", "sg-1"]

    assert clock.waits == [2.0, 2.0, 2.0]
    assert ec2.deleted_groups == ["sg-1"]


def test_a_kind_that_cannot_be_removed_does_not_keep_the_others() -> None:
    class NoVolumes(SlowEc2):
        def paginate(self, **arguments: Any) -> list[dict[str, Any]]:
            if self.asked == "describe_volumes":
                raise ClientError({"Error": {"Code": "UnauthorizedOperation"}}, "DescribeVolumes")
            return super().paginate(**arguments)

    ec2 = NoVolumes(looks=1)

    with pytest.raises(AwsError, match="looking for volumes"):
        leftovers.remove_instances(cast("Clients", ec2), "ours", FakeClock().wait)

    assert ec2.deleted_groups == ["sg-1"]


def test_where_nobody_answers_no_other_kind_is_waited_for() -> None:
    class Away(SlowEc2):
        def paginate(self, **arguments: Any) -> list[dict[str, Any]]:
            if self.asked == "describe_volumes":
                raise EndpointConnectionError(endpoint_url="https://ec2")
            return super().paginate(**arguments)

    ec2 = Away(looks=1)

    with pytest.raises(AwsError, match="did not answer while looking for volumes"):
        leftovers.remove_instances(cast("Clients", ec2), "ours", FakeClock().wait)

    assert ec2.deleted_groups == []


def test_instance_that_does_not_end_is_named_after_five_minutes() -> None:
    clock = FakeClock()

    with pytest.raises(AwsError, match="i-1 do not terminate"):
        leftovers.remove_instances(cast("Clients", SlowEc2(looks=10_000)), "ours", clock.wait)

    assert 300 <= sum(clock.waits) <= 304


def test_volumes_and_launch_templates_of_the_run_alone_are_removed(clients: Clients) -> None:
    for run_id in ("ours", "other"):
        clients.ec2.create_volume(
            AvailabilityZone="us-east-1a", Size=1, TagSpecifications=tag_specification("volume", run_id)
        )
        clients.ec2.create_launch_template(
            LaunchTemplateName=run_id,
            LaunchTemplateData={"InstanceType": "g4dn.xlarge"},
            TagSpecifications=tag_specification("launch-template", run_id),
        )

    assert len(leftovers.remove_instances(clients, "ours", never)) == 2

    assert [lt["LaunchTemplateName"] for lt in clients.ec2.describe_launch_templates()["LaunchTemplates"]] == ["other"]
    assert len(clients.ec2.describe_volumes()["Volumes"]) == 1


def test_an_instance_that_packer_had_not_tagged_yet_is_found_by_the_runs_key(clients: Clients) -> None:
    clients.ec2.create_key_pair(KeyName=f"gpunodes-{RUN_ID}")
    instance = clients.ec2.run_instances(
        ImageId=base_image(clients), MinCount=1, MaxCount=1, KeyName=f"gpunodes-{RUN_ID}"
    )["Instances"][0]["InstanceId"]

    assert leftovers.remove_instances(clients, RUN_ID, never) == [instance]


def test_an_image_that_packer_had_not_tagged_yet_is_found_by_its_name(clients: Clients) -> None:
    instance = clients.ec2.run_instances(ImageId=base_image(clients), MinCount=1, MaxCount=1)["Instances"][0]
    image = clients.ec2.create_image(InstanceId=instance["InstanceId"], Name=f"gpunodes-{RUN_ID}")["ImageId"]

    assert leftovers.remove_images(clients, RUN_ID) == [image]


def test_a_snapshot_that_lost_its_image_is_found_by_the_runs_instance(clients: Clients) -> None:
    ours, other = make(clients, RUN_ID), make(clients, "other")
    for made in (ours, other):
        clients.ec2.deregister_image(ImageId=made.image)  # moto's leaves the snapshots

    assert leftovers.remove_images(clients, RUN_ID) == ours.snapshots

    assert snapshot_ids(clients).isdisjoint(ours.snapshots)
    assert snapshot_ids(clients) >= set(other.snapshots)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_sealed_image_and_its_snapshots_stay_where_only_unsealed_ones_go(clients: Clients, sealed: bool) -> None:
    made = make(clients, RUN_ID)
    clients.ec2.create_tags(
        Resources=[made.image, *made.snapshots], Tags=[{"Key": "gpunodes:state", "Value": "candidate"}]
    )

    removed = leftovers.remove_images(clients, RUN_ID, sealed=sealed)

    assert removed == ([made.image] if sealed else [])
    assert snapshot_ids(clients).isdisjoint(made.snapshots) == sealed
