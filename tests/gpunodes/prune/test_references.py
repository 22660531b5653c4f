"""Who refers to an image, in an account of moto's."""

from __future__ import annotations

from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from gpunodes.aws import Clients
from gpunodes.errors import AwsError, PreflightError
from gpunodes.prune import compute_references, parameter_references, references
from gpunodes.prune.offered import MissingSourceError
from gpunodes.prune.references import Reference, Source
from tests.gpunodes.channel.channel_images import make_image
from tests.gpunodes.fakes import base_image

OTHER = "ami-0123456789abcdef0"


def names(found: Any, ami_id: str) -> list[str]:
    return [str(reference) for reference in found if reference.ami_id == ami_id]


def template(clients: Clients, image_id: str, name: str = "training") -> str:
    data = {"ImageId": image_id, "InstanceType": "t3.small"}
    made = clients.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
    return str(made["LaunchTemplate"]["LaunchTemplateId"])


def parameter(clients: Clients, name: str, value: str, **more: Any) -> None:
    clients.ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=True, **more)


def test_instance_counts_in_any_state(clients: Clients) -> None:
    image = base_image(clients)
    ids = [i["InstanceId"] for i in clients.ec2.run_instances(ImageId=image, MinCount=3, MaxCount=3)["Instances"]]
    clients.ec2.stop_instances(InstanceIds=ids[:1])
    clients.ec2.terminate_instances(InstanceIds=ids[1:2])

    found = names(compute_references.of_instances(clients), image)

    states = zip(ids, ["stopped", "terminated", "running"], strict=True)
    assert sorted(found) == sorted(f"instance {instance_id} ({state})" for instance_id, state in states)


def test_every_version_of_a_launch_template_counts(clients: Clients) -> None:
    image = make_image(clients)
    name = template(clients, image)
    for _ in range(3):
        clients.ec2.create_launch_template_version(LaunchTemplateId=name, LaunchTemplateData={"ImageId": OTHER})
    clients.ec2.modify_launch_template(LaunchTemplateId=name, DefaultVersion="4")
    clients.ec2.create_launch_template_version(LaunchTemplateId=name, LaunchTemplateData={"InstanceType": "t3.micro"})

    found = list(compute_references.of_launch_templates(clients))

    assert names(found, image) == ["launch template training version 1"]
    assert len(names(found, OTHER)) == 3


def test_alias_of_a_launch_template_is_looked_up(clients: Clients) -> None:
    image = make_image(clients)
    parameter(clients, "/gpunodes/stable/ami-id", image)
    parameter(clients, "/gpunodes/stable/ami-id", OTHER)
    template(clients, "resolve:ssm:/gpunodes/stable/ami-id", "newest")
    template(clients, "resolve:ssm:/gpunodes/stable/ami-id:1", "pinned")
    template(clients, "resolve:ssm:/gone", "broken")

    found = list(compute_references.of_launch_templates(clients))

    assert names(found, image) == ["launch template pinned version 1"]
    assert names(found, OTHER) == ["launch template newest version 1"]
    assert len(found) == 2


def test_launch_configuration_counts_with_its_groups(clients: Clients) -> None:
    image = make_image(clients)
    scaling = clients.client("autoscaling")
    scaling.create_launch_configuration(LaunchConfigurationName="old", ImageId=image, InstanceType="t3.small")
    scaling.create_auto_scaling_group(
        AutoScalingGroupName="workers",
        LaunchConfigurationName="old",
        MinSize=0,
        MaxSize=1,
        AvailabilityZones=["us-east-1a"],
    )

    assert names(compute_references.of_auto_scaling(clients), image) == ["launch configuration old of group workers"]


def test_any_parameter_counts_now_and_those_of_images_with_their_past(clients: Clients) -> None:
    image = make_image(clients)
    parameter(clients, "/team/text", f'{{"ami": "{image}"}}')
    parameter(clients, "/team/past", image)
    parameter(clients, "/team/past", "nothing")
    parameter(clients, "/team/image", image, DataType="aws:ec2:image")
    parameter(clients, "/team/image", OTHER, DataType="aws:ec2:image")

    found = list(parameter_references.of_parameters(clients))

    assert sorted(names(found, image)) == ["parameter /team/image version 1", "parameter /team/text"]
    assert sorted(names(found, OTHER)) == ["parameter /team/image", "parameter /team/image version 2"]


def test_past_of_our_own_channels_counts_where_it_has_a_label(clients: Clients) -> None:
    first, second = make_image(clients), make_image(clients)
    name = "/gpunodes/stable/ami-id"
    for value in (first, second, OTHER):
        parameter(clients, name, value, DataType="aws:ec2:image")
    clients.ssm.label_parameter_version(Name=name, ParameterVersion=2, Labels=["pinned"])

    found = list(parameter_references.of_parameters(clients))

    assert names(found, first) == []
    assert names(found, second) == [f"parameter {name} version 2"]
    assert names(found, OTHER) == [f"parameter {name}"]


def test_every_source_is_asked_and_one_that_fails_is_remembered(clients: Clients) -> None:
    def fails(_clients: Clients) -> list[Reference]:
        raise AwsError("AWS refused while looking (AccessDenied: no).")

    def is_missing(_clients: Clients) -> list[Reference]:
        raise MissingSourceError("not here")

    def half(_clients: Clients) -> Any:
        yield Reference(OTHER, "instance", "i-1")
        raise AwsError("The second page did not come.")

    def whole(_clients: Clients) -> list[Reference]:
        return [Reference(OTHER, "parameter", "/x")]

    sources = [Source("a", fails), Source("b", is_missing), Source("c", half), Source("d", whole)]

    found = references.collect(clients, sources)

    assert [str(reference) for reference in found.of(OTHER)] == ["parameter /x"]
    assert (found.answered, list(found.lacking), list(found.failed)) == (["d"], ["b"], ["a", "c"])
    assert not found.are_complete


def test_without_credentials_nobody_else_is_asked(clients: Clients) -> None:
    def fails(_clients: Clients) -> list[Reference]:
        raise PreflightError("AWS does not accept the credentials.")

    with pytest.raises(PreflightError):
        references.collect(clients, [Source("a", fails)])


def test_refusal_of_a_call_is_one_of_the_source() -> None:
    class Refusing:
        @property
        def ec2(self) -> Any:
            return self

        def get_paginator(self, _name: str) -> Any:
            return self

        def paginate(self, **_arguments: Any) -> Any:
            raise ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": "no"}}, "DescribeInstances")

    found = references.collect(cast(Clients, Refusing()), compute_references.SOURCES[:1])

    assert list(found.failed) == ["instances"]
    assert "UnauthorizedOperation" in found.failed["instances"]
