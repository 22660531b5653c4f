from __future__ import annotations

import logging
import os
import re
import threading
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from gpunodes.aws import Clients
from gpunodes.bake.template_check import Template
from gpunodes.errors import AwsError, GpunodesError, PreflightError, UsageError
from gpunodes.preflight.checks import checks
from gpunodes.preflight.diagnosis import require
from gpunodes.preflight.finding import Finding
from gpunodes.settings import REPOSITORY, Settings
from gpunodes.target import Target
from tests.gpunodes.fakes import executable, target


@dataclass(frozen=True)
class Base:
    image_id: str = "ami-1"
    name: str = "base"
    architecture: str = "x86_64"


@dataclass(frozen=True)
class Place:
    """A machine with Packer and git, and an account in moto."""

    target: Target
    settings: Settings
    bin: Path

    def look(self, base: Any = None, template: Template | None = None, **settings: Any) -> dict[str, Finding]:
        findings = checks(
            self.target,
            replace(self.settings, **settings),
            Clients(self.target),
            base=base or Base(),
            template=template,
        )
        return {finding.name: finding for finding in findings}

    def at(self, **changes: Any) -> Place:
        return replace(self, target=replace(self.target, **changes))


@pytest.fixture
def place(clients: Clients, moto_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    assert clients.target.endpoint_url == moto_url
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    executable(tmp_path / "bin", "packer", "echo 'Packer v1.6.6'")
    executable(tmp_path / "bin", "git", "echo 'git version 2.39.5'")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/bin{os.pathsep}/usr/bin")
    return Place(
        target(moto_url, ssh_interface="private_ip", ssh_source_cidr="198.51.100.0/24", tolerates_missing_calls=True),
        Settings(work_folder=tmp_path / "work"),
        tmp_path / "bin",
    )


def raised(findings: dict[str, Finding]) -> GpunodesError:
    with pytest.raises(GpunodesError) as caught:
        require(list(findings.values()))
    return caught.value


def outcomes(findings: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.outcome for name, finding in findings.items()}


def test_all_is_well_and_what_the_emulator_lacks_is_said(place: Place) -> None:
    findings = place.look()

    assert outcomes(findings) == {
        "Packer": "passed",
        "way in": "passed",
        "git": "passed",
        "disk": "passed",
        "credentials": "passed",
        "region": "passed",
        "base image": "passed",
        "subnet": "passed",
        "instance type": "passed",
        "architecture": "passed",
        "availability": "passed",
        "vCPU quota": "not_answered",
    }
    assert findings["vCPU quota"].text == "The API of this target cannot say it; on AWS it can."
    assert findings["credentials"].evidence["account"] == "123456789012"
    assert findings["instance type"].text == "g4dn.xlarge has 1 T4 and 4 vCPUs."
    require(list(findings.values()))


def test_way_in_without_a_network_is_a_finding_too(place: Place) -> None:
    findings = place.at(ssh_source_cidr="").look()

    assert findings["way in"].outcome == "failed"
    assert "ssh_source_cidr" in str(raised(findings))
    assert place.at(ssh_source_cidr="", ssh_interface="public_ip").look()["way in"].text == (
        "SSH will be open to your own address only."
    )


def test_call_that_is_missing_fails_on_aws(place: Place) -> None:
    error = raised(place.at(tolerates_missing_calls=False).look())

    assert str(error).startswith("AWS refused while asking for quota L-DB2E81BA (NoSuchResourceException: ")
    assert error.exit_code == 3


def test_nothing_is_made_or_changed(place: Place) -> None:
    place.look()

    assert not place.settings.work_folder.exists()


def test_checks_wait_side_by_side(place: Place) -> None:
    type_was_asked = threading.Event()

    class Listening(Clients):
        @cached_property
        def ec2(self) -> Any:
            made = super().ec2
            made.meta.events.register("before-call.ec2.DescribeInstanceTypes", lambda **_rest: type_was_asked.set())
            return made

    def resolve() -> Base:
        assert type_was_asked.wait(10), "the base image was looked up before the instance type, not beside it"
        return Base()

    findings = checks(place.target, place.settings, Listening(place.target), base=resolve)

    assert "failed" not in {finding.outcome for finding in findings}


@pytest.mark.parametrize(
    ("changes", "name", "kind", "sentence"),
    [
        (
            {"region": "us-nowhere-1"},
            "region",
            UsageError,
            "There is no region `us-nowhere-1`; did you mean `us-west-1`?",
        ),
        (
            {"region": "ap-east-1"},
            "region",
            PreflightError,
            (
                "Your account has not opted in to the region ap-east-1; enable it in the AWS account settings, or set"
                " another region in gpunodes.toml."
            ),
        ),
        (
            {"region": "us east"},
            "credentials",
            UsageError,
            "`us east` is no region; name one such as us-east-1.",
        ),
        (
            {"subnet_id": "subnet-1"},
            "subnet",
            UsageError,
            "There is no subnet subnet-1 in this region; correct subnet_id in gpunodes.toml.",
        ),
        (
            {"ssh_interface": "session_manager"},
            "Session Manager plugin",
            PreflightError,
            (
                "The session-manager-plugin is not installed; install it as AWS documents, or set ssh_interface to"
                " public_ip or private_ip in gpunodes.toml."
            ),
        ),
    ],
)
def test_place_that_cannot_be_baked_in_is_one_sentence(
    place: Place, changes: dict[str, str], name: str, kind: type[GpunodesError], sentence: str
) -> None:
    findings = place.at(**changes).look()

    error = raised(findings)
    assert findings[name].outcome == "failed"
    assert str(error) == sentence
    assert type(error) is kind
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("instance_type", "name", "sentence"),
    [
        (
            "g4dn.xlrge",
            "instance type",
            "There is no instance type `g4dn.xlrge` in this region; did you mean `g4dn.xlarge`?",
        ),
        (
            "zzz",
            "instance type",
            ("There is no instance type `zzz` in this region; name a type with NVIDIA GPUs, like g4dn.xlarge."),
        ),
        (
            "m5.large",
            "instance type",
            "m5.large has no GPU; name a type with NVIDIA GPUs, like g4dn.xlarge.",
        ),
        (
            "g5g.xlarge",
            "architecture",
            (
                "Base image ami-1 is for x86_64 and g5g.xlarge runs arm64; choose a base image or a"
                " build_instance_type that fits."
            ),
        ),
    ],
)
def test_instance_type_that_cannot_bake_is_one_sentence(
    place: Place, instance_type: str, name: str, sentence: str
) -> None:
    findings = place.look(build_instance_type=instance_type)

    error = raised(findings)
    assert findings[name].outcome == "failed"
    assert str(error) == sentence
    assert isinstance(error, UsageError)
    assert error.exit_code == 2


def test_arm64_base_for_an_x86_type_is_one_sentence(place: Place) -> None:
    assert str(raised(place.look(Base(architecture="arm64")))) == (
        "Base image ami-1 is for arm64 and g4dn.xlarge runs x86_64; choose a base image or a build_instance_type that"
        " fits."
    )


def test_base_that_cannot_be_resolved_is_a_finding_like_any_other(place: Place) -> None:
    def resolve() -> Base:
        raise UsageError("There is no image ami-2 in this region; name another.")

    findings = place.look(resolve)

    assert findings["base image"].outcome == "failed"
    assert findings["architecture"].text == "Not asked, since `base image` failed."
    assert str(raised(findings)) == "There is no image ami-2 in this region; name another."


def test_every_failure_is_found_and_counted(place: Place) -> None:
    (place.bin / "packer").unlink()
    executable(place.bin, "packer", "echo 'Packer v1.4.0'")

    findings = place.at(subnet_id="subnet-1").look(build_instance_type="m5.large")

    assert [name for name, each in findings.items() if each.outcome == "failed"] == [
        "Packer",
        "subnet",
        "instance type",
    ]
    assert str(raised(findings)) == (
        "Packer 1.4.0 is too old; run scripts/bootstrap, or install 1.6.6 or newer (2 more: see `invoke doctor`)."
    )


def test_checks_behind_a_failure_are_not_asked(place: Place) -> None:
    findings = place.at(region="ap-east-1").look()

    assert {name for name, each in findings.items() if each.text == "Not asked, since `region` failed."} == {
        "base image",
        "subnet",
        "instance type",
        "architecture",
        "availability",
        "vCPU quota",
    }


def test_missing_credentials_are_one_sentence(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    error = raised(place.at(credentials={}).look())

    assert str(error) == "No AWS credentials were found; set AWS_PROFILE or log in, or run with --offline."
    assert error.exit_code == 2


def test_api_that_does_not_answer_fails_even_where_missing_calls_are_tolerated(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpunodes.aws._CONFIG", None)  # five tries take long

    error = raised(place.at(endpoint_url="http://127.0.0.1:1").look())

    assert isinstance(error, AwsError)
    assert error.exit_code == 3
    assert str(error).startswith("The API did not answer while asking who you are")


def test_subnet_and_its_zone_are_looked_up(place: Place, clients: Clients) -> None:
    subnet = clients.ec2.describe_subnets()["Subnets"][0]

    findings = place.at(subnet_id=subnet["SubnetId"]).look()

    assert findings["subnet"].evidence["zone"] == subnet["AvailabilityZone"]
    assert findings["availability"].text == f"g4dn.xlarge is offered in {subnet['AvailabilityZone']}."


def test_account_without_a_default_subnet_must_name_one(place: Place, clients: Clients) -> None:
    for subnet in clients.ec2.describe_subnets()["Subnets"]:
        clients.ec2.delete_subnet(SubnetId=subnet["SubnetId"])

    assert place.look()["subnet"].text == "This region has no default subnet; set subnet_id in gpunodes.toml."


def test_template_is_checked_with_the_packer_that_was_found(place: Place, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    findings = place.look(template=Template(tmp_path / "templates", {"x": "y"}, tmp_path))

    assert findings["template"].outcome == "failed"
    assert findings["template"].text.startswith("The template does not declare the variable `x`")


def test_actions_that_the_preflight_calls_are_those_in_the_documentation(place: Place) -> None:
    calls = set[str]()

    class Listening(Clients):
        def client(self, service: str) -> Any:
            made = super().client(service)
            made.meta.events.register(
                "before-call.*.*", lambda model, **_rest: calls.add(f"{service}:{model.name}".replace("service-q", "q"))
            )
            return made

    checks(place.target, place.settings, Listening(place.target), base=Base())

    table = (REPOSITORY / "docs" / "doctor.md").read_text()
    documented = set(re.findall(r"^\| `(\w+:\w+)` \| preflight", table, re.MULTILINE))
    asked = {call.replace("quotas:", "servicequotas:") for call in calls}
    # Where it is needed, not here: the type is one that exists, and offline the quota's use is not counted.
    assert asked | {"ec2:DescribeInstances"} == documented
