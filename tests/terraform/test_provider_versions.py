"""What the configuration asks of the provider, held against its schema: nothing that is deprecated, in 5 or in 6."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hcl2
import pytest

from tests.terraform import terraform_cli
from tests.terraform.provider_6 import EXTRACT

TERRAFORM = Path(__file__).parents[2] / "terraform"
PROVIDER = "registry.terraform.io/hashicorp/aws"

# Terraform's own, which no provider's schema has.
META_ARGUMENTS = {"count", "depends_on", "for_each", "lifecycle", "provider"}

# A resource or data source of the provider and what is asked of it: `data.aws_ami.image.id`, `aws_instance.gpu[*].arn`.
REFERENCE = re.compile(r"\b(data\.)?(aws_[a-z0-9_]+)\.[a-z0-9_]+(?:\[[^\]]*\])?\.([a-z0-9_]+)")


def blocks(source: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every resource and data source as (keyword, kind, body)."""
    parsed = hcl2.loads(source)
    for keyword in ("resource", "data"):
        for block in parsed.get(keyword, []):
            for kind, names in block.items():
                for name, body in names.items():
                    if not name.startswith("__"):
                        yield keyword, kind.strip('"'), body


def arguments(body: Mapping[str, Any]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Arguments and blocks of a body as (name, bodies of the blocks); a dynamic block counts as what it makes."""
    for name, value in body.items():
        if name == "dynamic":
            for dynamic in value:
                for label, made in dynamic.items():
                    if not label.startswith("__"):
                        yield label.strip('"'), made["content"]
        elif not name.startswith("__"):
            is_blocks = isinstance(value, list) and value and all(_is_block(each) for each in value)
            yield name, value if is_blocks else []


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and "__is_block__" in value


def references(source: str) -> set[tuple[str, str, str]]:
    """Every attribute that is read, as (keyword, kind, name); `self` is left out."""
    return {("data" if data else "resource", kind, name) for data, kind, name in REFERENCE.findall(source)}


def objections(schema: Mapping[str, Any], body: Mapping[str, Any], where: str) -> list[str]:
    """What a schema (of `terraform providers schema -json`) says against a body."""
    found = []
    for name, inner in arguments(body):
        path = f"{where}.{name}"
        if name in schema.get("attributes", {}):
            if schema["attributes"][name].get("deprecated"):
                found.append(f"{path} is deprecated")
        elif name in schema.get("block_types", {}):
            block = schema["block_types"][name]["block"]
            if block.get("deprecated"):
                found.append(f"{path} is deprecated")
            found += [objection for each in inner for objection in objections(block, each, path)]
        elif name not in META_ARGUMENTS:
            found.append(f"{path} does not exist")
    return found


@pytest.fixture(scope="session")
def provider_schema(terraform_tree: Path, terraform_environment: Mapping[str, str]) -> Mapping[str, Any]:
    # An example, because it has most: the module's, and its own.
    folder = terraform_tree / "examples/instance-with-alarms"
    terraform_cli.init(terraform_environment, folder, "-backend=false")
    schemas = json.loads(terraform_cli.succeed(terraform_environment, folder, "providers", "schema", "-json"))
    provider: Mapping[str, Any] = schemas["provider_schemas"][PROVIDER]
    return provider


@pytest.fixture(scope="session")
def provider_6() -> Mapping[str, Any]:
    """As `provider_schema`, of the kinds that are used here."""
    extract = json.loads(EXTRACT.read_text(encoding="utf-8"))
    return {
        "resource_schemas": extract["resource"],
        "data_source_schemas": extract["data"],
        "provider": extract["provider"]["aws"],
    }


def against(provider_schema: Mapping[str, Any], source: str) -> list[str]:
    schemas = {"resource": provider_schema["resource_schemas"], "data": provider_schema["data_source_schemas"]}
    found = []
    for keyword, kind, body in blocks(source):
        known = schemas[keyword].get(kind)
        found += objections(known["block"], body, kind) if known else [f"{kind} is not known"]
    for keyword, kind, name in sorted(references(source)):
        block = schemas[keyword].get(kind, {}).get("block", {})
        known = block.get("attributes", {}).get(name) or block.get("block_types", {}).get(name, {}).get("block")
        is_there = name in block.get("attributes", {}) or name in block.get("block_types", {})
        if not is_there or (known or {}).get("deprecated"):
            found.append(f"{kind}.{name} is read and {'is deprecated' if is_there else 'does not exist'}")
    return found + [
        objection
        for provider in hcl2.loads(source).get("provider", [])
        for body in provider.values()
        for objection in objections(provider_schema["provider"]["block"], body, "provider")
    ]


def test_every_argument_exists_and_none_is_deprecated(provider_schema: Mapping[str, Any]) -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(TERRAFORM.glob("*/*/*.tf"))}

    assert {kind for source in sources.values() for _, kind, _ in blocks(source)} >= {
        "aws_ami",
        "aws_cloudwatch_dashboard",
        "aws_cloudwatch_log_group",
        "aws_cloudwatch_metric_alarm",
        "aws_iam_role_policy",
        "aws_instance",
    }
    assert {path.name: found for path, source in sources.items() if (found := against(provider_schema, source))} == {}


@pytest.mark.parametrize(
    ("body", "objection"),
    [
        ("cpu_core_count = 2", "aws_instance.cpu_core_count is deprecated"),
        ("gpus = 4", "aws_instance.gpus does not exist"),
        ("root_block_device {\n size = 8\n}", "aws_instance.root_block_device.size does not exist"),
        (
            'dynamic "metadata_options" {\n for_each = [1]\n content {\n  tokens = 1\n }\n}',
            "aws_instance.metadata_options.tokens does not exist",
        ),
    ],
)
def test_deprecated_or_unknown_argument_is_found(provider_schema: Mapping[str, Any], body: str, objection: str) -> None:
    assert against(provider_schema, f'resource "aws_instance" "gpu" {{\n{body}\n}}\n') == [objection]


def test_deprecated_block_is_found(provider_schema: Mapping[str, Any]) -> None:
    source = 'resource "aws_iam_role" "instance" {\n inline_policy {\n  name = "p"\n }\n}\n'

    assert against(provider_schema, source) == ["aws_iam_role.inline_policy is deprecated"]


def test_every_argument_exists_in_version_6_and_none_is_deprecated_there(provider_6: Mapping[str, Any]) -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in sorted(TERRAFORM.glob("*/*/*.tf"))}

    assert {path.name: found for path, source in sources.items() if (found := against(provider_6, source))} == {}


@pytest.mark.parametrize(
    ("source", "objection"),
    [
        ('resource "aws_instance" "gpu" {\n cpu_core_count = 2\n}', "aws_instance.cpu_core_count does not exist"),
        ('resource "aws_instance" "gpu" {\n network_interface {}\n}', "aws_instance.network_interface is deprecated"),
        ('resource "aws_iam_role" "r" {\n inline_policy {}\n}', "aws_iam_role.inline_policy is deprecated"),
        ('resource "aws_eip" "address" {\n vpc = true\n}', "aws_eip is not known"),
        ("locals {\n region = data.aws_region.current.name\n}", "aws_region.name is read and is deprecated"),
        (
            "locals {\n cores = aws_instance.gpu.cpu_core_count\n}",
            "aws_instance.cpu_core_count is read and does not exist",
        ),
        ('provider "aws" {\n sts_regional = 1\n}', "provider.sts_regional does not exist"),
    ],
)
def test_what_version_6_removed_or_deprecated_is_found(
    provider_6: Mapping[str, Any], source: str, objection: str
) -> None:
    assert against(provider_6, f"{source}\n") == [objection]


def test_both_versions_of_the_provider_are_allowed_everywhere() -> None:
    for path in sorted(TERRAFORM.glob("*/*/versions.tf")):
        assert '">= 5.100, < 7.0"' in path.read_text(encoding="utf-8"), path
