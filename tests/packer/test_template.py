"""The template is one that Packer 1.6.6 and current Packer both accept."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "packer"
ATTRIBUTES = ROOT.parent / "shared/data/packer-amazon-ebs-attributes-1.8.2.txt"
AGENT_SCHEMA = ROOT.parent / "shared/data/cloudwatch-agent-schema.json"
AGENT_CONFIGURATION = TEMPLATE / "rootfs/opt/aws/amazon-cloudwatch-agent/etc/gpunodes.json"
NEWER_THAN_1_6_6 = {"metadata_options", "imds_support", "deprecate_at", "skip_create_ami", "deregistration_protection"}


def parsed(path: Path) -> dict[str, Any]:
    with path.open() as file:
        content: dict[str, Any] = hcl2.load(file)
    return content


def unquoted(text: str) -> str:
    return text.strip('"')


def source_attributes() -> set[str]:
    [source] = parsed(TEMPLATE / "gpu-ami.pkr.hcl")["source"]
    [named] = source.values()
    [body] = named.values()
    return {name for name in body if not name.startswith("__")}


def test_uses_only_attributes_of_the_current_amazon_plugin() -> None:
    if not ATTRIBUTES.is_file():
        pytest.skip(f"the list of the plugin's attributes is not at {ATTRIBUTES}")

    assert "launch_block_device_mappings" in source_attributes()
    assert source_attributes() - set(ATTRIBUTES.read_text().split()) == set()


def test_uses_nothing_that_packer_1_6_6_lacks() -> None:
    template = (TEMPLATE / "gpu-ami.pkr.hcl").read_text() + (TEMPLATE / "variables.pkr.hcl").read_text()

    assert source_attributes() & NEWER_THAN_1_6_6 == set()
    assert "required_plugins" not in template
    assert "data " not in [line[:5] for line in template.splitlines()]


def test_plugins_are_pinned_in_a_file_beside_the_template() -> None:
    [packer] = parsed(TEMPLATE / "required-plugins/plugins.pkr.hcl")["packer"]

    assert "github.com/hashicorp/amazon" in str(packer["required_plugins"])


def test_every_variable_is_described_and_used() -> None:
    declared = [entry for block in parsed(TEMPLATE / "variables.pkr.hcl")["variable"] for entry in block.items()]
    template = (TEMPLATE / "gpu-ami.pkr.hcl").read_text()

    assert [name for name, body in declared if not body.get("description")] == []
    assert [name for name, _ in declared if f"var.{unquoted(name)}" not in template] == []


def provisioners() -> list[tuple[str, dict[str, Any]]]:
    [build] = parsed(TEMPLATE / "gpu-ami.pkr.hcl")["build"]
    return [(unquoted(kind), body) for block in build["provisioner"] for kind, body in block.items()]


def test_facts_are_downloaded_file_by_file_before_cleanup_removes_them() -> None:
    places = [
        (unquoted(body["source"]), unquoted(body["destination"]))
        for kind, body in provisioners()
        if kind == "file" and unquoted(body.get("direction", "")) == "download"
    ]
    last_kind, last = provisioners()[-1]

    assert [source.rpartition("/")[2] for source, _ in places] == ["facts.json", "packages.tsv"]
    assert all(target == f"${{local.facts_dir}}/{source.rpartition('/')[2]}" for source, target in places)
    assert last_kind == "shell"
    assert [unquoted(script).rpartition("/")[2] for script in last["scripts"]] == ["cleanup.sh", "verify-clean.sh"]


def test_scripts_run_in_their_order_and_get_every_value_that_they_ask_for() -> None:
    body = next(body for kind, body in provisioners() if kind == "shell" and "environment_vars" in body)
    given = {unquoted(pair).split("=")[0] for pair in body["environment_vars"]}
    started = [word for line in body["inline"] for word in re.findall(r"provision/([a-z-]+\.sh)", line)]
    asked = {
        name
        for script in started
        for name in re.findall(r"\$\{([A-Z_]+):\?", (ROOT / "scripts/provision" / script).read_text())
    }

    assert (started[0], started[-1]) == ("check-base.sh", "collect-facts.sh")
    assert started.index("settle-dlami.sh") < started.index("install-gpumon.sh")  # its unit may have our unit's name
    assert asked - given == set()
    assert {"AGENT_VERSION", "AGENT_SHA256"} <= given


def test_agent_configuration_fits_the_schema_of_the_real_agent() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    if not AGENT_SCHEMA.is_file():
        pytest.skip(f"the agent's schema is not at {AGENT_SCHEMA}")
    validator = jsonschema.Draft4Validator(json.loads(AGENT_SCHEMA.read_text()))
    configuration = json.loads(AGENT_CONFIGURATION.read_text())

    assert [error.message for error in validator.iter_errors(configuration)] == []
    configuration["metrics"]["metrics_collected"]["mem"]["measurement"] = "mem_used_percent"
    assert [error.message for error in validator.iter_errors(configuration)] != []


def test_agent_configuration_publishes_what_the_checks_read_back() -> None:
    metrics = json.loads(AGENT_CONFIGURATION.read_text())["metrics"]

    assert metrics["namespace"] == "CWAgent"
    assert metrics["append_dimensions"] == {"InstanceId": "${aws:InstanceId}"}
    assert set(metrics["metrics_collected"]) == {"mem", "swap", "disk"}


@pytest.fixture
def variables() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as name:
        key = Path(name, "key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        yield {
            "region": "us-east-1",
            "source_ami": "ami-0123456789abcdef0",
            "instance_type": "g4dn.xlarge",
            "ami_name": "gpu-test",
            "run_id": "run-1",
            "ssh_username": "debian",
            "ssh_private_key_file": str(key),
            "ssh_keypair_name": "gpunodes-run-1",
            "temporary_security_group_source_cidrs": '["198.51.100.1/32"]',
            "wheelhouse_dir": name,
            "gpumon_version": "0.1.0",
            "manifest_path": f"{name}/manifest.json",
            "ec2_endpoint": "http://127.0.0.1:9",
            "skip_region_validation": "true",
            "skip_metadata_api_check": "true",
            "skip_credential_validation": "true",
        }


def validate(variables: dict[str, str]) -> tuple[int, str]:
    packer = shutil.which("packer")
    if packer is None:
        pytest.skip("packer is not installed")
    version = subprocess.run([packer, "version"], capture_output=True, text=True, check=True).stdout
    if "v1.6." not in version:
        pytest.skip(f"{version.splitlines()[0]} needs `packer init` with a network first")
    settings = [word for name, value in variables.items() for word in ("-var", f"{name}={value}")]
    done = subprocess.run(
        [packer, "validate", *settings, "packer"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": variables["wheelhouse_dir"], "CHECKPOINT_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_packer_validates_the_template(variables: dict[str, str]) -> None:
    assert validate(variables) == (0, "")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("source_ami", "latest", "must be the id of an image"),
        ("temporary_security_group_source_cidrs", "[]", "must name at least one network"),
        ("agent_key_fingerprint", "3B789C72", "must be the full one"),
        ("run_id", "", "must not be empty"),
        ("package_family", "yum", "must be apt or dnf"),
        ("agent_sha256", "abc", "must have 64 hexadecimal digits"),
    ],
)
def test_packer_refuses_bad_values(variables: dict[str, str], name: str, value: str, message: str) -> None:
    status, output = validate({**variables, name: value})

    assert status == 1
    assert message in " ".join(output.split())
