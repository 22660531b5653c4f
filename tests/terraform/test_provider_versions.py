"""What the configuration asks of the provider, held against its schema: nothing that is deprecated, in 5 or in 6."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hcl2
import pytest

from tests.terraform import terraform_cli

TERRAFORM = Path(__file__).parents[2] / "terraform"
PROVIDER = "registry.terraform.io/hashicorp/aws"

# Terraform's own, which no provider's schema has.
META_ARGUMENTS = {"count", "depends_on", "for_each", "lifecycle", "provider"}

# What version 6 removed or deprecated of the kinds that are used here or near, by its upgrade guide.
NOT_FOR_6 = {
    "aws_instance": {"cpu_core_count", "cpu_threads_per_core", "network_interface"},
    "aws_region": {"name"},
    "aws_iam_role": {"inline_policy", "managed_policy_arns"},
}


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


def against(provider_schema: Mapping[str, Any], source: str) -> list[str]:
    schemas = {"resource": provider_schema["resource_schemas"], "data": provider_schema["data_source_schemas"]}
    return [
        objection
        for keyword, kind, body in blocks(source)
        for objection in objections(schemas[keyword][kind]["block"], body, kind)
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


def test_nothing_is_used_that_version_6_removed_or_deprecated() -> None:
    sources = [path.read_text(encoding="utf-8") for path in sorted(TERRAFORM.glob("*/*/*.tf"))]

    used = {(kind, name) for source in sources for _, kind, body in blocks(source) for name, _ in arguments(body)}

    assert used & {(kind, name) for kind, names in NOT_FOR_6.items() for name in names} == set()
    assert not any("data.aws_region." in source for source in sources)


def test_both_versions_of_the_provider_are_allowed_everywhere() -> None:
    for path in sorted(TERRAFORM.glob("*/*/versions.tf")):
        assert '">= 5.100, < 7.0"' in path.read_text(encoding="utf-8"), path
