from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpunodes.errors import PreflightError
from gpunodes.recipe import recipe
from gpunodes.recipe.pins import Pins
from gpunodes.recipe.wheelhouse import Wheelhouse

TEMPLATE = """# A comment.
variable "region" {
  type    = string
  default = "us-east-1"
}

source "amazon-ebs" "gpu" {
  region = var.region
  tags   = merge(var.tags, { Name = "a" })
}
"""
SAME_TEMPLATE = """variable "region" {
  // Another comment.
  type = string

  default = "us-east-1" # here, too
}
/* And
   one more. */
source "amazon-ebs" "gpu" {
      region = var.region
      tags = merge(var.tags, { Name = "a" })
}
"""
WHEELS = Wheelhouse(Path("/nowhere"), "digest-1", "1.0.0")
PINS = Pins("1.0", "A" * 40, {"ubuntu-22.04": "0" * 64})


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, content in {
        "packer/gpu.pkr.hcl": TEMPLATE,
        "packer/rootfs/etc/gpumon.toml": "period = 60\n",
        "provision/install.sh": "echo install\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def fingerprint(checkout: Path, **other: Any) -> str:
    inputs = {
        "source_ami": "ami-1",
        "flavor": "ubuntu-22.04",
        "pins": PINS,
        "wheelhouse": WHEELS,
        "root_volume_size_gib": 75,
    }
    folders = {"templates": checkout / "packer", "provisioning": checkout / "provision"}
    return recipe.read(**inputs | other, **folders).fingerprint  # type: ignore[arg-type]


def test_equal_inputs_have_equal_fingerprints(checkout: Path) -> None:
    assert fingerprint(checkout) == fingerprint(checkout)
    assert len(fingerprint(checkout)) == 64


def test_comments_and_layout_of_the_template_do_not_count(checkout: Path) -> None:
    before = fingerprint(checkout)
    (checkout / "packer" / "gpu.pkr.hcl").write_text(SAME_TEMPLATE)

    assert fingerprint(checkout) == before


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("packer/gpu.pkr.hcl", TEMPLATE.replace("us-east-1", "us-east-2")),
        ("packer/gpu.pkr.hcl", TEMPLATE.replace('"a"', '"b"')),
        ("packer/more.pkr.hcl", 'variable "more" {}\n'),
        ("packer/rootfs/etc/gpumon.toml", "period = 30\n"),
        ("packer/rootfs/etc/another.toml", ""),
        ("provision/install.sh", "echo install more\n"),
        ("provision/lib/log.sh", ""),
    ],
)
def test_each_file_counts(checkout: Path, file: str, content: str) -> None:
    before = fingerprint(checkout)
    (checkout / file).parent.mkdir(exist_ok=True)
    (checkout / file).write_text(content)

    assert fingerprint(checkout) != before


def test_file_that_moved_counts(checkout: Path) -> None:
    before = fingerprint(checkout)
    (checkout / "provision" / "install.sh").rename(checkout / "provision" / "install-it.sh")

    assert fingerprint(checkout) != before


@pytest.mark.parametrize(
    "other",
    [
        {"source_ami": "ami-2"},
        {"flavor": "al2023"},
        {"wheelhouse": replace(WHEELS, digest="digest-2")},
        {"pins": replace(PINS, agent_key_fingerprint="B" * 40)},
        {"pins": replace(PINS, agent_version="2.0")},
        {"pins": replace(PINS, agent_sha256={"ubuntu-22.04": "1" * 64})},
        {"root_volume_size_gib": 100},
    ],
)
def test_each_input_counts(checkout: Path, other: dict[str, Any]) -> None:
    assert fingerprint(checkout, **other) != fingerprint(checkout)


def test_pins_of_another_flavor_do_not_count(checkout: Path) -> None:
    other = replace(PINS, agent_sha256={**PINS.agent_sha256, "al2023": "1" * 64})

    assert fingerprint(checkout, pins=other) == fingerprint(checkout)


@pytest.mark.parametrize(("content", "place"), [(b"variable {{\n", "gpu.pkr.hcl line 1"), (b"\xff", "gpu.pkr.hcl")])
def test_template_that_is_no_hcl_is_one_sentence(checkout: Path, content: bytes, place: str) -> None:
    (checkout / "packer" / "gpu.pkr.hcl").write_bytes(content)

    with pytest.raises(PreflightError) as caught:
        fingerprint(checkout)

    assert str(caught.value) == f"The template is no valid HCL ({place}); correct it."


def test_file_that_cannot_be_read_is_named(checkout: Path) -> None:
    (checkout / "packer" / "folder.pkr.hcl").mkdir()

    with pytest.raises(PreflightError, match=r"folder\.pkr\.hcl cannot be read"):
        fingerprint(checkout)


def test_template_of_this_checkout_can_be_read() -> None:
    read = recipe.read("ami-1", "debian-12", PINS, WHEELS, 8)

    assert len({read.template_digest, read.files_digest, recipe.template_digest(Path("/nowhere"))}) == 3
