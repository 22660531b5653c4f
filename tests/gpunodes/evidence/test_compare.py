from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunodes.aws import Clients
from gpunodes.errors import UsageError
from gpunodes.evidence import compare, evidence, explain_report
from gpunodes.evidence.compare import Change, Comparison, PackageChange
from gpunodes.evidence.image_record import RecipeRecord, Wheel
from gpunodes.evidence.sbom import Package
from gpunodes.settings import Settings
from tests.gpunodes import image_records
from tests.gpunodes.image_records import AMI, OTHER_AMI, PACKAGES, RECORD


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(work_folder=tmp_path)


def deb(name: str, version: str) -> Package:
    return Package("deb", name, version, "amd64")


def test_two_bakes_of_the_same_are_identical(clients: Clients, settings: Settings) -> None:
    first = image_records.sealed_with_evidence(clients, settings, "one")
    second = image_records.sealed_with_evidence(
        clients, settings, "two", run_id="run-2", baked_at="2030-02-01T00:00:00+00:00", notes=()
    )

    comparison = compare.compare(clients, settings, first.ami_id, second.ami_id)

    assert comparison.is_identical
    assert comparison.summary == "Identical: same base, recipe, versions, pins, wheels and packages."
    assert comparison.notes == ()


def test_everything_that_differs_is_named(clients: Clients, settings: Settings) -> None:
    first = image_records.sealed_with_evidence(clients, settings, "one")
    second = image_records.sealed_with_evidence(
        clients,
        settings,
        "two",
        base=replace(RECORD.base, image_id="ami-0bbbbbbbbbbbbbbbb"),
        recipe=RecipeRecord(
            "e" * 64, {"source_ami": "ami-0bbbbbbbbbbbbbbbb", "root_volume_size_gib": 8}, "d" * 40, True
        ),
        pins={"agent_version": "1.2.4"},
        versions=dict(RECORD.versions) | {"dcgm_version": "4.2"},
        wheels=(Wheel("gpumon-0.2.0-py3-none-any.whl", "c" * 64),),
        packages=[deb("libc6", "2.36-9+deb12u14"), deb("curl", "7.88"), Package("pypi", "gpumon", "0.2.0")],
    )

    comparison = compare.compare(clients, settings, first.ami_id, second.ami_id)

    assert not comparison.is_identical
    assert comparison.summary == "They differ in base, recipe, versions, pins, wheels and packages."
    assert comparison.base == (Change("image_id", "ami-0aaaaaaaaaaaaaaaa", "ami-0bbbbbbbbbbbbbbbb"),)
    assert comparison.recipe == (Change("source_ami", "ami-0aaaaaaaaaaaaaaaa", "ami-0bbbbbbbbbbbbbbbb"),)
    assert comparison.versions == (Change("dcgm_version", None, "4.2"),)
    assert comparison.pins == (
        Change("agent_sha256.debian-12", "a" * 64, None),
        Change("agent_version", "1.2.3", "1.2.4"),
    )
    assert comparison.wheels == (
        Change(
            "gpumon",
            "gpumon-0.1.0-py3-none-any.whl (sha256 bbbbbbbbbbbb)",
            "gpumon-0.2.0-py3-none-any.whl (sha256 cccccccccccc)",
        ),
    )
    assert comparison.checkout == (
        Change("changes not committed", "no", "yes"),
        Change("git commit", "c" * 40, "d" * 40),
    )
    assert comparison.packages.added == (deb("curl", "7.88"),)
    assert comparison.packages.removed == (deb("openssh-server", "1:9.2p1-2+deb12u7"),)
    assert [(change.name, change.direction) for change in comparison.packages.changed] == [
        ("libc6", "newer"),
        ("gpumon", "newer"),
    ]


def test_same_recipe_with_other_packages_is_said_to_be_that(clients: Clients, settings: Settings) -> None:
    first = image_records.sealed_with_evidence(clients, settings, "one")
    second = image_records.sealed_with_evidence(clients, settings, "two", packages=[*PACKAGES, deb("curl", "7.88")])

    summary = compare.compare(clients, settings, first.ami_id, second.ami_id).summary

    assert summary == "The same recipe gave different packages: what it takes from elsewhere has changed since."


@pytest.mark.parametrize(
    ("manager", "before", "after", "direction"),
    [
        ("deb", "1.2-3", "1.10-1", "newer"),
        ("deb", "1.0", "1.0~rc1", "older"),
        ("deb", "2.0", "1:1.0", "newer"),
        ("deb", "1.0-1", "1.0-1+b1", "newer"),
        ("rpm", "5.2-1.amzn2023", "5.10-1.amzn2023", "newer"),
        ("rpm", "1:1.0-1", "2.0-1", "older"),
        ("rpm", "1.0-1", "1.0~rc1-1", "older"),
        ("pypi", "1.9", "1.10", "newer"),
        ("pypi", "1.0", "1.0rc1", "older"),
        ("pypi", "1.0", "1.0.0", None),
        ("pypi", "1.0", "not a version", None),
        ("rpm", "x:1", "y:2", None),
        ("snap", "1", "2", None),
    ],
)
def test_direction_follows_the_managers_own_order(manager: str, before: str, after: str, direction: str | None) -> None:
    assert compare.direction(manager, before, after) == direction


versions = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)  # what a line of packages.tsv can hold


@given(st.sampled_from(["deb", "rpm", "pypi"]), versions, versions)
def test_no_version_however_strange_stops_a_comparison(manager: str, before: str, after: str) -> None:
    assert compare.direction(manager, before, after) in {"newer", "older", None}


def test_kernel_in_several_versions_is_added_and_removed() -> None:
    before = [deb("kernel", "6.1"), deb("kernel", "6.2")]
    after = [deb("kernel", "6.2"), deb("kernel", "6.3")]

    changes = compare.package_changes(before, after)

    assert (changes.removed, changes.added, changes.changed) == ((deb("kernel", "6.1"),), (deb("kernel", "6.3"),), ())


def test_package_that_got_a_second_version_is_added() -> None:
    changes = compare.package_changes([deb("kernel", "6.1")], [deb("kernel", "6.1"), deb("kernel", "6.2")])

    assert (changes.added, changes.removed, changes.changed) == ((deb("kernel", "6.2"),), (), ())


def test_same_name_of_another_manager_or_architecture_is_another_package() -> None:
    before = [Package("deb", "six", "1", "all"), Package("deb", "libc6", "1", "amd64")]
    after = [Package("pypi", "six", "1"), Package("deb", "libc6", "1", "i386")]

    changes = compare.package_changes(before, after)

    assert (len(changes.added), len(changes.removed), changes.changed) == (2, 2, ())


@pytest.mark.parametrize("which", [0, 1])
def test_evidence_that_is_not_here_is_an_error_that_says_where_to_copy_it(
    clients: Clients, settings: Settings, which: int
) -> None:
    names = [image_records.sealed_with_evidence(clients, settings, name).ami_id for name in ("one", "two")]
    shutil.rmtree(evidence.image_folder(settings, names[which]))

    with pytest.raises(UsageError) as caught:
        compare.compare(clients, settings, *names)

    assert str(caught.value) == (
        f"The evidence of {names[which]} is not on this machine; copy .gpunodes/evidence/{names[which]} from the one"
        f" that baked it to {evidence.image_folder(settings, names[which])}."
    )


def test_package_list_that_is_damaged_is_an_error(clients: Clients, settings: Settings) -> None:
    names = [image_records.sealed_with_evidence(clients, settings, name).ami_id for name in ("one", "two")]
    (evidence.image_folder(settings, names[1]) / "sbom.cdx.json").write_text("{}")

    with pytest.raises(UsageError, match=r"is not the file whose digest image\.json names; copy it"):
        compare.compare(clients, settings, *names)


def test_unknown_image_is_an_error(clients: Clients, settings: Settings) -> None:
    first = image_records.sealed_with_evidence(clients, settings, "one")

    with pytest.raises(UsageError, match=f"There is no image {OTHER_AMI} in this region"):
        compare.compare(clients, settings, first.ami_id, OTHER_AMI)


def test_one_image_named_twice_is_an_error(clients: Clients, settings: Settings) -> None:
    with pytest.raises(UsageError, match=f"{AMI} was named twice; name two images"):
        compare.compare(clients, settings, AMI, AMI)


def test_images_that_are_gone_are_compared_by_what_is_kept(clients: Clients, settings: Settings) -> None:
    image_records.write(settings)
    image_records.write(settings, ami_id=OTHER_AMI)

    comparison = compare.compare(clients, settings, AMI, OTHER_AMI)

    assert comparison.is_identical
    assert comparison.notes[0] == f"{AMI} is no longer in this region, so nothing vouches for its evidence."


def test_evidence_that_is_not_what_was_sealed_is_noted(clients: Clients, settings: Settings) -> None:
    names = [image_records.sealed_with_evidence(clients, settings, name).ami_id for name in ("one", "two")]
    path = evidence.image_folder(settings, names[1]) / "image.json"
    path.write_text(path.read_text().replace("580.105.08", "999.0"))

    comparison = compare.compare(clients, settings, *names)

    assert comparison.notes == (f"{names[1]}: image.json is not the file that the image's tag names.",)
    assert comparison.versions == (Change("nvidia_driver_version", "580.105.08", "999.0"),)


def different(packages: int = 1) -> Comparison:
    changed = [PackageChange("deb", f"lib{number}", "amd64", "1.0", "1.1", "newer") for number in range(packages)]
    return Comparison(
        first=AMI,
        second=OTHER_AMI,
        is_identical=False,
        summary="They differ in recipe and packages.",
        base=(),
        recipe=(Change("template_digest", "a", "b"),),
        versions=(Change("dcgm_version", None, "4.2"),),
        pins=(),
        wheels=(),
        packages=compare.PackageChanges((deb("curl", "[7]"),), (deb("wget", "1.21"),), tuple(changed)),
        checkout=(),
        notes=("a note",),
    )


def printed(comparison: Comparison, capsys: pytest.CaptureFixture[str]) -> list[str]:
    explain_report.print_comparison(comparison)
    output = capsys.readouterr()
    assert output.out == ""
    return output.err.splitlines()[1:]


def test_people_read_the_summary_and_then_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(different(), capsys)

    assert lines[0] == f"different  {AMI} → {OTHER_AMI}"
    assert lines[1] == "  They differ in recipe and packages."
    assert [" ".join(line.split()) for line in lines[2:]] == [
        "recipe", "template digest a → b", "versions", "DCGM none → 4.2", "packages changed (1)", "↑ lib0 1.0 → 1.1",
        "packages added (1)", "+ curl [7]", "packages removed (1)", "- wget 1.21", "note: a note",
    ]  # fmt: skip


def test_long_lists_are_cut_and_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(different(packages=1042), capsys)

    assert "  packages changed (1,042)" in lines
    assert "    and 1,002 more; --json has all of them" in lines


def test_people_read_that_nothing_differs(
    clients: Clients, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [image_records.sealed_with_evidence(clients, settings, name).ami_id for name in ("one", "two")]

    lines = printed(compare.compare(clients, settings, *names), capsys)

    assert lines == [
        f"identical  {names[0]} → {names[1]}",
        "  Identical: same base, recipe, versions, pins, wheels and packages.",
    ]


def test_document_has_every_package(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(json.dumps(explain_report.comparison_document(different(packages=100))))

    assert document["result"] == "different"
    assert len(document["packages"]["changed"]) == 100
    assert document["packages"]["added"][0]["name"] == "curl"
    assert capsys.readouterr().err == ""
