"""Bakes that must fail: one sentence, the right exit code, nothing left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.offline.conftest import REPOSITORY, Cloud, run_invoke


@pytest.fixture(autouse=True)
def _nothing_left(cloud: Cloud) -> Iterator[None]:
    before = {image["ImageId"] for image in cloud.ec2.describe_images(Owners=["self"])["Images"]}
    yield
    cloud.terminate_all()
    after = cloud.ec2.describe_images(Owners=["self"])["Images"]
    assert [image["Name"] for image in after if image["ImageId"] not in before and "gpunodes-" in image["Name"]] == []
    assert [pair["KeyName"] for pair in cloud.ec2.describe_key_pairs()["KeyPairs"]] == ["tests"]
    assert {group["GroupName"] for group in cloud.ec2.describe_security_groups()["SecurityGroups"]} == {"default"}


@contextmanager
def changed(path: Path, content: bytes | None) -> Iterator[None]:
    """Another content of a file for a while, or none."""
    before = path.read_bytes()
    path.unlink()  # not written through: it may be a link into somebody's cache
    if content is not None:
        path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def error_of(*arguments: str, exit_code: int) -> str:
    result = run_invoke("build-ami", "--offline", *arguments)
    assert result.returncode == exit_code, result.stderr
    assert "Traceback" not in result.stderr
    [line] = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line


def downloads(cloud: Cloud, name: str) -> Path:
    [path] = (cloud.layout.cache / "downloads").rglob(f"debian/amd64/latest/{name}")
    return path


def test_unknown_flavor_names_the_nearest() -> None:
    assert "There is no flavor `debian-21`; did you mean `debian-12`?" in error_of("--flavor", "debian-21", exit_code=2)


def test_a_flavor_that_the_offline_cloud_has_not_is_refused() -> None:
    assert "The offline cloud has flavor debian-12 only" in error_of("--flavor", "al2023", exit_code=2)


def test_amazon_linux_2_is_refused_with_its_end_of_life(cloud: Cloud) -> None:
    instance = cloud.launch()
    image = cloud.ec2.create_image(InstanceId=instance["InstanceId"], Name="amzn2-ami-hvm-2.0-x86_64-gp2")["ImageId"]

    assert "Amazon Linux 2 reached its end of life on 2026-06-30" in error_of("--source-ami", image, exit_code=2)


def test_a_base_without_nvidia_driver_fails_on_the_instance(cloud: Cloud) -> None:
    instance = cloud.launch()
    cloud.connect(instance).run("sudo find / -xdev -name 'libnvidia-ml.so*' -delete && sudo ldconfig && sudo sync")
    image = cloud.ec2.create_image(InstanceId=instance["InstanceId"], Name="no-driver")["ImageId"]

    error = error_of("--source-ami", image, exit_code=3)

    assert "check-base.sh" in error
    assert "libnvidia-ml.so.1" in error


@pytest.mark.usefixtures("cloud")
def test_a_wheel_whose_hash_is_off_is_found_before_anything_is_made() -> None:
    assert run_invoke("plan", "--offline").returncode == 0  # makes the wheelhouse where there is none
    wheels = (REPOSITORY / ".gpunodes" / "cache").glob("wheelhouse-*/boto3-*.whl")
    wheel = max(wheels, key=lambda path: path.parent.stat().st_mtime)
    with changed(wheel, wheel.read_bytes() + b"more"):
        assert f"The wheel {wheel.name} is not the one whose hash" in error_of(exit_code=2)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"no signature", "is not signed by"), (None, "or its signature cannot be downloaded")],
    ids=["bad", "missing"],
)
def test_an_agent_package_without_a_good_signature_is_not_installed(
    cloud: Cloud, content: bytes | None, complaint: str
) -> None:
    with changed(downloads(cloud, "amazon-cloudwatch-agent.deb.sig"), content):
        error = error_of(exit_code=3)

    assert "install-cloudwatch-agent.sh" in error
    assert complaint in error


def test_an_agent_package_that_was_replaced_is_not_installed(cloud: Cloud) -> None:
    package = downloads(cloud, "amazon-cloudwatch-agent.deb")
    with changed(package, package.read_bytes() + b"more"):
        assert "is not signed by" in error_of(exit_code=3)
