"""What two clones of an image have of their own, and what they have of the instance that baked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from gpunodes import settings
from gpunodes.bake import bake_record
from gpunodes.proof import clone
from gpunodes.proof.boot_checks import nothing_is_inherited
from gpunodes.proof.clone import Clone, Origin
from gpunodes.proof.remote import Remote
from tests.offline.conftest import Cloud, parse, run_invoke, wait_until

STRANGER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJpbmdzb2ZzYXR1cm5hcmVub3RhbGxvZml0 stranger"
PLANTED = {
    "/root/.aws/credentials": "[default]",
    "/root/.netrc": "machine example.com password secret",
    "/root/.bash_history": "mysql --password=secret",
    "/home/somebody/.ssh/authorized_keys": STRANGER,
    "/home/somebody/.python_history": "password = 'secret'",
    "/etc/apt/auth.conf.d/mirror.conf": "machine mirror login me password secret",
    "/etc/apt/apt.conf.d/99proxy": 'Acquire::Retries "1";',
    "/var/lib/systemd/coredump/core.agent.0.zst": "memory",
    "/var/crash/agent.crash": "memory",
    "/var/log/app/app.log": "a line",
    "/var/tmp/scratch": "draft",
}


@dataclass(frozen=True)
class Launched:
    """A clone that runs."""

    instance: dict[str, Any]
    remote: Remote
    origin: Origin
    found: Clone


def image_of(cloud: Cloud, instance: dict[str, Any], name: str) -> str:
    """An image of an instance as it is, with nothing removed."""
    image_id = str(cloud.ec2.create_image(InstanceId=instance["InstanceId"], Name=name, NoReboot=True)["ImageId"])
    wait_until((cloud.layout.images / image_id).exists, 30)
    return image_id


def launch_two(cloud: Cloud, image_id: str) -> list[Launched]:
    image = cloud.ec2.describe_images(ImageIds=[image_id])["Images"][0]
    origin = clone.origin_of(settings.load(), image)
    instances = [cloud.launch(image_id) for _ in range(2)]
    remotes = [cloud.connect(instance) for instance in instances]
    return [
        Launched(instance, remote, origin, clone.look_at(remote, origin))
        for instance, remote in zip(instances, remotes, strict=True)
    ]


@pytest.fixture(scope="module")
def planter(cloud: Cloud) -> dict[str, Any]:
    """The instance on which somebody worked before they made a base image of it."""
    instance = cloud.launch()
    plants = [
        f"sudo mkdir -p $(dirname {path}) && sudo tee {path} >/dev/null <<'END'\n{text}\nEND"
        for path, text in PLANTED.items()
    ]
    cloud.connect(instance).run("\n".join(["set -e", "sudo useradd --create-home somebody", *plants, "sudo sync"]))
    return instance


@pytest.fixture(scope="module")
def clones(cloud: Cloud, planter: dict[str, Any]) -> list[Launched]:
    """Two clones of what `build-ami` makes of such a base image."""
    base = image_of(cloud, planter, "somebody-worked-here")
    cloud.ec2.terminate_instances(InstanceIds=[planter["InstanceId"]])
    baked = run_invoke("build-ami", "--offline", "--json", "--source-ami", base)
    assert baked.returncode == 0, baked.stderr
    return launch_two(cloud, parse(baked.stdout)["ami_id"])


def test_clones_of_a_baked_image_are_clean(clones: list[Launched]) -> None:
    for one in clones:
        assert one.found.complaints == ()
        assert one.origin.instance_id.startswith("i-")
        assert one.origin.begun_at is not None
        assert one.found.identity["instance_id"] == one.instance["InstanceId"]
        assert one.origin.instance_id != one.instance["InstanceId"]


def test_clones_of_a_baked_image_have_nothing_in_common(clones: list[Launched]) -> None:
    one, other = (each.found for each in clones)
    assert clone.in_common(one, other) == []
    for name in ("instance_id", "hostname", "machine_id", "ssh_host_keys"):
        assert one.identity[name]
        assert other.identity[name]


def test_nothing_of_who_worked_on_the_base_image_is_on_a_clone(clones: list[Launched], planter: dict[str, Any]) -> None:
    remote = clones[0].remote
    assert remote.run(f"sudo ls -d {' '.join(PLANTED)} 2>/dev/null || true") == ""
    assert remote.run("getent passwd somebody").startswith("somebody:")  # it is that base image
    of_planter = Origin(planter["InstanceId"], None, clones[0].origin.imaged_at)
    assert clone.look_at(remote, of_planter).complaints == ()


def test_an_image_that_was_not_cleaned_is_found_out(cloud: Cloud, clones: list[Launched]) -> None:
    builder = clones[1]
    builder.remote.run(
        "echo 'ssh_deletekeys: false' | sudo tee /etc/cloud/cloud.cfg.d/99-keys.cfg"
        f" && sudo install -d /home/somebody/.ssh && echo '{STRANGER}' | sudo tee /home/somebody/.ssh/authorized_keys"
        " && sudo sync"
    )
    image_id = image_of(cloud, builder.instance, "not-cleaned")
    tag = {"Key": bake_record.TAG_BAKE_INSTANCE, "Value": builder.instance["InstanceId"]}
    cloud.ec2.create_tags(Resources=[image_id], Tags=[tag])
    one, other = launch_two(cloud, image_id)
    for each in (one, other):
        check = nothing_is_inherited(each.found, each.origin.instance_id)
        assert not check.passed
        complaints = "\n".join(each.found.complaints)
        assert f"These files name {builder.instance['InstanceId']}" in complaints
        assert "/var/log/cloud-init.log" in complaints
        assert "/etc/ssh/ssh_host_ed25519_key is as old as the image" in complaints
        assert "/home/somebody/.ssh/authorized_keys holds a key" in complaints
    assert {"machine_id", "ssh_host_keys"} <= set(clone.in_common(one.found, other.found))
