from __future__ import annotations

import json
from typing import Any

from tests.terraform import provider_6

LINK = "Docs at Terraform Registry: {{@link https://example.com/aws/6.0.0/docs#{0} Instance#{0}}}."
PLACE = "@cdktn/provider-aws.instance.Instance"


def struct(*properties: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "interface", "properties": list(properties)}


def has(name: str, terraform_name: str = "", of: str = "") -> dict[str, Any]:
    docs = {"docs": {"summary": LINK.format(terraform_name)}} if terraform_name else {}
    kind = {"collection": {"elementtype": {"fqn": of}}} if of else {"primitive": "string"}
    return {"name": name, "type": {"union": {"types": [{"fqn": "cdktn.IResolvable"}, kind]}}, **docs}


TYPES = {
    f"{PLACE}Config": struct(
        has("amiId"), has("fetchPasswordData", "get_password_data"), has("disk", of=f"{PLACE}Disk"), has("count")
    ),
    f"{PLACE}Disk": struct(has("volumeSize", "volume_size")),
    PLACE: {"kind": "class", "properties": [has("tfResourceType"), has("amiId"), has("amiIdInput"), has("arn")]},
}


def test_arguments_blocks_and_attributes_have_the_names_of_terraform() -> None:
    assert provider_6.schema_of(TYPES, "aws_instance", {"arn", "disk"}) == {
        "attributes": {"ami_id": {}, "get_password_data": {}, "count": {}, "arn": {"deprecated": True}},
        "block_types": {"disk": {"block": {"attributes": {"volume_size": {}}, "block_types": {}, "deprecated": True}}},
    }


def test_what_is_deprecated_is_read_from_decorators_and_texts() -> None:
    source = '''
    @_utilities.deprecated("""Use 'region' instead.""")
    def id(self) -> str:
        > The `inline_policy` argument is deprecated. Use another.
    @_utilities.deprecated("""network_interface is deprecated. Use another.""")
    def network_interfaces(self):
    @pulumi.getter
    def region(self) -> str:
    '''

    assert provider_6.deprecated_in(source) == {"id", "inline_policy", "network_interface", "network_interfaces"}


def test_extract_names_what_it_is_made_from() -> None:
    source = json.loads(provider_6.EXTRACT.read_text(encoding="utf-8"))["source"]

    assert source["provider"].startswith("6.")
    assert source["schema_from"].startswith("cdktn-provider-aws ")
    assert source["deprecations_from"].startswith("pulumi-aws 7.")
