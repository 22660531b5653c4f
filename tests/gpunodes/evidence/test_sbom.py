from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from packageurl import PackageURL

from gpunodes.errors import ToolError
from gpunodes.evidence import sbom
from gpunodes.evidence.sbom import Distribution, Package, Subject
from gpunodes.settings import REPOSITORY

DEBIAN, AMAZON = Distribution("debian", "12"), Distribution("amzn", "2023")
BAKED_AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def subject(distribution: Distribution = DEBIAN, ami_id: str = "ami-1") -> Subject:
    return Subject(ami_id, "gpunodes-run-1", distribution, BAKED_AT)


def validation_error(document: dict[str, Any]) -> object:
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))


def purls(document: dict[str, Any]) -> list[str]:
    return [component["purl"] for component in document["components"] if "purl" in component]


def test_package_list_is_read_sorted_and_without_doubles(tmp_path: Path) -> None:
    path = tmp_path / "packages.tsv"
    path.write_text(
        "deb\tzlib1g\t1:1.2\tamd64\npypi\tgpumon\t0.1.0\tany\ndeb\tbash\t5.2\tamd64\ndeb\tbash\t5.2\tamd64\n"
    )

    assert sbom.read_packages(path) == [
        Package("deb", "bash", "5.2", "amd64"),
        Package("deb", "zlib1g", "1:1.2", "amd64"),
        Package("pypi", "gpumon", "0.1.0", ""),
    ]


@pytest.mark.parametrize(
    ("epoch", "version"), [("(none):", "5.2-1.amzn2023"), ("0:", "5.2-1.amzn2023"), ("2:", "2:5.2-1.amzn2023")]
)
def test_rpm_that_has_no_epoch_is_listed_without(tmp_path: Path, epoch: str, version: str) -> None:
    path = tmp_path / "packages.tsv"
    path.write_text(f"rpm\tbash\t{epoch}5.2-1.amzn2023\t(none)\n")

    assert sbom.read_packages(path) == [Package("rpm", "bash", version, "")]


@pytest.mark.parametrize(
    "content",
    [
        b"deb\tbash\t5.2",
        b"snap\tbash\t5.2\tamd64",
        b"deb\t\t5.2\tamd64",
        b"deb\t/\t5.2\tamd64",
        b"deb\tbash\t\tamd64",
        b"\n",
        b"\xff\t\t\t",
    ],
)
def test_package_list_of_another_form_is_a_tool_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "packages.tsv"
    path.write_bytes(b"deb\tbash\t5.2\tamd64\n" * 2 + content)

    with pytest.raises(ToolError, match=r"packages\.tsv .*; bake again\.$"):
        sbom.read_packages(path)


def test_package_list_that_is_missing_is_a_tool_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"cannot be read .*; bake again"):
        sbom.read_packages(tmp_path / "packages.tsv")


@pytest.mark.parametrize(
    ("package", "distribution", "purl"),
    [
        (
            Package("deb", "openssh-server", "1:9.2p1-2+deb12u7", "amd64"),
            DEBIAN,
            "pkg:deb/debian/openssh-server@1:9.2p1-2%2Bdeb12u7?arch=amd64&distro=debian-12",
        ),
        (
            Package("deb", "tzdata", "2024a", "all"),
            Distribution("ubuntu", "22.04"),
            "pkg:deb/ubuntu/tzdata@2024a?arch=all&distro=ubuntu-22.04",
        ),
        (
            Package("rpm", "bind-libs", "32:9.16-1.amzn2023", "x86_64"),
            AMAZON,
            "pkg:rpm/amzn/bind-libs@9.16-1.amzn2023?arch=x86_64&distro=amzn-2023&epoch=32",
        ),
        (Package("rpm", "bash", "5.2-1", "x86_64"), AMAZON, "pkg:rpm/amzn/bash@5.2-1?arch=x86_64&distro=amzn-2023"),
        (Package("pypi", "Nvidia_ML_Py", "13.615"), DEBIAN, "pkg:pypi/nvidia-ml-py@13.615"),
        (Package("deb", "x", "1", "all"), Distribution("debian", ""), "pkg:deb/debian/x@1?arch=all&distro=debian"),
    ],
)
def test_every_package_has_the_purl_that_scanners_know(package: Package, distribution: Distribution, purl: str) -> None:
    assert purls(sbom.document([package], subject(distribution))) == [purl]


def test_document_is_valid_and_names_image_and_system() -> None:
    document = sbom.document([Package("deb", "bash", "5.2", "amd64")], subject())

    assert validation_error(document) is None
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["timestamp"] == "2030-01-02T03:04:05+00:00"
    assert document["metadata"]["component"]["version"] == "ami-1"
    assert document["components"][0] == {
        "type": "operating-system", "name": "debian", "version": "12", "bom-ref": "os",
    }  # fmt: skip


def test_validator_does_complain_of_a_document_that_is_wrong() -> None:
    document = sbom.document([Package("deb", "bash", "5.2", "amd64")], subject())
    document["components"][0]["type"] = "machine image"

    assert validation_error(document) is not None


def test_same_image_gives_the_same_document_and_another_one_another_serial_number() -> None:
    packages = [Package("deb", "bash", "5.2", "amd64")]

    assert sbom.document(packages, subject()) == sbom.document(packages, subject())
    other = sbom.document(packages, subject(ami_id="ami-2"))
    assert other["serialNumber"] != sbom.document(packages, subject())["serialNumber"]


def test_package_in_two_architectures_is_listed_twice_and_one_that_python_finds_twice_once() -> None:
    packages = [
        Package("deb", "libc6", "2.36", "amd64"),
        Package("deb", "libc6", "2.36", "i386"),
        Package("pypi", "Jinja2", "3.1.6"),
        Package("pypi", "jinja2", "3.1.6"),
    ]

    document = sbom.document(packages, subject())

    assert len(purls(document)) == 3
    assert validation_error(document) is None


def packages(count: int) -> list[Package]:
    return [Package("deb", f"package-{number}", f"1.{number}", "amd64") for number in range(count)]


def test_document_of_many_packages_is_valid() -> None:
    assert validation_error(sbom.document(packages(200), subject())) is None


def test_all_packages_of_a_large_image_are_listed() -> None:
    document = sbom.document(packages(2500), subject())  # as many as a Deep Learning AMI has

    assert len(set(purls(document))) == 2500


words = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=12)
names = words.filter(lambda word: "/" not in word)


@settings(max_examples=60, deadline=None)
@given(st.builds(Package, st.just("deb"), names, words, words))
def test_hostile_names_stay_valid_and_are_read_back_as_they_were(package: Package) -> None:
    document = sbom.document([package], subject())

    assert validation_error(document) is None
    assert [read.name for read in sbom.packages_of(document)] == [package.name]
    assert [read.version for read in sbom.packages_of(document)] == [package.version]
    assert PackageURL.from_string(purls(document)[0]).version == package.version


def test_packages_are_read_back_from_a_document() -> None:
    packages = [
        Package("deb", "openssh-server", "1:9.2p1-2", "amd64"),
        Package("pypi", "Nvidia_ML_Py", "13.615"),
    ]

    assert sbom.packages_of(sbom.document(packages, subject())) == packages


def test_epoch_of_an_rpm_is_read_back() -> None:
    packages = [Package("rpm", "bind-libs", "32:9.16-1.amzn2023", "x86_64")]

    assert sbom.packages_of(sbom.document(packages, subject(AMAZON))) == packages


def test_the_module_alone_does_not_load_the_library() -> None:
    loaded = "sorted({'cyclonedx', 'packageurl', 'jinja2'} & set(sys.modules))"
    code = f"import sys, gpunodes.evidence.evidence; print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
