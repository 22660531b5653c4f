"""What localaws makes of EC2's calls: real machines with EC2's identity, disks and life."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpunodes.connection.key_pair import KeyPair
from gpunodes.errors import ToolError
from gpunodes.proof.remote import Remote
from localaws.cloud import machines
from tests.gpunodes import fakes
from tests.offline.conftest import Cloud, wait_until

TOKEN = "$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)"


def metadata(path: str) -> str:
    return f'curl -sf -H "X-aws-ec2-metadata-token: {TOKEN}" http://169.254.169.254/latest/{path}'


@pytest.fixture(autouse=True)
def _no_instances_left(cloud: Cloud) -> Iterator[None]:
    yield
    cloud.terminate_all()


@pytest.fixture
def profile(cloud: Cloud) -> Iterator[str]:
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    cloud.iam.create_role(RoleName="reader", AssumeRolePolicyDocument=json.dumps(trust))
    cloud.iam.create_instance_profile(InstanceProfileName="reader")
    cloud.iam.add_role_to_instance_profile(InstanceProfileName="reader", RoleName="reader")
    yield "reader"
    cloud.iam.remove_role_from_instance_profile(InstanceProfileName="reader", RoleName="reader")
    cloud.iam.delete_instance_profile(InstanceProfileName="reader")
    cloud.iam.delete_role(RoleName="reader")


def test_key_host_name_user_data_and_identity_come_from_the_metadata_service(cloud: Cloud) -> None:
    instance = cloud.launch(UserData="#!/bin/sh\necho from user data > /root/proof\n")
    remote = cloud.connect(instance)
    address = instance["PrivateIpAddress"]
    assert remote.run("hostname").strip() == f"ip-{address.replace('.', '-')}"
    assert remote.run("sudo cat /root/proof").strip() == "from user data"
    assert remote.run(metadata("meta-data/instance-id")) == instance["InstanceId"]
    document = json.loads(remote.run(metadata("dynamic/instance-identity/document")))
    assert (document["instanceType"], document["region"]) == ("g4dn.xlarge", "us-east-1")
    assert "DataSourceEc2" in remote.run("sudo cat /run/cloud-init/status.json")


def test_a_key_that_is_pushed_lets_its_user_in(cloud: Cloud, tmp_path: Path) -> None:
    instance = cloud.launch()
    remote = cloud.connect(instance)
    pair = KeyPair.of(fakes.run(tmp_path))
    public_key = pair.make()
    pushed = Remote(instance["PrivateIpAddress"], "debian", pair.private_key)
    as_root = Remote(instance["PrivateIpAddress"], "root", pair.private_key)
    with pytest.raises(ToolError, match="Authentication failed"):
        pushed.connect(0)

    cloud.instance_connect.send_ssh_public_key(
        InstanceId=instance["InstanceId"], InstanceOSUser="debian", SSHPublicKey=public_key
    )
    pushed.connect(0)
    assert pushed.run("whoami").strip() == "debian"
    pushed.close()
    with pytest.raises(ToolError, match="Authentication failed"):
        as_root.connect(0)
    assert public_key not in remote.run("cat ~/.ssh/authorized_keys")


def test_the_metadata_service_refuses_strangers_and_version_1_where_a_token_is_required(cloud: Cloud) -> None:
    instance = cloud.launch(MetadataOptions={"HttpTokens": "required"})
    remote = cloud.connect(instance)
    plain = "curl -s -o /dev/null -w '%{http_code}' http://169.254.169.254/latest/meta-data/"
    with_made_up_token = f"{plain} -H 'X-aws-ec2-metadata-token: made-up'"
    assert (remote.run(plain), remote.run(with_made_up_token)) == ("401", "401")
    cloud.ec2.modify_instance_metadata_options(InstanceId=instance["InstanceId"], HttpTokens="optional")
    wait_until(lambda: remote.run(plain) == "200", 20)
    assert remote.run(with_made_up_token) == "401"


def test_role_credentials_come_from_the_instance_profile(cloud: Cloud, profile: str) -> None:
    remote = cloud.connect(cloud.launch(IamInstanceProfile={"Name": profile}))
    assert remote.run(metadata("meta-data/iam/security-credentials/")) == "reader"
    credentials = json.loads(remote.run(metadata("meta-data/iam/security-credentials/reader")))
    assert credentials["Code"] == "Success"
    assert credentials["AccessKeyId"]
    assert credentials["Token"]


def test_an_instance_without_profile_has_no_credentials(cloud: Cloud) -> None:
    remote = cloud.connect(cloud.launch())
    asked = metadata("meta-data/iam/security-credentials/").replace(
        "curl -sf", "curl -s -o /dev/null -w '%{http_code}'", 1
    )
    assert remote.run(asked) == "404"


def test_an_image_keeps_the_disk_and_two_instances_of_it_are_two_machines(cloud: Cloud) -> None:
    builder = cloud.launch()
    remote = cloud.connect(builder)
    remote.run("echo baked | sudo tee /opt/baked; sudo rm /usr/bin/curl; sudo sync")
    cloud.ec2.stop_instances(InstanceIds=[builder["InstanceId"]])
    image_id = cloud.ec2.create_image(InstanceId=builder["InstanceId"], Name="with-a-file")["ImageId"]
    cloud.ec2.terminate_instances(InstanceIds=[builder["InstanceId"]])

    remotes = [cloud.connect(cloud.launch(image_id)) for _ in range(2)]
    for clone in remotes:
        assert clone.run("cat /opt/baked").strip() == "baked"
        assert not clone.succeeds("test -e /usr/bin/curl")
    assert len({clone.run("hostname") for clone in remotes}) == 2
    assert len({clone.host for clone in remotes}) == 2


def test_fresh_instances_have_machine_ids_and_host_keys_of_their_own(cloud: Cloud) -> None:
    remotes = [cloud.connect(cloud.launch()) for _ in range(2)]
    assert len({clone.run("cat /etc/machine-id") for clone in remotes}) == 2
    assert len({clone.run("cat /etc/ssh/ssh_host_ed25519_key.pub") for clone in remotes}) == 2


def test_an_image_of_a_running_instance_reboots_it_unless_told_not_to(cloud: Cloud) -> None:
    instance = cloud.launch()
    boot = "systemctl show --property=UserspaceTimestampMonotonic --value"
    first = cloud.connect(instance).run(boot)
    live = cloud.ec2.create_image(InstanceId=instance["InstanceId"], Name="live", NoReboot=True)["ImageId"]
    wait_until((cloud.layout.images / live).exists, 30)
    assert cloud.connect(instance).run(boot) == first
    cloud.ec2.create_image(InstanceId=instance["InstanceId"], Name="halted")
    wait_until(lambda: _is_up_again(cloud, instance, boot, first), 90)


def test_stop_start_and_reboot_act_on_the_machine_and_keep_its_disk(cloud: Cloud) -> None:
    instance = cloud.launch()
    ids = [instance["InstanceId"]]
    boot = "systemctl show --property=UserspaceTimestampMonotonic --value"
    remote = cloud.connect(instance)
    remote.run("echo kept | sudo tee /var/kept; sudo sync")
    first = remote.run(boot)
    cloud.ec2.stop_instances(InstanceIds=ids)
    wait_until(lambda: "stopped" in [row["state"] for row in machines(cloud.layout)], 60)
    cloud.ec2.start_instances(InstanceIds=ids)
    remote = cloud.connect(instance)
    assert remote.run("cat /var/kept").strip() == "kept"
    second = remote.run(boot)
    assert second != first
    cloud.ec2.reboot_instances(InstanceIds=ids)
    wait_until(lambda: _is_up_again(cloud, instance, boot, second), 90)


def test_a_machine_that_halts_from_inside_is_reported_as_stopped(cloud: Cloud) -> None:
    instance = cloud.launch()
    cloud.connect(instance).run("sudo systemd-run --quiet --no-block sh -c 'sleep 1; systemctl poweroff'")
    wait_until(lambda: cloud.state_of(instance) == "stopped", 60)


def test_terminate_removes_the_machine_and_its_disk(cloud: Cloud) -> None:
    instance = cloud.launch()
    cloud.connect(instance)
    cloud.ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    wait_until(lambda: not (cloud.layout.machines / instance["InstanceId"]).exists(), 60)


def test_a_deregistered_image_frees_its_disk_once_no_instance_needs_it(cloud: Cloud) -> None:
    builder = cloud.launch()
    cloud.connect(builder)
    image_id = cloud.ec2.create_image(InstanceId=builder["InstanceId"], Name="short-lived", NoReboot=True)["ImageId"]
    layer = cloud.layout.images / image_id
    wait_until(layer.exists, 30)
    user = cloud.launch(image_id)
    cloud.connect(user)
    cloud.ec2.deregister_image(ImageId=image_id)
    last_pass = (cloud.layout.run / "machines.json").stat().st_mtime_ns
    wait_until(lambda: (cloud.layout.run / "machines.json").stat().st_mtime_ns > last_pass, 30)
    assert layer.exists()
    cloud.ec2.terminate_instances(InstanceIds=[user["InstanceId"]])
    wait_until(lambda: not layer.exists(), 60)


@pytest.mark.parametrize(("instance_type", "count"), [("g4dn.xlarge", 1), ("g5.12xlarge", 4), ("p5.48xlarge", 8)])
def test_an_instance_has_the_gpus_of_its_type(cloud: Cloud, instance_type: str, count: int) -> None:
    remote = cloud.connect(cloud.launch(instance_type=instance_type))
    program = (
        "import ctypes as c; nvml = c.CDLL('libnvidia-ml.so.1'); count = c.c_uint();"
        "nvml.nvmlInit_v2(); nvml.nvmlDeviceGetCount_v2(c.byref(count)); print(count.value)"
    )
    assert int(remote.run(f'python3 -c "{program}"')) == count


def test_a_type_without_gpu_has_a_driver_that_finds_none(cloud: Cloud) -> None:
    remote = cloud.connect(cloud.launch(instance_type="t3.micro"))
    answer = remote.run("python3 -c \"import ctypes as c; print(c.CDLL('libnvidia-ml.so.1').nvmlInit_v2())\"")
    assert int(answer) == 9  # NVML_ERROR_DRIVER_NOT_LOADED


def test_this_machine_keeps_its_own_metadata_address(cloud: Cloud) -> None:
    assert cloud.facts.endpoint_url.startswith("http://127.0.0.1:")
    addresses = subprocess.run(["ip", "-4", "address"], check=True, capture_output=True, text=True).stdout
    assert "169.254.169.254" not in addresses


def _is_up_again(cloud: Cloud, instance: dict[str, Any], boot: str, before: str) -> bool:
    try:
        return cloud.connect(instance).run(boot) != before
    except ToolError:
        return False  # it was just going down
