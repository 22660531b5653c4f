"""What version 6 of the provider knows of the kinds that terraform/ uses, from packages that are made of its schema.

`provider_6.json` has it in the shape of `terraform providers schema -json`, since a test cannot install a second
version of the provider where there is no registry. To make it again:

    pip download --no-deps cdktn-provider-aws==25.8.1 pulumi-aws==7.51.1, and unpack both
    python -m tests.terraform.provider_6 FOLDER_OF_cdktn_provider_aws FOLDER_OF_pulumi_aws

cdktn-provider-aws is generated from the schema alone and has every argument, block and attribute, but not what is
deprecated. pulumi-aws, whose version 7 is of provider 6, has that: as decorators, and in its texts where it undoes
them.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

EXTRACT = Path(__file__).with_name("provider_6.json")
# Kinds by where pulumi-aws has them; data sources are those of a file that begins with `get_`.
KINDS = {
    "aws_cloudwatch_dashboard": "cloudwatch/dashboard",
    "aws_cloudwatch_event_rule": "cloudwatch/event_rule",
    "aws_cloudwatch_event_target": "cloudwatch/event_target",
    "aws_cloudwatch_log_group": "cloudwatch/log_group",
    "aws_cloudwatch_metric_alarm": "cloudwatch/metric_alarm",
    "aws_codebuild_project": "codebuild/project",
    "aws_iam_instance_profile": "iam/instance_profile",
    "aws_iam_openid_connect_provider": "iam/open_id_connect_provider",
    "aws_iam_role": "iam/role",
    "aws_iam_role_policy": "iam/role_policy",
    "aws_iam_role_policy_attachment": "iam/role_policy_attachment",
    "aws_instance": "ec2/instance",
    "aws_kms_key": "kms/key",
    "aws_scheduler_schedule": "scheduler/schedule",
    "aws_security_group": "ec2/security_group",
    "aws_sns_topic": "sns/topic",
    "aws_sns_topic_policy": "sns/topic_policy",
    "aws_sns_topic_subscription": "sns/topic_subscription",
    "data.aws_ami": "ec2/get_ami",
    "data.aws_caller_identity": "get_caller_identity",
    "data.aws_ec2_instance_type": "ec2/get_instance_type",
    "data.aws_partition": "get_partition",
    "data.aws_region": "get_region",
    "data.aws_subnet": "ec2/get_subnet",
    "provider": "provider",
}
_DEPRECATED = (
    re.compile(r'@_utilities\.deprecated\("""[^"]*"""\)\s+def (\w+)'),
    re.compile(r"The `(\w+)` argument is deprecated"),
    re.compile(r'deprecated\("""(\w+) is deprecated'),
)


def schema_of(types: Mapping[str, Any], kind: str, deprecated: set[str]) -> dict[str, Any]:
    """The block of a kind.

    Args:
        types: of the assembly (`.jsii`) of cdktn-provider-aws.
        kind: such as `aws_instance`, `data.aws_ami` or `provider`.
        deprecated: names of what is, within this kind.
    """
    words = kind.replace("data.", "data_").removeprefix("aws_").split("_")
    name = "AwsProvider" if kind == "provider" else "".join(word.title() for word in words)
    module = "provider" if kind == "provider" else name[0].lower() + name[1:]
    place = f"@cdktn/provider-aws.{module}.{name}"
    block = _block(types, f"{place}Config", deprecated)
    known = {*block["attributes"], *block["block_types"]}
    inner = {_snake(each) for each in _own(types, place)} - known - {"tf_resource_type"}
    block["attributes"] |= {each: _flags(each, deprecated) for each in inner if not each.endswith("_input")}
    return block


def _block(types: Mapping[str, Any], place: str, deprecated: set[str]) -> dict[str, Any]:
    attributes, blocks = {}, {}
    for each in types[place].get("properties", []):
        name = _terraform_name(each)
        struct = next((fqn for fqn in _fqns(each["type"]) if types.get(fqn, {}).get("kind") == "interface"), None)
        if struct:
            # What is deprecated within a block goes by names of its own; none of those that are used here has any.
            blocks[name] = {"block": _block(types, struct, set()) | _flags(name, deprecated)}
        else:
            attributes[name] = _flags(name, deprecated)
    return {"attributes": attributes, "block_types": blocks}


def _own(types: Mapping[str, Any], place: str) -> list[str]:
    return [each["name"] for each in types[place].get("properties", [])]


def _flags(name: str, deprecated: set[str]) -> dict[str, bool]:
    return {"deprecated": True} if name in deprecated else {}


def _fqns(node: Any) -> Iterator[str]:
    """Names of all types in a property's type: of the thing itself, of a list, of a union."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from [value] if key == "fqn" else _fqns(value)
    elif isinstance(node, list):
        for value in node:
            yield from _fqns(value)


def _terraform_name(each: Mapping[str, Any]) -> str:
    """As Terraform spells it, which the link to its documentation ends with."""
    found = re.search(r"#(\w+)[ }]", " ".join(each.get("docs", {}).values()))
    return found.group(1) if found else _snake(each["name"])


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def deprecated_in(source: str) -> set[str]:
    """What a module of pulumi-aws calls deprecated, by Terraform's names: Pulumi's, and singulars of its plurals."""
    found = {name for pattern in _DEPRECATED for name in pattern.findall(source)}
    return found | {name.removesuffix("s") for name in found}


def main(cdktn: Path, pulumi: Path) -> None:
    """Write the extract."""
    [archive] = (cdktn / "_jsii").glob("*.tgz")
    with tarfile.open(archive) as opened:
        assembly = json.load(opened.extractfile("package/.jsii") or sys.stdin)
        readme = (opened.extractfile("package/README.md") or sys.stdin).read()
    provider = re.search(r"provider version (\d+\.\d+\.\d+)", str(readme))
    schema: dict[str, Any] = {"resource": {}, "data": {}, "provider": {}}
    for kind, module in KINDS.items():
        block = schema_of(assembly["types"], kind, deprecated_in((pulumi / f"{module}.py").read_text()))
        keyword = "data" if kind.startswith("data.") else "provider" if kind == "provider" else "resource"
        schema[keyword]["aws" if kind == "provider" else kind.removeprefix("data.")] = {"block": block}
    source = {
        "provider": provider.group(1) if provider else "",
        "schema_from": f"cdktn-provider-aws {assembly['version']}",
        "deprecations_from": f"pulumi-aws {json.loads((pulumi / 'pulumi-plugin.json').read_text())['version']}",
    }
    EXTRACT.write_text(json.dumps({"source": source, **schema}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
